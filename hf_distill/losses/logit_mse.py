"""Logit matching: the student copies the teacher's raw scores."""

from __future__ import annotations

from torch import Tensor

from hf_distill.losses.base import LogitLoss, check_several_classes


class LogitMSELoss(LogitLoss):
    r"""Squared Euclidean distance between the logits of student and teacher.

    .. math:: L_i = \sum_c (z_{s,ic} - z_{t,ic})^2

    It is what soft targets turn into as the temperature grows (there with centred logits, divided by :math:`2C`),
    and it often does better than they do, because it also hands on how unlikely the unlikely classes are.

    Args:
        centered: Whether to subtract each row's mean from both first. A softmax does not see that mean, so the
            student need not spend effort on it.

    Shape:
        - student, teacher: ``(B, C)`` logits, any float dtype, same class order; computed in float32. C >= 2 when
          ``centered``.
        - output: ``(B,)`` float32, squared logits, summed over classes, >= 0. Gradient flows to ``student`` only.

    Raises:
        ValueError: the logits differ in shape, or there is only one class and ``centered`` is true.

    Source:
        Ba and Caruana 2014, arXiv:1312.6184, equation 1; Kim et al. 2021, arXiv:2105.08919. The former has a factor
        of 1/2, the latter none, as here.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1., 2.]]), torch.tensor([[3., 5.]])
        >>> LogitMSELoss()(student, teacher), LogitMSELoss(centered=True)(student, teacher)
        (tensor([13.]), tensor([0.5000]))
    """

    def __init__(self, centered: bool = False) -> None:
        super().__init__()
        self.centered = centered

    def compare(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        difference = student - teacher
        if self.centered:
            check_several_classes(student)
            difference = difference - difference.mean(dim=-1, keepdim=True)
        return difference.square().sum(dim=-1)
