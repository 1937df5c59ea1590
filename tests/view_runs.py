"""Which pixels a student saw in each epoch, in every way that a data loader is fed.

Run as a script in two processes, it stores what two processes saw together, for ``test_epochs.py``.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tiny
import torch
import two_processes
from datasets import Dataset
from torch import Tensor
from transformers import TrainerCallback

from hf_distill import DistillationTrainer
from hf_distill.augmentation import Augmentation, ImageTransform
from hf_distill.image_views import Views

ROWS = 32
WAYS: dict[str, dict[str, Any]] = {
    "random order": {},
    "one after the other": {"train_sampling_strategy": "sequential"},
    "dispatched": {"accelerator_config": {"dispatch_batches": True}},
    "workers": {"dataloader_num_workers": 1},
    "workers that stay": {"dataloader_num_workers": 1, "dataloader_persistent_workers": True},
    "resumed": {"save_strategy": "steps", "save_steps": 6},
    "dispatched, resumed": {
        "save_strategy": "steps", "save_steps": 6, "accelerator_config": {"dispatch_batches": True}
    },
}  # fmt: skip
IN_TWO_PROCESSES = [way for way in WAYS if "workers" not in way and way != "one after the other"]


def views(count: int | None = None, **augmentation: Any) -> Views:
    pixels = np.random.default_rng(0).integers(0, 256, (ROWS, 3, 8, 8), dtype=np.uint8)
    rows = Dataset.from_dict({"pixel_values": [p.tobytes() for p in pixels], "labels": [i % 3 for i in range(ROWS)]})
    halves = (0.5, 0.5, 0.5)
    chosen = Augmentation(**{"padding": 2, **augmentation})
    return Views(rows, ImageTransform((3, 8, 8), halves, halves, chosen, classes=3), seed=0, count=count)


class Kill(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


def train(
    folder: Path,
    data: Views,
    kill_at: int | None = None,
    resume: bool = False,
    seen: list[Tensor] | None = None,
    **settings: Any,
) -> DistillationTrainer:
    """Three epochs of four steps of eight images on all processes together, in random order."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    student = tiny.vgg(batch_norm=True, problem_type="single_label_classification")
    if seen is not None:
        student.vgg.register_forward_pre_hook(
            lambda vgg, given: seen.append(given[0].detach().clone()) if vgg.training else None
        )
    ours = {"num_train_epochs": 3, "per_device_train_batch_size": 8 // processes, "train_sampling_strategy": "random"}
    trainer = DistillationTrainer(
        student,
        tiny.arguments(folder, **{**ours, **settings}),
        teacher_model=tiny.vgg(seed=1),
        train_dataset=data,
        callbacks=[] if kill_at is None else [Kill(kill_at)],
    )
    with contextlib.suppress(KeyboardInterrupt):
        trainer.train(resume_from_checkpoint=resume)
    return trainer


def seen_by_epoch(folder: Path, way: str) -> dict[str, Tensor]:
    """What was seen in each epoch; of a resumed training only the steps after the sixth of twelve count."""
    seen: list[Tensor] = []
    resumed = "resumed" in way
    if resumed:
        train(folder, views(), kill_at=7, **WAYS[way])  # the last checkpoint is in the middle of the second epoch
    train(folder, views(), resume=resumed, seen=seen, **WAYS[way])
    steps = range(6, 12) if resumed else range(12)
    assert len(seen) == len(steps), (way, [len(images) for images in seen])
    found: dict[str, Tensor] = {}
    for epoch in range(3):
        images = [image for step, image in zip(steps, seen, strict=True) if step // 4 == epoch]
        if images:
            found[str(epoch)] = torch.cat(images)
    return found


if __name__ == "__main__":
    everything: dict[str, Tensor] = {}
    for number, name in enumerate(IN_TWO_PROCESSES):
        found = seen_by_epoch(Path(sys.argv[1]).parent / str(number), name)
        for epoch, images in found.items():
            others = [torch.empty_like(images) for _ in range(2)]
            torch.distributed.all_gather(others, images)
            everything[f"{name}/{epoch}"] = torch.cat(others)
    two_processes.store(everything, sys.argv[1])
