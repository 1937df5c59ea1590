"""The term of an objective that looks inside the models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from hf_distill.adapters import make_adapter
from hf_distill.layers import Pair
from hf_distill.losses.base import at_least_float32
from hf_distill.losses.feature_base import FeatureLoss
from hf_distill.objective import TeacherTerm
from hf_distill.schedules import Schedule
from hf_distill.views import StepView


class FeatureTerm(TeacherTerm):
    r"""The loss between what a student and its teacher compute inside.

    .. math:: L = \frac{1}{P} \sum_{p=1}^{P} \ell(a_p(f_{s(p)}), f_{t(p)})

    with P pairs of modules, their outputs :math:`f`, a loss :math:`\ell` and a trained adapter :math:`a_p` where the
    two differ in shape. It is a mean, so that a weight keeps its meaning when pairs are added; a paper that sums over
    layers has this weight times P. In evaluation it is left out: nothing is looked at inside the models there.

    Args:
        loss: A :class:`~hf_distill.losses.PairLoss` on features. Weights of its own are trained beside the student.
        *pairs: Which module of the student learns from which of the teacher's, at least one.
        weight: A number or a schedule.
        teacher: The name of the teacher to follow. May be left out when there is only one.
        adapt: ``True`` for :func:`~hf_distill.adapters.make_adapter`; ``False`` for none; or a function that makes a
            module from the two shapes. Left out, a loss gets adapters if it ``needs_same_shape``.

    Raises:
        ValueError: there is no pair.

    Example:
        >>> import torch
        >>> from hf_distill.losses import RegressionTargetLoss
        >>> from hf_distill.views import ModelView
        >>> term = FeatureTerm(RegressionTargetLoss(), Pair("pooler", "bert.pooler"))
        >>> show = lambda path, value: ModelView(torch.zeros(1, 2), {path: torch.full((1, 3), value)})
        >>> term.compute(StepView(show("pooler", 1.0), {"teacher": show("bert.pooler", 3.0)}))
        tensor([4.])
    """

    def __init__(
        self,
        loss: Callable[..., Tensor],
        *pairs: Pair,
        weight: float | Schedule = 1.0,
        teacher: str | None = None,
        adapt: bool | Callable[[Sequence[int], Sequence[int]], nn.Module] | None = None,
    ) -> None:
        super().__init__(weight, teacher)
        if not pairs or not all(isinstance(pair, Pair) for pair in pairs):
            raise ValueError(f'{type(self).__name__} needs pairs of modules: Pair("STUDENT.PATH", "TEACHER.PATH"), ...')
        self.loss = loss
        self.pairs = pairs
        self.adapt = self._usually_adapted if adapt is None else adapt
        self.adapters = nn.ModuleList()

    @property
    def _usually_adapted(self) -> bool:
        return bool(getattr(self.loss, "needs_same_shape", True))

    def student_layers(self) -> set[str]:
        return {pair.student for pair in self.pairs}

    def teacher_layers(self, name: str) -> set[str]:
        return {pair.teacher for pair in self.pairs} if self.teacher in (None, name) else set()

    @property
    def needs_example_ids(self) -> bool:
        return bool(getattr(self.loss, "needs_example_ids", False))

    @property
    def may_train(self) -> bool:
        return bool(self.adapt) or super().may_train

    def prepare(self, step: StepView) -> None:
        """Make the adapters, and what the loss trains, from a batch; without this, from the first that is computed.

        Raises:
            ValueError: no adapter joins a pair; the message has the pair and both shapes.
        """
        student, teacher = step.student.features, self.followed(step).features
        self.adapters = nn.ModuleList(
            self._adapter(pair, student[pair.student], teacher[pair.teacher]) for pair in self.pairs
        )
        if isinstance(self.loss, FeatureLoss):
            self.loss.prepare(teacher[self.pairs[0].teacher])

    def _adapter(self, pair: Pair, student: Tensor, teacher: Tensor) -> nn.Module:
        if not self.adapt:
            return nn.Identity()
        make = make_adapter if self.adapt is True else self.adapt
        try:
            return make(tuple(student.shape), tuple(teacher.shape)).to(student.device, at_least_float32(student).dtype)
        except ValueError as error:
            raise ValueError(f"{pair}: {error}") from error

    def compute(self, step: StepView) -> Tensor:
        if not self.adapters:
            self.prepare(step)
        student, teacher = step.student.features, self.followed(step).features
        with step.autocast():
            adapted = self.adapted(student)
        known = {"mask": step.mask, "labels": step.labels, "progress": step.progress}
        if self.needs_example_ids:
            known["example_ids"] = step.example_ids
        parts = [
            self.loss(at_least_float32(ours), teacher[pair.teacher], **known)
            for pair, ours in zip(self.pairs, adapted, strict=True)
        ]
        return torch.stack(parts).mean(dim=0)

    def adapted(self, student: Mapping[str, Tensor]) -> list[Tensor]:
        """What the student shows to the loss, pair by pair, from its features by path."""
        return [
            adapter(at_least_float32(student[pair.student]))
            for pair, adapter in zip(self.pairs, self.adapters, strict=True)
        ]

    def __repr__(self) -> str:
        said = self.adapt is not self._usually_adapted
        adapt = f", adapt={_described(self.adapt)}" if said else ""
        return f"FeatureTerm({self.loss}, {', '.join(map(str, self.pairs))}, {self._settings()}{adapt})"


def _described(function: bool | Callable[..., nn.Module]) -> str:
    """In words that are the same in every process, as an address in memory is not."""
    if isinstance(function, bool):
        return str(function)
    if isinstance(function, partial):
        settings = [*map(repr, function.args), *(f"{key}={value!r}" for key, value in function.keywords.items())]
        return f"{_described(function.func)}({', '.join(settings)})"
    return getattr(function, "__name__", type(function).__name__)
