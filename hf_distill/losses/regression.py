"""Regression: the teacher's output is the value to predict."""

from __future__ import annotations

from torch import Tensor

from hf_distill.losses.base import LogitLoss


class RegressionTargetLoss(LogitLoss):
    r"""Mean squared error between the outputs of student and teacher.

    .. math:: L_i = \frac{1}{C} \sum_c (z_{s,ic} - z_{t,ic})^2

    For models whose outputs are quantities, not scores of classes. The mean over outputs is that of the usual loss
    against regression labels, so that the weights of the two compare.

    Shape:
        - student, teacher: ``(B, C)`` predictions, any float dtype, same order; computed in float32. C is 1 for a
          single quantity.
        - output: ``(B,)`` float32, squared units of the prediction, >= 0. Gradient flows to ``student`` only.

    Raises:
        ValueError: the predictions differ in shape, or are not ``(B, C)``.

    Source:
        Ba and Caruana 2014, arXiv:1312.6184, equation 1, with a mean over outputs in place of half their sum.

    Example:
        >>> import torch
        >>> RegressionTargetLoss()(torch.tensor([[1., 2.]]), torch.tensor([[3., 5.]]))
        tensor([6.5000])
    """

    def compare(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        return (student - teacher).square().mean(dim=-1)
