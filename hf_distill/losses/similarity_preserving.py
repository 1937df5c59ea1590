"""Similarity preserving: which examples of a batch activate the student alike."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from hf_distill.losses.feature_base import ROUNDING, FeatureLoss, relative_to, unit_rows


class SimilarityPreservingLoss(FeatureLoss):
    r"""Squared distance between the similarity matrices of a batch, as student and teacher see it (SP).

    .. math:: L = \frac{\| G_s - G_t \|_F^2}{\| U - G_t \|_F^2}, \quad G_{ij} = \frac{f_i \cdot f_j}
        {\sqrt{\sum_k (f_i \cdot f_k)^2}}, \quad U_{ij} = \frac{1}{\sqrt B}

    with :math:`f_i` all features of example i in a row, of any length: neither widths nor sizes have to agree. A
    student to which all examples look alike has :math:`G_s = U` and pays 1.

    It compares examples, so it needs a batch, better of 32 than of 8. A batch of one costs 0, as does one whose
    examples look alike to the teacher; and an example whose features are all zero has similarity 0 to all.

    Shape:
        - student, teacher: ``(B, C, H, W)``, ``(B, L, d)`` or ``(B, d)``, each of its own, any float dtype; computed
          in float32.
        - mask: ``(B, L)`` for tokens; those with 0 do not count.
        - output: a scalar, float32, dimensionless, >= 0. Gradient flows to ``student`` only.

    Raises:
        ValueError: the features are of different numbers of examples, or the mask does not fit them.

    Source:
        Tung and Mori 2019, arXiv:1907.09682, section 3. The paper divides by B² in place of
        :math:`\| U - G_t \|^2`, so that its weight of 3000 is :math:`3000 \| U - G_t \|^2 / B^2` of ours.

    Example:
        >>> import torch
        >>> teacher, alike = torch.tensor([[1., 0.], [0., 1.]]), torch.tensor([[2., 3.], [2., 3.]])
        >>> SimilarityPreservingLoss()(alike, teacher)
        tensor(1.)
    """

    needs_same_shape: ClassVar[bool] = False

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        ours, theirs = similarities(student), similarities(teacher)
        size = max(len(theirs), 1)
        alike = size**-0.5
        return relative_to((alike - theirs).square().sum() / size, (ours - theirs).square().sum() / size, ROUNDING)


def similarities(features: Tensor) -> Tensor:
    """Inner products of each example with every example, ``(B, B)``, rows of length 1."""
    rows = features.flatten(1)
    return unit_rows(rows @ rows.T)
