"""Transformed teacher matching: only the teacher is softened."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from hf_distill.losses.base import LogitLoss, check_several_classes, checked_temperature, kl_divergence
from hf_distill.schedules import Schedule


class TransformedTeacherMatchingLoss(LogitLoss):
    r"""KL divergence from the softened teacher to the student as it is (TTM), optionally weighted (WTTM).

    .. math:: L_i = w_i \sum_c r_{ic} (\log r_{ic} - \log q_{ic}), \quad
        r_{ic} = \frac{p_{ic}^{1/T}}{\sum_k p_{ik}^{1/T}}, \quad q = \mathrm{softmax}(z_s), \quad
        w_i = 1 \text{ or } \sum_k p_{ik}^{1/T}

    with :math:`p = \mathrm{softmax}(z_t)`, so that :math:`r = \mathrm{softmax}(z_t / T)`. The student is best where
    :math:`z_s = z_t / T` up to a shift: less sure than the teacher, which regularises it. There is no
    :math:`T^2`, since nothing divides the student's gradient by T.

    The weight runs from 1, where the teacher is sure, to :math:`C^{1 - 1/T}`, where it knows nothing: examples from
    which there is more than a label to learn count more.

    Args:
        temperature: Softening T of the teacher, dimensionless, > 0; a number or a schedule. It is
            :math:`1/\gamma` of the paper.
        weighted: Whether to weight each example by :math:`\sum_k p_{ik}^{1/T}`.

    Shape:
        - student, teacher: ``(B, C)`` logits, C >= 2, any float dtype, same class order; computed in float32.
        - output: ``(B,)`` float32, nats, >= 0. Gradient flows to ``student`` only.

    Raises:
        ValueError: ``temperature`` is not > 0, the logits differ in shape, or there is only one class.

    Source:
        Zheng and Yang 2024, arXiv:2402.01520. The authors train VGG-8 from VGG-13 on CIFAR-100 with
        ``Objective(ce=LabelTerm(1.0), kd=LogitTerm(TransformedTeacherMatchingLoss(10.0), weight=45.0))``, their
        :math:`\gamma = 0.1`. ``weighted=True`` multiplies the loss, so divide the weight by the mean of :math:`w_i` to
        keep its size.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1., 0.], [2., 0.]]), torch.tensor([[2., 0.], [2., 0.]])
        >>> TransformedTeacherMatchingLoss(2.0)(student, teacher)
        tensor([0.0000, 0.0826])
        >>> TransformedTeacherMatchingLoss(2.0, weighted=True)(student, teacher)
        tensor([0.0000, 0.1060])
    """

    def __init__(self, temperature: float | Schedule = 10.0, weighted: bool = False) -> None:
        super().__init__()
        self.temperature = checked_temperature(temperature)
        self.weighted = weighted

    def compare(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        check_several_classes(student)
        powers = F.log_softmax(teacher, dim=-1) / temperature  # log p^(1/T)
        divergence = kl_divergence(F.log_softmax(powers, dim=-1), F.log_softmax(student, dim=-1))
        return divergence * powers.logsumexp(dim=-1).exp() if self.weighted else divergence
