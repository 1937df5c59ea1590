"""Attention transfer: where the student looks, not what it sees there."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from hf_distill.losses.feature_base import FeatureLoss, energy, misfit, unit_rows


class AttentionTransferLoss(FeatureLoss):
    r"""Squared distance between the places at which student and teacher are active (AT).

    .. math:: L_i = \| A_{s,i} - A_{t,i} \|^2, \quad A = \frac{a}{\| a \|}, \quad a_n = \frac{1}{C} \sum_c f_{cn}^2

    with n over the H·W positions of a map, or the L tokens. Channels are summed out, so that the two may have
    different numbers of them, and no adapter is needed. Where one map is larger, its :math:`a` is averaged down to
    the size of the other. A student of zeros pays 1; the most is 2, for activity at other places only; even activity
    everywhere pays less than 1 already, as far as the teacher's is spread out.

    Shape:
        - student, teacher: maps ``(B, C, H, W)`` with any C, H and W each, H·W >= 2; or tokens ``(B, L, d)`` with the
          same L >= 2 and any d; any float dtype; computed in float32.
        - mask: ``(B, L)`` for tokens; those with 0 do not count.
        - output: ``(B,)`` float32, dimensionless, from 0 to 2. Gradient flows to ``student`` only.

    Raises:
        ValueError: the features are not both maps or both tokens of one length, or there is only one position left,
            where every attention is alike.

    Source:
        Zagoruyko and Komodakis 2017, arXiv:1612.03928, section 3.1, with activations squared. The authors' code takes
        the mean over positions, here it is the sum: their weight of 1000 is 1000 / (H·W) of ours, 16 at 8 x 8, for each
        layer in a term of its own. Maps of two sizes are averaged down after squaring, so that activations of opposite
        sign do not cancel.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[[[1., 1.]]]]), torch.tensor([[[[0., 5.]], [[0., -5.]]]])
        >>> AttentionTransferLoss()(student, teacher)  # 2 - 2 cos 45°
        tensor([0.5858])
    """

    needs_same_shape: ClassVar[bool] = False

    def check_shapes(self, student: Tensor, teacher: Tensor) -> None:
        maps = student.dim() == teacher.dim() == 4
        tokens = student.dim() == teacher.dim() == 3 and student.shape[1] == teacher.shape[1]
        if not (maps or tokens):
            raise misfit(student, teacher, "must both be maps (B, C, H, W), or tokens (B, L, d) with the same L")
        if (math.prod(_common_size(student, teacher)) if maps else student.shape[1]) < 2:
            raise misfit(student, teacher, "must share 2 positions or more, to attend to one more than another")

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        if student.dim() == 3:
            student_energy, teacher_energy = (f.square().mean(dim=-1) for f in (student, teacher))
        else:
            size = _common_size(student, teacher)
            student_energy, teacher_energy = (
                F.adaptive_avg_pool2d(f.square().mean(dim=1), size).flatten(1) for f in (student, teacher)
            )
        return energy(unit_rows(student_energy) - unit_rows(teacher_energy))


def _common_size(student: Tensor, teacher: Tensor) -> tuple[int, int]:
    return min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
