"""How fast images come out of random views, against how fast a student can learn from them.

    python benchmarks/image_loading.py          # random pixels; no data, no network

All on one thread of one process, as a training on the CPU has them: batches from ``Views``, cropped, mirrored and
normalised; the same by hand from one array in memory, with one offset for a whole batch, which is the least that can be
done; and a student's training steps on a batch that lies ready. See README.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median

import numpy as np
import torch
from common import autocast, describe_machine, print_table, ratio_cells
from step_overhead import new_vgg, random_images
from torch import Tensor
from torch.nn import functional as F
from torch.optim import SGD
from torch.utils.data import DataLoader
from transformers import HfArgumentParser

from hf_distill import VGGConfig
from hf_distill.image_views import Views
from hf_distill.recipe import channels_last_collator


@dataclass
class Options:
    """What can be chosen on the command line."""

    images: int = field(default=5000, metadata={"help": "Images a round, for loading."})
    batch_size: int = field(default=128, metadata={"help": "Images a batch."})
    steps: int = field(default=5, metadata={"help": "Training steps a round."})
    rounds: int = field(default=7, metadata={"help": "Rounds; each gives one ratio."})


def from_views(views: Views, options: Options) -> int:
    """Load each image once, in random order."""
    loader = DataLoader(views, options.batch_size, shuffle=True, collate_fn=channels_last_collator)
    return sum(len(batch["labels"]) for batch in loader)


def by_hand(pixels: Tensor, options: Options) -> int:
    """The same with what is drawn once for a batch."""
    loaded = 0
    for rows in torch.randperm(len(pixels)).split(options.batch_size):
        padded = F.pad(pixels[rows], [4] * 4)
        down, right = torch.randint(9, (2,)).tolist()
        crop = padded[:, :, down : down + 32, right : right + 32]
        batch = (crop.flip(3) if torch.rand(()) < 0.5 else crop).float().div_(255).sub_(0.5).div_(0.25)
        loaded += len(batch.contiguous(memory_format=torch.channels_last))
    return loaded


def train(student: torch.nn.Module, options: Options) -> int:
    """Training steps without loading anything."""
    images = torch.randn(options.batch_size, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (options.batch_size,))
    optimizer = SGD(student.parameters(), lr=1e-3, momentum=0.9, nesterov=True)
    for _ in range(options.steps):
        with autocast(torch.device("cpu"), bf16=True):
            loss = student(pixel_values=images, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return options.steps * options.batch_size


def measure(work: dict[str, Callable[[], int]], rounds: int) -> Iterator[list[str]]:
    """Images a second of each, and how many times the last one's."""
    rates: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name in list(work)[:: 1 if number % 2 else -1]:
            started = time.perf_counter()
            count = work[name]()
            if number:  # round 0 warms up
                rates[name].append(count / (time.perf_counter() - started))
    last = list(rates.values())[-1]
    for name, found in rates.items():
        yield [name, f"{median(found):.0f}", *ratio_cells(found, last, digits=1)]


def main() -> None:
    """Measure and print."""
    (options,) = HfArgumentParser(Options, description=__doc__).parse_args_into_dataclasses()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(describe_machine(torch.device("cpu"), ["datasets"]))
    views = random_images(options.images)
    pixels = torch.from_numpy(
        np.frombuffer(b"".join(views.rows["pixel_values"]), np.uint8).reshape(-1, 3, 32, 32).copy()
    )
    student = new_vgg(VGGConfig.vgg8(num_labels=10)).train()
    work = {
        "`Views` through a `DataLoader`": lambda: from_views(views, options),
        "by hand, one draw a batch": lambda: by_hand(pixels, options),
        "training VGG-8 in bf16, nothing loaded": lambda: train(student, options),
    }
    print()
    print_table(["", "images/s", "ratio to training", "middle half"], measure(work, options.rounds))


if __name__ == "__main__":
    main()
