"""Review: maps compared whole and blurred."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from hf_distill.losses.feature_base import NO_ENERGY, FeatureLoss, check_same_shape, misfit, relative_to


class ReviewLoss(FeatureLoss):
    r"""Squared error between maps at full size and averaged down to 4 x 4, 2 x 2 and 1 x 1 (HCL of ReviewKD).

    .. math:: L_i = \frac{E(f_{s,i} - f_{t,i})}{E(f_{t,i})}, \quad
        E(f) = \sum_{k=0}^{K} 2^{-k} \operatorname{mean}(P_k(f)^2)

    with :math:`P_0(f) = f` and :math:`P_k` the average over 4 x 4, 2 x 2 and 1 x 1 cells, as far as these are fewer
    than the map has rows and columns. :class:`HintLoss` cares for each position alone; this one also for what a
    region holds, which a student with another receptive field can give. A student of zeros pays 1. An example for
    which the teacher is all zero costs nothing.

    This is the distance only. The paper's fusion of deep layers into shallow ones belongs in front of it.

    Shape:
        - student, teacher: ``(B, C, H, W)``, both the same, any float dtype; computed in float32. An adapter brings
          the student's maps to the teacher's shape.
        - output: ``(B,)`` float32, dimensionless, >= 0. Gradient flows to ``student`` only.

    Raises:
        ValueError: the features differ in shape or are not maps.

    Source:
        Chen et al. 2021 (ReviewKD), arXiv:2104.09044, section 3, with the sizes and shares of the authors' code.
        That code divides E by :math:`\sum_k 2^{-k}`, not by the teacher's: its weight of 5 is 5 times the teacher's
        E, so divided, of ours.

    Example:
        >>> import torch
        >>> ReviewLoss()(torch.tensor([[[[1., 1.], [1., 1.]]]]), torch.tensor([[[[0., 2.], [2., 0.]]]]))
        tensor([0.4000])
    """

    def check_shapes(self, student: Tensor, teacher: Tensor) -> None:
        check_same_shape(student, teacher)
        if teacher.dim() != 4:
            raise misfit(student, teacher, "must be maps (B, C, H, W)", "For tokens and vectors use HintLoss.")

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return relative_to(pyramid_energy(teacher), pyramid_energy(student - teacher), NO_ENERGY)


def pyramid_energy(maps: Tensor) -> Tensor:
    """Mean squares of the maps and of their averages, each level worth half of the one before, ``(B,)``."""
    energy, share = maps.square().flatten(1).mean(dim=-1), 1.0
    for cells in (4, 2, 1):
        if cells < min(maps.shape[2:]):
            share /= 2.0
            energy = energy + share * F.adaptive_avg_pool2d(maps, cells).square().flatten(1).mean(dim=-1)
    return energy
