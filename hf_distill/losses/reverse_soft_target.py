"""Reverse soft targets: the student may ignore what it cannot represent."""

from __future__ import annotations

from torch import Tensor

from hf_distill.losses.base import LogitLoss, checked_temperature, kl_divergence, softened_log_probabilities
from hf_distill.schedules import Schedule


class ReverseSoftTargetLoss(LogitLoss):
    r"""KL divergence from the student's softened class probabilities to the teacher's.

    .. math:: L_i = T^2 \sum_c q_{ic} (\log q_{ic} - \log p_{ic})

    with :math:`p = \mathrm{softmax}(z_t / T)` and :math:`q = \mathrm{softmax}(z_s / T)`. The student pays for
    probability it puts where the teacher has none, and little for a class it leaves out: it settles on the teacher's
    main modes, where :class:`SoftTargetLoss` makes it cover all of them. Near a perfect match the two agree.

    Args:
        temperature: Softening T, dimensionless, > 0; a number or a schedule. 1 leaves the probabilities unchanged.

    Shape:
        - student, teacher: ``(B, C)`` logits, C >= 2, any float dtype, same class order; computed in float32.
        - output: ``(B,)`` float32, nats times T², >= 0. Gradient flows to ``student`` only.

    Raises:
        ValueError: ``temperature`` is not > 0, the logits differ in shape, or there is only one class.

    Source:
        Gu et al. 2024 (MiniLLM), arXiv:2306.08543, section 2.1. The paper estimates it over generated text by
        sampling; over the classes of a classifier it is an exact sum. T² as in Hinton et al., arXiv:1503.02531.

    Example:
        >>> import torch
        >>> ReverseSoftTargetLoss(2.0)(torch.tensor([[0., 0.]]), torch.tensor([[2., 0.]]))
        tensor([0.4805])
    """

    def __init__(self, temperature: float | Schedule = 1.0) -> None:
        super().__init__()
        self.temperature = checked_temperature(temperature)

    def compare(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        log_q, log_p = softened_log_probabilities(student, teacher, temperature)
        return kl_divergence(log_q, log_p) * temperature**2
