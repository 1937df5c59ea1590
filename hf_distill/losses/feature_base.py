"""What losses between features share: the checks, the float32, and the unit in which they are measured."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from hf_distill.losses.base import PairLoss, at_least_float32

CURE = "Tap layers of one kind, or join them with an adapter."
ROUNDING = 1e-12
"""A squared difference between numbers of about 1 that float32 cannot tell from 0."""
NO_ENERGY = 1e-20
"""A sum of squares so small that the features are dead, not only small."""


class FeatureLoss(PairLoss):
    """A distance from the student's features to the teacher's, in units of what an uninformed student would pay.

    0 is a perfect match. 1 is a student that knows nothing, such as one that puts out zeros, or to which all examples
    look alike; each class says which. So the scale of the teacher's features does not matter, and a weight of 1 is
    worth about as much as the loss against the labels.

    Subclasses implement :meth:`compare`, and get features that are checked, in float32 (float64 stays), outside of any
    autocast, the teacher's detached, with zeros where the mask has zeros.

    Attributes:
        needs_same_shape: Whether student and teacher must agree in shape, so that an adapter is wanted where they do
            not. A loss that compares examples with each other needs none, and learns less through one.

    Shape:
        - student, teacher: maps ``(B, C, H, W)``, tokens ``(B, L, d)`` or vectors ``(B, d)``.
        - mask: ``(B, L)``, 1 where a token counts. Maps and vectors have no tokens, so there it is ignored.
        - output: ``(B,)``, one value per example; a scalar where the loss is a relation across the batch.
    """

    needs_same_shape: ClassVar[bool] = True

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        *,
        mask: Tensor | None = None,
        labels: Tensor | None = None,
        progress: float = 0.0,
    ) -> Tensor:
        student, teacher = self.checked(student, teacher)
        if mask is not None:
            student, teacher = without_padding(student, mask), without_padding(teacher, mask)
        with torch.autocast(student.device.type, enabled=False):
            return self.compare(student, teacher)

    def checked(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Both features in float32 (float64 stays), the teacher's detached.

        Raises:
            ValueError: the shapes do not fit.
        """
        if not (student.dim() in (2, 3, 4) and teacher.dim() in (2, 3, 4) and len(student) == len(teacher)):
            raise misfit(
                student,
                teacher,
                "must be maps (B, C, H, W), tokens (B, L, d) or vectors (B, d) of the same examples",
                "Name a layer whose output is one tensor with the batch in front.",
            )
        self.check_shapes(student, teacher)
        return at_least_float32(student), at_least_float32(teacher.detach())

    def prepare(self, teacher: Tensor) -> None:
        """Make what is trained beside the student, where it depends on the teacher's features; by default nothing.

        Args:
            teacher: The teacher's features of some examples.
        """

    def check_shapes(self, student: Tensor, teacher: Tensor) -> None:
        """Refuse shapes between which this loss is not defined; by default none.

        Args:
            student: The student's features.
            teacher: The teacher's features of the same examples.

        Raises:
            ValueError: the shapes do not fit.
        """

    @abstractmethod
    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss, ``(B,)`` or a scalar; see the class for the formula.

        Args:
            student: The student's features, in float32 or float64.
            teacher: The teacher's, detached, likewise.
        """


def misfit(student: Tensor, teacher: Tensor, demand: str, cure: str = CURE) -> ValueError:
    """The error for features that do not go together: what was asked, both shapes, and the cure."""
    return ValueError(
        f"Features of student and teacher {demand}; got {tuple(student.shape)} and {tuple(teacher.shape)}. {cure}"
    )


def check_same_shape(student: Tensor, teacher: Tensor) -> None:
    """Refuse features that cannot be subtracted from each other.

    Raises:
        ValueError: the shapes differ.
    """
    if student.shape != teacher.shape:
        raise misfit(student, teacher, "must have the same shape")


def without_padding(features: Tensor, mask: Tensor) -> Tensor:
    """Zeros for the tokens that the mask leaves out; maps and vectors stay.

    Raises:
        ValueError: the mask is not ``(B, L)``.
    """
    if features.dim() != 3:
        return features
    if mask.shape != features.shape[:2]:
        raise ValueError(
            f"A mask of shape {tuple(mask.shape)} does not fit tokens of shape {tuple(features.shape)}: it must be "
            f"{tuple(features.shape[:2])}. Models with tokenizers of their own see other tokens: compare vectors, such "
            "as the means over their tokens."
        )
    return features.masked_fill((mask == 0).unsqueeze(-1), 0.0)


def relative_to(uninformed: Tensor, loss: Tensor, floor: float) -> Tensor:
    """The loss as a share of what an uninformed student pays; 0 where that is 0, since the teacher says nothing.

    Args:
        uninformed: What a student that knows nothing would pay, without gradient.
        loss: What this student pays.
        floor: What counts as 0: :data:`ROUNDING` or :data:`NO_ENERGY`.
    """
    return torch.where(uninformed <= floor, loss * 0.0, loss / uninformed.clamp(min=floor))


def unit_rows(rows: Tensor) -> Tensor:
    """Each row at length 1. A row of zeros stays, and gets no gradient."""
    length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows * torch.where(length == 0.0, length.new_zeros(()), 1.0 / length.clamp(min=1e-12))


def energy(features: Tensor) -> Tensor:
    """The sum of squares of each example, ``(B,)``."""
    return features.flatten(1).square().sum(dim=-1)
