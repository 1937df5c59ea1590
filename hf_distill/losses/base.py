"""The one interface that every loss between a student and a teacher has, and what several of them share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from inspect import signature
from numbers import Integral
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from hf_distill.schedules import Schedule, as_schedule


class PairLoss(nn.Module, ABC):
    """A distance from the student's output to the teacher's.

    Subclasses compute in float32, whatever comes in, and send no gradient to the teacher.

    Attributes:
        needs_example_ids: Whether a :class:`~hf_distill.FeatureTerm` must also pass ``example_ids``, ``(B,)``: which
            examples of the training set these are, from 0. For losses that keep something about each.

    Shape:
        - student, teacher: tensors of one shape, ``(B, C)`` for losses on logits.
        - mask: ``(B, L)``, 1 where a token counts; for losses on sequences only.
        - labels: ``(B,)``, for losses that treat the true class apart.
        - output: ``(B,)``, one value per example; a scalar where the loss is a relation across the batch. A loss with
          parts of both kinds adds the relation to every example, so that the mean is right.
    """

    needs_example_ids: ClassVar[bool] = False

    @abstractmethod
    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        *,
        mask: Tensor | None = None,
        labels: Tensor | None = None,
        progress: float = 0.0,
    ) -> Tensor:
        """Return the loss of each example, ``(B,)``; see the class for the formula.

        Args:
            student: What the student showed.
            teacher: What the teacher showed, of the same shape.
            mask: Which positions count; ``None`` means all.
            labels: The true classes, where known.
            progress: Share of the training done, in [0, 1]; moves a scheduled temperature.
        """

    def extra_repr(self) -> str:
        """The arguments that it was made with, as far as it keeps them under their names."""
        return ", ".join(
            f"{name}={getattr(self, name)}" for name in signature(type(self)).parameters if hasattr(self, name)
        )


class LogitLoss(PairLoss):
    """A distance between logits alone. Subclasses implement :meth:`compare`, and get them checked and in float32.

    Attributes:
        temperature: What both are softened with, where the loss has one.
    """

    temperature: Schedule | None = None

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        *,
        mask: Tensor | None = None,
        labels: Tensor | None = None,
        progress: float = 0.0,
    ) -> Tensor:
        student, teacher = as_float32_pair(student, teacher)
        return self.compare(student, teacher, 1.0 if self.temperature is None else self.temperature(progress))

    @abstractmethod
    def compare(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Return the loss of each example, ``(B,)``; see the class for the formula.

        Args:
            student: The student's logits, in float32 or float64.
            teacher: The teacher's, detached, likewise.
            temperature: At this point of the training; 1 without one.
        """


def as_float32_pair(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Check that two logit tensors fit, and return both in float32 (float64 stays), the teacher detached.

    Raises:
        ValueError: the shapes differ, or are not ``(B, C)``.
    """
    if student.shape != teacher.shape or student.dim() != 2:
        raise ValueError(
            f"Student and teacher logits must both be (batch, classes); got {tuple(student.shape)} and "
            f"{tuple(teacher.shape)}. Give both models the same number of labels, or align them by name."
        )
    return at_least_float32(student), at_least_float32(teacher.detach())


def at_least_float32(tensor: Tensor) -> Tensor:
    """float16 and bfloat16 become float32; float32 and float64 stay."""
    return tensor if tensor.dtype.itemsize >= 4 and tensor.is_floating_point() else tensor.float()


def check_several_classes(logits: Tensor) -> None:
    """Refuse a single output, over which a softmax is always 1 and so teaches nothing.

    Raises:
        ValueError: ``logits`` has fewer than two columns.
    """
    if logits.shape[-1] < 2:
        raise ValueError(
            f"A loss that compares classes needs at least 2 of them; got logits of shape {tuple(logits.shape)}. For a "
            "single output use a regression loss (it is a number) or a multi-label loss (it means yes or no)."
        )


def softened_log_probabilities(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-softmax of both logits over ``temperature``, in float32: ``(log_q, log_p)``, student first.

    Raises:
        ValueError: the shapes differ, are not ``(B, C)``, or there is only one class.
    """
    student, teacher = as_float32_pair(student, teacher)
    check_several_classes(student)
    return F.log_softmax(student / temperature, dim=-1), F.log_softmax(teacher / temperature, dim=-1)


def kl_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) of each row, in nats, from log-probabilities: a sum over classes, never a mean."""
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=-1)


def yes_or_no_kl_divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(σ(teacher) ‖ σ(student)) of each cell as a yes-or-no question, in nats, from logits."""
    yes = teacher.sigmoid() * (F.logsigmoid(teacher) - F.logsigmoid(student))
    no = (-teacher).sigmoid() * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
    return yes + no


def check_weights(**weights: float) -> None:
    """Refuse a weight of a loss's part that is negative or not finite.

    Raises:
        ValueError: a weight is so.
    """
    for name, weight in weights.items():
        if not 0.0 <= weight < math.inf:
            raise ValueError(f"{name} must be a finite number >= 0, got {weight}.")


def check_label_smoothing(label_smoothing: float) -> None:
    """Refuse a share of the true class's probability that is none.

    Raises:
        ValueError: it is so.
    """
    if not 0.0 <= label_smoothing < 1.0:
        raise ValueError(f"label_smoothing must be at least 0 and below 1, got {label_smoothing}.")


def check_whole_numbers(**numbers: int) -> None:
    """Refuse a size that is no whole number >= 1.

    Raises:
        ValueError: a number is not.
    """
    for name, number in numbers.items():
        if not isinstance(number, Integral) or isinstance(number, bool) or number < 1:
            raise ValueError(f"{name} must be a whole number >= 1, got {number!r}.")


def checked_temperature(temperature: float | Schedule) -> Schedule:
    """The temperature as a schedule that is positive and finite at both ends.

    Raises:
        ValueError: it is not.
    """
    schedule = as_schedule(temperature)
    for progress in (0.0, 1.0):
        if not (math.isfinite(schedule(progress)) and schedule(progress) > 0.0):
            raise ValueError(f"temperature must be a finite number > 0, got {temperature}.")
    return schedule
