"""Sharing out the time of a step among what is done in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from common import clock
from step_overhead import WARM_UP_STEPS
from transformers import TrainerCallback

from hf_distill import DistillationTrainer

REST = "the rest: callbacks, log, schedule, progress bar"
EXCHANGE = "buffers and counts of the other process"
AFTERWARDS = "after the epoch"


class Parts(TrainerCallback):
    """Shares out the time of a training among the functions that it is told of; each second goes to the innermost."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.inside = [REST]
        self.seconds: Counter[str] = Counter()
        self.steps = 0
        self.since = clock(device)

    def charge(self) -> None:
        """Give the time since the last call to the part that is running."""
        now = clock(self.device)
        self.seconds[self.inside[-1]] += now - self.since
        self.since = now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What is done in here belongs to this part."""
        self.charge()
        self.inside.append(name)
        try:
            yield
        finally:
            self.charge()
            self.inside.pop()

    def watch(self, owner: Any, method: str, name: str) -> None:
        """Count all calls of a method as this part."""
        function: Callable[..., Any] = getattr(owner, method)

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        setattr(owner, method, timed)

    def watch_step(self, trainer: DistillationTrainer) -> None:
        """Share out each step of this trainer, which has one teacher."""
        self.trainer = trainer
        trainer.add_callback(self)
        self.watch(trainer, "get_batch_samples", "batch: rows, collator")
        self.watch(trainer.teachers["teacher"], "collate", "batch: hashing, looking answers up")
        self.watch(trainer, "ask", "teacher")
        self.watch(trainer, "compute_loss", "losses")
        self.watch(trainer.accelerator, "backward", "student, backward")
        self.watch(trainer.accelerator, "reduce", EXCHANGE)
        self.watch(trainer, "_clip_grad_norm", "clipping")

    def a_step(self) -> dict[str, float]:
        """Milliseconds of each part, in the mean over the steps after the first few."""
        steps = self.steps - WARM_UP_STEPS
        return {name: 1e3 * seconds / steps for name, seconds in self.seconds.items() if name != AFTERWARDS}

    def on_train_begin(self, *args: Any, model: Any, optimizer: Any, **kwargs: Any) -> None:
        if (wrapper := self.trainer.model_wrapped) is not model:  # which shares gradients in the backward pass
            self.watch(wrapper, "forward", EXCHANGE)
            self.watch(wrapper, "zero_grad", "optimizer")
        self.watch(model, "forward", "student, forward")
        self.watch(model, "zero_grad", "optimizer")
        self.watch(optimizer, "step", "optimizer")

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.charge()
        self.steps += 1
        if self.steps == WARM_UP_STEPS:
            self.seconds.clear()

    def on_epoch_end(self, *args: Any, **kwargs: Any) -> None:
        self.charge()
        self.inside.append(AFTERWARDS)


def part_rows(found: dict[str, dict[str, float]]) -> Iterator[list[str]]:
    """Each part's milliseconds and share in each of some trainings, the largest first."""
    totals = [sum(parts.values()) for parts in found.values()]
    names = sorted(set().union(*found.values()), key=lambda name: -max(parts.get(name, 0) for parts in found.values()))
    for name in names:
        cells = [name]
        for parts, total in zip(found.values(), totals, strict=True):
            cells += [f"{parts[name]:.2f}", f"{parts[name] / total:.1%}"] if name in parts else ["", ""]
        yield cells
    yield ["a step", *(cell for total in totals for cell in (f"{total:.2f}", ""))]
