"""Soft targets where each class is a yes-or-no question of its own."""

from __future__ import annotations

from torch import Tensor

from hf_distill.losses.base import LogitLoss, checked_temperature, yes_or_no_kl_divergence
from hf_distill.schedules import Schedule


class MultiLabelTargetLoss(LogitLoss):
    r"""KL divergence between the softened yes-or-no probabilities of teacher and student, averaged over classes.

    .. math:: L_i = \frac{T^2}{C} \sum_c \left[ p_{ic} \log \frac{p_{ic}}{q_{ic}}
        + (1 - p_{ic}) \log \frac{1 - p_{ic}}{1 - q_{ic}} \right]

    with :math:`p = \sigma(z_t / T)` and :math:`q = \sigma(z_s / T)`. A softmax would make classes compete that may
    all be true at once. The mean over classes is that of the usual loss against multi-label labels, so that the
    weights of the two compare.

    Args:
        temperature: Softening T, dimensionless, > 0; a number or a schedule. 1 leaves the probabilities unchanged.

    Shape:
        - student, teacher: ``(B, C)`` logits, any float dtype, same class order; computed in float32. C may be 1, for
          one yes-or-no question.
        - output: ``(B,)`` float32, nats times T² per class, >= 0. Gradient flows to ``student`` only.

    Raises:
        ValueError: ``temperature`` is not > 0, or the logits differ in shape.

    Source:
        Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2, applied to each class as a two-way choice. The usual
        form is binary cross-entropy; less the teacher's entropy it has the same gradient and is 0 at a perfect match.

    Example:
        >>> import torch
        >>> MultiLabelTargetLoss(2.0)(torch.tensor([[0., 0.]]), torch.tensor([[2., 0.]]))
        tensor([0.2219])
    """

    def __init__(self, temperature: float | Schedule = 1.0) -> None:
        super().__init__()
        self.temperature = checked_temperature(temperature)

    def compare(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        divergence = yes_or_no_kl_divergence(teacher / temperature, student / temperature)
        return divergence.mean(dim=-1) * temperature**2
