"""Jensen-Shannon: teacher and student are both compared with their mixture."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hf_distill.losses.base import LogitLoss, checked_temperature, kl_divergence, softened_log_probabilities
from hf_distill.schedules import Schedule


class JensenShannonLoss(LogitLoss):
    r"""Jensen-Shannon divergence between the softened class probabilities of teacher and student.

    .. math:: L_i = T^2 \left[ w \, KL(p_i \| m_i) + (1 - w) \, KL(q_i \| m_i) \right], \quad m_i = w p_i + (1 - w) q_i

    with :math:`p = \mathrm{softmax}(z_t / T)`, :math:`q = \mathrm{softmax}(z_s / T)` and :math:`w` the teacher's
    share of the mixture. It is bounded by :math:`T^2 \left[ -w \ln w - (1-w) \ln (1-w) \right]`, so that one example
    on which the teacher is wrong and sure cannot dominate a batch. Near a perfect match it is :math:`w (1 - w)` times
    :class:`SoftTargetLoss`: at :math:`w = 0.5` give it four times the weight for the same pull.

    Args:
        temperature: Softening T, dimensionless, > 0; a number or a schedule. 1 leaves the probabilities unchanged.
        teacher_share: The teacher's share w of the mixture, in (0, 1). Towards 0 the loss behaves like w times
            :class:`SoftTargetLoss`, towards 1 like 1 - w times :class:`ReverseSoftTargetLoss`.

    Shape:
        - student, teacher: ``(B, C)`` logits, C >= 2, any float dtype, same class order; computed in float32.
        - output: ``(B,)`` float32, nats times T², >= 0. Gradient flows to ``student`` only.

    Raises:
        ValueError: ``temperature`` is not > 0, ``teacher_share`` is not between 0 and 1, the logits differ in shape,
            or there is only one class.

    Source:
        Lin 1991, "Divergence measures based on the Shannon entropy"; for distillation Agarwal et al. 2024 (GKD),
        arXiv:2306.13649, section 2. The mixture is formed in log-space, and we add T².

    Example:
        >>> import torch
        >>> JensenShannonLoss(2.0)(torch.tensor([[0., 0.]]), torch.tensor([[2., 0.]]))
        tensor([0.1141])
    """

    def __init__(self, temperature: float | Schedule = 1.0, teacher_share: float = 0.5) -> None:
        super().__init__()
        if not 0.0 < teacher_share < 1.0:
            raise ValueError(
                f"teacher_share must lie between 0 and 1, both excluded, got {teacher_share}. "
                "At the ends the divergence is 0; use SoftTargetLoss or ReverseSoftTargetLoss instead."
            )
        self.temperature = checked_temperature(temperature)
        self.teacher_share = teacher_share

    def compare(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        share = self.teacher_share
        log_q, log_p = softened_log_probabilities(student, teacher, temperature)
        log_m = torch.logaddexp(log_p + math.log(share), log_q + math.log1p(-share))
        divergence = share * kl_divergence(log_p, log_m) + (1 - share) * kl_divergence(log_q, log_m)
        return divergence * temperature**2
