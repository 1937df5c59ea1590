"""Losses added up: the components between two log entries, and the loss of a whole evaluation."""

from __future__ import annotations

import logging
import math

import torch
from accelerate import Accelerator
from torch import Tensor

logger = logging.getLogger(__name__)


class ComponentLog:
    """Adds components up on the device; nothing is copied to the host before they are logged."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._sums: Tensor | None = None
        self._first_step = 0

    def add(self, names: tuple[str, ...], values: Tensor, step: int) -> None:
        """Add the components of one micro-batch.

        Args:
            names: What they are called.
            values: ``(len(names),)``, scaled like the loss.
            step: The optimizer step that they belong to.
        """
        if self._sums is None:
            self._names, self._sums, self._first_step = names, torch.zeros_like(values), step
        self._sums += values

    def drain(self, accelerator: Accelerator, step: int) -> dict[str, float]:
        """The mean of each component over the optimizer steps since the last call, over all processes.

        A component that is not finite is named in a warning.
        """
        if self._sums is None:
            return {}
        steps = max(step - self._first_step, 1)
        means = (accelerator.reduce(self._sums, reduction="mean") / steps).tolist()
        self._sums = None
        components = dict(zip(self._names, means, strict=True))
        for name, value in components.items():
            if not math.isfinite(value):
                logger.warning("The loss component %r is %s at step %d.", name, value, step)
        return components


class EvaluationLoss:
    """The loss of an evaluation set: against the labels where there are any, else against the teachers.

    Batches are added up instead of averaged, so that neither their size nor how the labels lie in them matters.

    Args:
        device: Where the batches are.
    """

    def __init__(self, device: torch.device) -> None:
        self._labelled = torch.zeros(2, device=device)
        self._taught = torch.zeros(2, device=device)

    def add_labelled(self, loss: Tensor, examples: Tensor) -> Tensor:
        """Add the sum of the task loss over some labelled examples; returns their mean."""
        self._labelled += torch.stack([loss.float(), examples.float()]).detach()
        return loss / examples.clamp_min(1)

    def add_taught(self, loss: Tensor, examples: Tensor) -> Tensor:
        """Add the sum of the loss against the teachers over some examples without labels; returns their mean."""
        self._taught += torch.stack([loss.float(), examples.float()]).detach()
        return loss / examples.clamp_min(1)

    def mean(self, accelerator: Accelerator) -> float | None:
        """The mean over all processes; ``None`` where there were neither labels nor teachers."""
        totals = accelerator.reduce(torch.stack([self._labelled, self._taught]), reduction="sum").tolist()
        return next((loss / examples for loss, examples in totals if examples), None)


def one_per_example(name: str, part: Tensor, size: int) -> Tensor:
    """A term's part as ``(B,)``; a scalar is a mean over the batch, and so what every example has.

    Raises:
        ValueError: the term's loss returned something else.
    """
    if part.shape not in ((), (size,)):
        raise ValueError(
            f"The loss of term {name!r} returned shape {tuple(part.shape)} for a batch of {size}. Return one value per "
            f"example, ({size},), or a scalar for the whole batch: average over classes, tokens or pixels."
        )
    return part.expand(size)
