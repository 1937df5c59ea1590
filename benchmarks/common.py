"""What the benchmarks share: naming the machine, telling the time, and comparing students."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from statistics import median, quantiles

import torch
from torch import Tensor, nn
from transformers.utils import logging

from hf_distill.environment import machine, version_of

Batch = Mapping[str, Tensor]


def pick_device(use_cpu: bool) -> torch.device:
    """The GPU that ``Trainer`` would take, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() and not use_cpu else "cpu")


def clock(device: torch.device) -> float:
    """Seconds on a clock that starts anywhere, read once the device has finished what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def autocast(device: torch.device, bf16: bool) -> nullcontext[None] | torch.autocast:
    """What ``bf16=True`` puts around a model's forward pass; nothing for float32."""
    return torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()


def to_device(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    """The same batch on a device."""
    return {name: tensor.to(device) for name, tensor in batch.items()}


def without_dropout(model: nn.Module) -> nn.Module:
    """Switch dropout off, so that two ways to train the model can be compared number by number."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def predict(model: nn.Module, batches: Iterable[Batch], device: torch.device) -> Tensor:
    """A model's float32 logits for all batches, on the CPU."""
    model.to(device).eval()
    with torch.inference_mode():
        logits = [model(**without_labels(to_device(batch, device))).logits.float().cpu() for batch in batches]
    return torch.cat(logits)


def without_labels(batch: Batch) -> dict[str, Tensor]:
    """What the models read; they are never asked for a loss of their own here."""
    return {name: tensor for name, tensor in batch.items() if name != "labels"}


def begin(threads: int | None, use_cpu: bool) -> torch.device:
    """Take the threads that were chosen, keep the library's warnings out of the tables, and pick the device."""
    if threads:
        torch.set_num_threads(threads)
    logging.set_verbosity_error()
    return pick_device(use_cpu)


def describe_machine(device: torch.device, packages: Sequence[str]) -> str:
    """Processor, threads, and the versions of what is measured, for the head of a report."""
    found = machine(device)
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
    threads = f"{found['threads']} of {found['cores']} threads, {load}"
    versions = [f"Python {platform.python_version()}"]
    versions += [f"{name} {version_of(name) or '(not installed)'}" for name in ("torch", "transformers", *packages)]
    return "\n".join([", ".join(filter(None, [found["gpu"], found["cpu"], threads])), ", ".join(versions)])


def ratio_cells(times: Sequence[float], others: Sequence[float], digits: int = 3) -> list[str]:
    """One to the other, round by round: the median of these ratios, and their quartiles."""
    ratios = [one / two for one, two in zip(times, others, strict=True)]
    low, _, high = quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
    return [f"{median(ratios):.{digits}f}", f"{low:.{digits}f} to {high:.{digits}f}"]


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table, the first column aligned to the left and the others to the right."""
    table = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    table.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    for row in table:
        print("|", " | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]), "|")
