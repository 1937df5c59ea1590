"""Soft targets: the teacher's whole distribution, not only its decision."""

from __future__ import annotations

from torch import Tensor

from hf_distill.losses.base import LogitLoss, checked_temperature, kl_divergence, softened_log_probabilities
from hf_distill.schedules import Schedule


class SoftTargetLoss(LogitLoss):
    r"""KL divergence from the teacher's softened class probabilities to the student's.

    .. math:: L_i = T^2 \sum_c p_{ic} (\log p_{ic} - \log q_{ic})

    with :math:`p = \mathrm{softmax}(z_t / T)` and :math:`q = \mathrm{softmax}(z_s / T)`. :math:`T^2` undoes
    the gradient's :math:`1/T^2`, so that a weight keeps its meaning when T changes.

    Args:
        temperature: Softening T, dimensionless, > 0; a number or a schedule. 1 leaves the probabilities unchanged.

    Shape:
        - student, teacher: ``(B, C)`` logits, C >= 2, any float dtype, same class order; computed in float32.
        - output: ``(B,)`` float32, nats times T², >= 0. Gradient flows to ``student`` only.

    Raises:
        ValueError: ``temperature`` is not > 0, the logits differ in shape, or there is only one class.

    Source:
        Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2. The paper uses cross-entropy; KL has the
        same gradient and is 0 at a perfect match.

    Example:
        >>> import torch
        >>> SoftTargetLoss(2.0)(torch.tensor([[0., 0.]]), torch.tensor([[2., 0.]]))
        tensor([0.4438])
    """

    def __init__(self, temperature: float | Schedule = 1.0) -> None:
        super().__init__()
        self.temperature = checked_temperature(temperature)

    def compare(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        log_q, log_p = softened_log_probabilities(student, teacher, temperature)
        return kl_divergence(log_p, log_q) * temperature**2
