"""Normalised distillation: the teacher weighs the label, and the other classes are matched as a distribution."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from hf_distill.losses.base import PairLoss, as_float32_pair, check_weights, checked_temperature, kl_divergence
from hf_distill.losses.target_class import check_several_others, of_others, of_target, target_class
from hf_distill.schedules import Schedule


class NormalizedKDLoss(PairLoss):
    r"""Cross-entropy weighted by the teacher's trust in the label, plus the proportions of the other classes (NKD).

    .. math:: L_i = - p_{t,iy} \log p_{s,iy} + \gamma \lambda^2 \, KL(\hat p_{t,i} \| \hat p_{s,i})

    with :math:`p` the softmax at temperature 1, :math:`y` the true class, and :math:`\hat p` the softmax at
    temperature :math:`\lambda` over all classes but :math:`y`. In plain cross-entropy to the teacher the other
    classes sum to a different total in teacher and student and can never match; normalised, they can.

    The first part is never at rest: it pulls towards the label even when the student equals the teacher, and a label
    that the teacher thinks wrong pulls little.

    An example whose label is ``-100``, and every example where there are no labels at all, takes the teacher's
    decision for its true class: it can be learnt from, at the same scale as the rest.

    Args:
        temperature: Softening :math:`\lambda` of the other classes, dimensionless, > 0; a number or a schedule.
        gamma: Weight of the other classes, >= 0.

    Shape:
        - student, teacher: ``(B, C)`` logits, C >= 3, any float dtype, same class order; computed in float32.
        - labels: ``(B,)`` or ``(B, 1)`` whole numbers from 0 to C - 1, or ``-100``; optional.
        - output: ``(B,)`` float32, nats, >= 0. Gradient flows to ``student`` only.

    Raises:
        ValueError: ``temperature`` is not > 0, ``gamma`` is negative, the logits differ in shape, there are fewer than
            three classes, or the labels are not one whole number per example, as after mixup.

    Source:
        Yang et al. 2023, arXiv:2303.13005, and the authors' code. The defaults are theirs for CIFAR-100, which they
        use as ``Objective(ce=LabelTerm(1.0), kd=LogitTerm(NormalizedKDLoss()))``; for ImageNet the temperature is 1
        and gamma 1.5. Their second part is a cross-entropy; KL has the same gradient and is 0 when it is matched.

    Example:
        >>> import torch
        >>> student, teacher = torch.zeros(1, 3), torch.tensor([[4., 2., 0.]])
        >>> NormalizedKDLoss(2.0, gamma=1.5)(student, teacher, labels=torch.tensor([0]))
        tensor([1.6180])
    """

    def __init__(self, temperature: float | Schedule = 3.0, gamma: float = 3.5) -> None:
        super().__init__()
        check_weights(gamma=gamma)
        self.temperature = checked_temperature(temperature)
        self.gamma = gamma

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        *,
        mask: Tensor | None = None,
        labels: Tensor | None = None,
        progress: float = 0.0,
    ) -> Tensor:
        student, teacher = as_float32_pair(student, teacher)
        check_several_others(student)
        target = target_class(teacher, labels)
        temperature = self.temperature(progress)
        trust = of_target(F.softmax(teacher, dim=-1), target)
        of_the_true_class = -trust * of_target(F.log_softmax(student, dim=-1), target)
        among_the_others = kl_divergence(
            F.log_softmax(of_others(teacher, target) / temperature, dim=-1),
            F.log_softmax(of_others(student, target) / temperature, dim=-1),
        )
        return of_the_true_class + self.gamma * temperature**2 * among_the_others
