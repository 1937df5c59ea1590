"""The term of an objective in which each layer learns together with all deeper ones."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from hf_distill.feature_term import FeatureTerm
from hf_distill.fusion import ReviewFusion
from hf_distill.layers import Pair
from hf_distill.losses import ReviewLoss
from hf_distill.losses.base import at_least_float32
from hf_distill.schedules import Schedule
from hf_distill.views import StepView


class ReviewTerm(FeatureTerm):
    r"""Review: the student's maps, each mixed with all deeper ones, against the teacher's (ReviewKD).

    .. math:: L = \frac{1}{P} \sum_{p=1}^{P} \ell(g_p(f_{s(1)}, ..., f_{s(P)}), f_{t(p)})

    with :math:`\ell` the :class:`~hf_distill.losses.ReviewLoss` and :math:`g_p` the part of a
    :class:`~hf_distill.fusion.ReviewFusion` that makes map p from the student's maps p to P. So what a shallow layer of
    the teacher knows also reaches deep layers of the student, which can take in more of it. The fusion learns beside
    the student. In evaluation the term is left out.

    Args:
        *pairs: Which maps learn from which, from the shallowest to the deepest, at least one. The averaged last map,
            one cell a channel, may be the deepest.
        weight: A number or a schedule. The paper's rises over the first 20 of 240 epochs.
        teacher: The name of the teacher to follow. May be left out when there is only one.
        width: The channels in which maps are mixed; as many as the student's deepest map has, at most 512, if left out.
        batch_norm: Whether the convolutions of the fusion end in batch normalisation. Its statistics are those of each
            batch as it is computed, so the gradient then depends slightly on how a batch is split.

    Raises:
        ValueError: there is no pair, or ``width`` is not >= 1.

    Source:
        Chen et al. 2021, arXiv:2104.09044, section 3. The paper sums over layers and does not divide by the teacher's
        energy: its weight of 5 is, of ours, 5 times P times that energy, over :math:`\sum_k 2^{-k}`. The authors' code
        takes the teacher's maps in front of their last ReLU: name the module that puts those out.

    Example:
        >>> import torch
        >>> from hf_distill.views import ModelView
        >>> term = ReviewTerm(Pair("blocks.0", "blocks.0"), Pair("pooler", "pooler"), weight=2.0)
        >>> show = lambda width: {"blocks.0": torch.ones(2, width, 4, 4), "pooler": torch.ones(2, width, 1, 1)}
        >>> student, teacher = (ModelView(torch.zeros(2, 3), show(width)) for width in (4, 8))
        >>> term.compute(StepView(student, {"teacher": teacher})).shape
        torch.Size([2])
    """

    def __init__(
        self,
        *pairs: Pair,
        weight: float | Schedule = 1.0,
        teacher: str | None = None,
        width: int | None = None,
        batch_norm: bool = True,
    ) -> None:
        if width is not None and width < 1:
            raise ValueError(f"width, the channels in which maps are mixed, must be >= 1, got {width}.")
        super().__init__(ReviewLoss(), *pairs, weight=weight, teacher=teacher)
        self.width, self.batch_norm = width, batch_norm

    def prepare(self, step: StepView) -> None:
        """Make the fusion from the shapes on a batch. Without this, the first batch that is computed makes it.

        Raises:
            ValueError: the features are not maps, or a deeper one is larger; the message has the pairs and all shapes.
        """
        student, teacher = step.student.features, self.followed(step).features
        ours = [student[pair.student] for pair in self.pairs]
        theirs = [teacher[pair.teacher].shape for pair in self.pairs]
        try:
            fusion = ReviewFusion([maps.shape for maps in ours], theirs, self.width, self.batch_norm)
        except ValueError as error:
            raise ValueError(f"{', '.join(map(str, self.pairs))}: {error}") from error
        self.adapters = nn.ModuleList([fusion.to(ours[0].device, at_least_float32(ours[0]).dtype)])

    def adapted(self, student: Mapping[str, Tensor]) -> list[Tensor]:
        [fusion] = self.adapters
        fused: list[Tensor] = fusion([at_least_float32(student[pair.student]) for pair in self.pairs])
        return fused

    def __repr__(self) -> str:
        width = "" if self.width is None else f", width={self.width}"
        batch_norm = "" if self.batch_norm else ", batch_norm=False"
        return f"ReviewTerm({', '.join(map(str, self.pairs))}, {self._settings()}{width}{batch_norm})"
