"""What an objective may look at: the outputs of the models on one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class ModelView:
    """What one model showed on a batch.

    Args:
        logits: ``(B, C)``, unnormalised scores, in the student's class order.
        features: What the modules that an objective asked for put out, under their paths.
    """

    logits: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class StepView:
    """Everything an :class:`~hf_distill.objective.Objective` may look at in one step.

    Args:
        student: The student's outputs, with gradient.
        teachers: Each teacher's outputs under its name, without gradient. Empty without a teacher.
        labels: ``(B,)`` class indices, or ``(B, C)`` / ``(B,)`` floats for multi-label and regression;
            ``-100`` means that the example has no label. ``None`` when the batch has no labels at all.
        progress: How much of the training lies behind, from 0.0 to 1.0.
        label_loss: The task's own loss, ``(logits, labels) -> (B,)``: what the student's head would compute.
        mask: ``(B, L)``, 1 where a token of the student's input counts; ``None`` where there are no tokens.
        example_ids: ``(B,)``, which examples of the training set these are; ``None`` where no term asks for it.
        examples: How many there are in the training set; ``None`` likewise.
        autocast: The precision that the student ran in, for modules that learn beside it. Losses compute outside of it.
    """

    student: ModelView
    teachers: Mapping[str, ModelView] = field(default_factory=dict)
    labels: Tensor | None = None
    progress: float = 0.0
    label_loss: Callable[[Tensor, Tensor], Tensor] | None = None
    mask: Tensor | None = None
    example_ids: Tensor | None = None
    examples: int | None = None
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext
