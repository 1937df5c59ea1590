"""Losses added up: the components between two log entries, and the loss of a whole evaluation."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import torch
from accelerate import Accelerator
from torch import Tensor

from hf_distill.labels import has_labels
from hf_distill.losses import NO_LABEL
from hf_distill.objective import LabelTerm, Objective
from hf_distill.views import StepView

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

    def add(self, step: StepView, objective: Objective, counts: Tensor | None = None) -> Tensor:
        """Add a batch to the whole.

        Args:
            step: What the models showed on it; the teachers matter only where no example has a label.
            objective: What there is to say then; its terms that look inside the models are left out.
            counts: ``(B,)``, 0 for an example that is repeated and must not count.

        Returns:
            The mean over this batch; 0 where there is neither a label nor a teacher.
        """
        logits, labels = step.student.logits, step.labels
        counts = logits.new_ones(len(logits), dtype=torch.float32) if counts is None else counts
        if labels is not None and has_labels(labels):
            labelled = torch.ne(labels, NO_LABEL).reshape(len(labels), -1).any(dim=-1)
            return _added(self._labelled, LabelTerm().compute(step) * counts, labelled * counts)
        parts = objective(replace(step, progress=1.0), features=False) if step.teachers else {}
        if not parts:
            return logits.new_zeros((), dtype=torch.float32)
        rows = torch.stack([one_per_example(name, part, len(logits)) for name, part in parts.items()])
        return _added(self._taught, rows.sum(dim=0) * counts, counts)

    def mean(self, accelerator: Accelerator) -> float | None:
        """The mean over all processes; ``None`` where there were neither labels nor teachers."""
        totals = accelerator.reduce(torch.stack([self._labelled, self._taught]), reduction="sum").tolist()
        return next((loss / examples for loss, examples in totals if examples), None)


def _added(total: Tensor, losses: Tensor, counts: Tensor) -> Tensor:
    """The mean of some losses, after their sum and their number were added to a total."""
    loss, examples = losses.sum(), counts.sum()
    total += torch.stack([loss.float(), examples.float()]).detach()
    return loss / examples.clamp_min(1)


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
