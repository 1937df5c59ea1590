"""A teacher that is the student's own past: the moving average of its weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hf_distill.processes import share_buffers
from hf_distill.student import bare_copy
from hf_distill.teachers.model import ModelTeacher


class MovingAverageTeacher(ModelTeacher):
    r"""The exponential moving average of the student's weights, which it follows step by step (mean teacher).

    .. math:: \theta'_t = \alpha_t \theta'_{t-1} + (1 - \alpha_t) \theta_t, \quad
        \alpha_t = \min\left(\alpha, \frac{t}{t + 1}\right)

    with the student's weights :math:`\theta_t` after optimizer step t. At first it is the mean of all weights so far,
    the start included. It needs no other model, and no labels: what it asks of the student is to be as sure without
    dropout, or of the weights of a moment ago, as it is now. As it knows nothing at the start, let its weight rise:
    ``LogitTerm(SoftTargetLoss(), weight=warmup(0.2, 1.0))``.

    It answers in evaluation mode, so dropout is the student's alone; buffers, as the statistics of batch normalisation,
    are the student's of that step. It is saved in checkpoints, comes back with a resume or the best checkpoint, and
    begins anew with every trial of a search. ``trainer.teachers["teacher"].model`` is a model like any other, frozen as
    teachers are; compare it with the student before you take it.

    Args:
        decay: How much of itself it keeps in a step, :math:`\alpha`, in [0, 1). 0.999 remembers about 1,000 steps; a
            short training wants less.

    Raises:
        ValueError: ``decay`` is not in [0, 1); or the student's weights are float16 or bfloat16, in which a small step
            is rounded away.

    Source:
        Tarvainen, Valpola 2017, arXiv:1703.01780. There the average reads an augmented image of its own, in training
        mode; here both see the same input.

    Example:
        >>> from hf_distill import VGGConfig, VGGForImageClassification
        >>> student = VGGForImageClassification(VGGConfig.vgg8(num_labels=2))
        >>> weight, teacher = student.classifier[-1].weight, MovingAverageTeacher(decay=0.9)
        >>> _ = nn.init.zeros_(weight)
        >>> teacher.begin(student)
        >>> for step in (1, 2):
        ...     _ = nn.init.constant_(weight, step)
        ...     teacher.follow(student, step)
        >>> teacher.model.classifier[-1].weight[0, 0]  # the mean of 0, 1 and 2
        tensor(1.)
    """

    follows_student = True

    def __init__(self, decay: float = 0.999) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must be at least 0 and below 1, got {decay}.")
        self.decay = decay
        self.name = self._title = f"the student's moving average, decay {decay}"

    def begin(self, student: Any) -> None:
        """Start from the student as it is.

        Raises:
            ValueError: its weights have too few digits to be averaged.
        """
        learning = [weight for weight in student.parameters() if weight.requires_grad]
        if coarse := {weight.dtype for weight in learning if weight.dtype.itemsize < 4}:
            raise ValueError(
                f"The student's weights are {', '.join(sorted(map(str, coarse)))}, in which an average does not move: "
                "load it with dtype=torch.float32, and let bf16=True or fp16=True run it in few digits."
            )
        super().__init__(bare_copy(student))
        self.name = self._title

    def follow(self, student: nn.Module, step: int) -> None:
        decay = min(self.decay, step / (step + 1))
        with torch.no_grad():
            for ours, theirs in zip(self.model.parameters(), student.parameters(), strict=True):
                if theirs.requires_grad:  # the others do not move
                    ours.lerp_(theirs, 1 - decay)
            for kept, given in zip(self.model.buffers(), student.buffers(), strict=True):
                kept.copy_(given)
        share_buffers(self.model)  # each process has statistics of its own batch
