"""Probabilistic transfer: which examples of a batch are each other's neighbours."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from hf_distill.losses.feature_base import ROUNDING, FeatureLoss, relative_to, unit_rows

SMALLEST = 1e-7


class ProbabilisticTransferLoss(FeatureLoss):
    r"""KL divergence between the neighbourhoods of a batch, as teacher and student see them (PKT).

    .. math:: L = \frac{\sum_i KL(p_{t,i} \| p_{s,i})}{\sum_i KL(p_{t,i} \| u)}, \quad
        p_{ij} = \frac{k_{ij}}{\sum_l k_{il}}, \quad k_{ij} = \frac{\cos(f_i, f_j) + 1}{2} + 10^{-7}

    where :math:`p_{ij}` is the chance that example i takes j for its neighbour, and :math:`u = 1/B`. Only directions
    of features count, and neither widths nor sizes have to agree. A student to which all examples look alike pays 1.

    It compares examples, so it needs a batch, better of 32 than of 8. A batch of one costs 0, as does one whose
    examples look alike to the teacher; an example whose features are all zero has cosine 0 to all.

    Shape:
        - student, teacher: ``(B, d)``, ``(B, L, d)`` or ``(B, C, H, W)``, each of its own, any float dtype; computed
          in float32. The paper uses the vectors in front of the last layer.
        - mask: ``(B, L)`` for tokens; those with 0 do not count.
        - output: a scalar, float32, dimensionless, >= 0. Gradient flows to ``student`` only.

    Raises:
        ValueError: the features are of different numbers of examples, or the mask does not fit them.

    Source:
        Passalis and Tefas 2018, arXiv:1803.10837, section 3, with each example its own neighbour too, as in the
        authors' code. That code divides the sum over i by B², so that its weight of 30000 is
        :math:`30000 \sum_i KL(p_{t,i} \| u) / B^2` of ours.

    Example:
        >>> import torch
        >>> teacher, alike = torch.tensor([[1., 0.], [0., 1.]]), torch.tensor([[2., 3.], [2., 3.]])
        >>> ProbabilisticTransferLoss()(alike, teacher)
        tensor(1.)
    """

    needs_same_shape: ClassVar[bool] = False

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        log_q, log_p = log_neighbours(student), log_neighbours(teacher)
        size = max(len(log_p), 1)
        alike = -math.log(size)
        return relative_to(_divergence(log_p - alike, log_p) / size, _divergence(log_p - log_q, log_p) / size, ROUNDING)


def log_neighbours(features: Tensor) -> Tensor:
    """Log-probability of each example to take each for its neighbour, ``(B, B)``."""
    rows = unit_rows(features.flatten(1))
    # Rounding may put the cosine of two opposite rows below -1.
    kernel = ((rows @ rows.T + 1.0) / 2.0).clamp(min=0.0) + SMALLEST
    return kernel.log() - kernel.sum(dim=-1, keepdim=True).log()


def _divergence(excess: Tensor, log_p: Tensor) -> Tensor:
    """Sum of all KL(p ‖ q), where ``excess`` is log p - log q.

    Neighbourhoods differ by little. Both sum to 1, so p - q may be taken from every p (log p - log q): what is left is
    of second order in each entry, and so are the rounding errors, which would drown the plain sum.
    """
    return (log_p.exp() * (excess + (-excess).expm1())).sum()
