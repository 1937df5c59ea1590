"""The term of an objective that tells each example of the training set from the others."""

from __future__ import annotations

import math

from torch import Tensor

from hf_distill.layers import Pair
from hf_distill.losses import ContrastiveLoss
from hf_distill.losses.base import at_least_float32
from hf_distill.losses.contrastive import check_contrast, contrast_repr
from hf_distill.objective import TeacherTerm
from hf_distill.schedules import Schedule
from hf_distill.views import StepView


class ContrastiveTerm(TeacherTerm):
    r"""Contrastive representation distillation (CRD): which example is which, across student and teacher.

    .. math:: L_i = \ell(f_{s,i}, f_{t,i}; i)

    with the :class:`~hf_distill.losses.ContrastiveLoss` :math:`\ell`, made from the shapes of the features and the size
    of the training set. It keeps two memories with an embedding for each example, so the rows must be numbered:
    :func:`~hf_distill.with_example_ids`. Maps, memories and what is drawn next are in each checkpoint. In evaluation
    the term is left out, and the rows need no numbers.

    The memories are renewed after each batch as it is computed, so the gradient depends slightly on how a batch is
    split by gradient accumulation; not on how it is spread over processes.

    Args:
        pair: One module with a vector, or a small map, for each example: usually what is in front of the last layer.
        weight: A number or a schedule.
        teacher: The name of the teacher to follow. May be left out when there is only one.
        width: Of the embeddings.
        negatives: How many others an example is told from; all once where there are no more.
        temperature: What inner products are divided by, > 0.
        momentum: How much of a memory stays when it is renewed, in [0, 1).
        other_classes: Whether an example is told from examples of other classes only.

    Raises:
        ValueError: a setting is out of its range.

    Source:
        Tian et al. 2020, arXiv:1910.10699. The paper's weight of 0.8 is 17 of ours; see the loss.

    Example:
        >>> import torch
        >>> from hf_distill.views import ModelView
        >>> term = ContrastiveTerm(Pair("pooler", "bert.pooler"), weight=17.0)
        >>> show = lambda path, width: ModelView(torch.zeros(2, 3), {path: torch.ones(2, width)})
        >>> step = StepView(
        ...     show("pooler", 4), {"teacher": show("bert.pooler", 8)}, example_ids=torch.tensor([5, 0]), examples=6
        ... )
        >>> term.compute(step).shape
        torch.Size([2])
    """

    def __init__(
        self,
        pair: Pair,
        *,
        weight: float | Schedule = 1.0,
        teacher: str | None = None,
        width: int = 128,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
        other_classes: bool = True,
    ) -> None:
        super().__init__(weight, teacher)
        if not isinstance(pair, Pair):
            raise ValueError(
                'ContrastiveTerm needs a pair of modules: ContrastiveTerm(Pair("STUDENT.PATH", "TEACHER.PATH")).'
            )
        check_contrast(width, negatives, temperature, momentum)
        self.pair = pair
        self.settings = (width, negatives, temperature, momentum, other_classes)
        self.loss: ContrastiveLoss | None = None

    def student_layers(self) -> set[str]:
        return {self.pair.student}

    def teacher_layers(self, name: str) -> set[str]:
        return {self.pair.teacher} if self.teacher in (None, name) else set()

    @property
    def needs_example_ids(self) -> bool:
        return True

    @property
    def may_train(self) -> bool:
        return True

    def prepare(self, step: StepView) -> None:
        """Make the loss from the shapes on a batch. Without this, the first batch that is computed makes it.

        Raises:
            ValueError: it is not known how many examples there are, or the features do not suit; the message has the
                pair.
        """
        self.loss = self._made(step)

    def _made(self, step: StepView) -> ContrastiveLoss:
        student, teacher = self._features(step)
        if step.examples is None:
            raise ValueError(f"{self} must know how many examples there are: put `examples` in the StepView.")
        ours, theirs = (math.prod(features.shape[1:]) for features in (student, teacher))
        loss = ContrastiveLoss(ours, theirs, step.examples, *self.settings)
        try:
            loss.checked(student, teacher)
        except ValueError as error:
            raise ValueError(f"{self.pair}: {error}") from error
        return loss.to(student.device, at_least_float32(student).dtype)

    def compute(self, step: StepView) -> Tensor:
        if step.example_ids is None:
            raise ValueError(
                f"{self} must know which examples are in a batch, and this one does not say. Does a transform of the "
                "training set leave their column out? Number the rows with with_example_ids(dataset)."
            )
        self.loss = self._made(step) if self.loss is None else self.loss
        value: Tensor = self.loss(*self._features(step), labels=step.labels, example_ids=step.example_ids)
        return value

    def _features(self, step: StepView) -> tuple[Tensor, Tensor]:
        return step.student.features[self.pair.student], self.followed(step).features[self.pair.teacher]

    def __repr__(self) -> str:
        return f"ContrastiveTerm({self.pair}, {self._settings()}, {contrast_repr(*self.settings)})"
