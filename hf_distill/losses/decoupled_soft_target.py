"""Decoupled soft targets: how sure of the true class, and which of the others instead, with a weight each."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from hf_distill.losses.base import (
    PairLoss,
    as_float32_pair,
    check_weights,
    checked_temperature,
    kl_divergence,
    yes_or_no_kl_divergence,
)
from hf_distill.losses.target_class import check_several_others, of_others, of_target, target_class
from hf_distill.schedules import Schedule


class DecoupledSoftTargetLoss(PairLoss):
    r"""Soft targets in two parts: the true class against the rest, and the proportions within the rest (DKD).

    .. math:: L_i = T^2 \left[ \alpha \, KL(b_{t,i} \| b_{s,i}) + \beta \, KL(\hat p_{t,i} \| \hat p_{s,i}) \right]

    with :math:`b = (p_y, 1 - p_y)` at temperature T, :math:`y` the true class, and :math:`\hat p` the softmax over all
    classes but :math:`y`. :class:`SoftTargetLoss` is this with :math:`\alpha = 1` and
    :math:`\beta = 1 - p_{t,y}`: where the teacher is sure, it all but drops what the teacher knows about the other
    classes. Here that knowledge has the same weight on every example.

    An example whose label is ``-100``, and every example where there are no labels at all, takes the teacher's
    decision for its true class: it can be learnt from, at the same scale as the rest.

    Args:
        temperature: Softening T, dimensionless, > 0; a number or a schedule.
        alpha: Weight of the true class against the rest, >= 0.
        beta: Weight of the proportions within the rest, >= 0. The less sure the teacher, the smaller it should be.

    Shape:
        - student, teacher: ``(B, C)`` logits, C >= 3, any float dtype, same class order; computed in float32.
        - labels: ``(B,)`` or ``(B, 1)`` whole numbers from 0 to C - 1, or ``-100``; optional.
        - output: ``(B,)`` float32, nats times T², >= 0. Gradient flows to ``student`` only.

    Raises:
        ValueError: ``temperature`` is not > 0, a weight is negative, the logits differ in shape, there are fewer than
            three classes, or the labels are not one whole number per example, as after mixup.

    Source:
        Zhao et al. 2022, arXiv:2203.08679. The defaults are the authors' for CIFAR-100 from VGG-13 to
        VGG-8, which they use as ``Objective(ce=LabelTerm(1.0), kd=LogitTerm(DecoupledSoftTargetLoss(),
        weight=warmup(20 / 240, 1.0)))``; for ImageNet T is 1 and beta 0.5. :math:`\log (1 - p_y)` is a log-sum-exp
        over the other classes, where the authors mask with a large number and take logarithms of probabilities.

    Example:
        >>> import torch
        >>> student, teacher = torch.zeros(1, 3), torch.tensor([[4., 2., 0.]])
        >>> DecoupledSoftTargetLoss(2.0, alpha=1.0, beta=6.0)(student, teacher, labels=torch.tensor([0]))
        tensor([3.5790])
    """

    def __init__(self, temperature: float | Schedule = 4.0, alpha: float = 1.0, beta: float = 6.0) -> None:
        super().__init__()
        check_weights(alpha=alpha, beta=beta)
        self.temperature = checked_temperature(temperature)
        self.alpha = alpha
        self.beta = beta

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
        student, teacher = student / temperature, teacher / temperature
        of_the_true_class = yes_or_no_kl_divergence(log_odds(teacher, target), log_odds(student, target))
        among_the_others = kl_divergence(
            F.log_softmax(of_others(teacher, target), dim=-1), F.log_softmax(of_others(student, target), dim=-1)
        )
        return (self.alpha * of_the_true_class + self.beta * among_the_others) * temperature**2


def log_odds(logits: Tensor, target: Tensor) -> Tensor:
    """log p_y - log (1 - p_y) of each row: the logit of the target as a yes-or-no question."""
    return of_target(logits, target) - of_others(logits, target).logsumexp(dim=-1)
