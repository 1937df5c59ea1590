"""DIST: the student keeps the teacher's relations between classes and between examples, not its values."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from hf_distill.losses.base import LogitLoss, check_weights, checked_temperature, softened_log_probabilities
from hf_distill.schedules import Schedule

FLAT = 1e-3
"""Deviations shorter than this, where the greatest probability is 1, are too small for their direction to mean much."""


class DISTLoss(LogitLoss):
    r"""One minus the correlation of teacher and student: over the classes of an example, and over the batch of a class.

    .. math:: L_i = \beta \tau^2 \left[ 1 - \rho(q_{i \cdot}, p_{i \cdot}) \right]
        + \gamma \frac{\tau^2}{C} \sum_c \left[ 1 - \rho(q_{\cdot c}, p_{\cdot c}) \right]

    with :math:`p = \mathrm{softmax}(z_t / \tau)`, :math:`q = \mathrm{softmax}(z_s / \tau)` and :math:`\rho` Pearson's
    correlation. A correlation does not see scale and offset, so a strong teacher's exact probabilities, which a small
    student cannot reach, cost it nothing as long as the order and the proportions agree.

    The second part relates the examples of a batch to each other. It is one number for the batch, added to each of
    its examples so that their mean is the loss. Hence it depends on which examples share a batch: with gradient
    accumulation or several processes each micro-batch is a batch of its own, and a few examples make a poor
    correlation, so prefer a large batch per device. A batch of one has no such relation, and this part is 0.

    Since a correlation does not see scale, its gradient hardly shrinks with :math:`\tau`, and the paper's
    :math:`\tau^2` makes this loss large: with few classes start from :math:`\tau = 1`.

    A row or column whose values are all the same has no correlation. It counts half of :math:`\tau^2` against one
    that varies, and nothing against another such; near that point the gradient stays bounded.

    Args:
        temperature: Softening :math:`\tau`, dimensionless, > 0; a number or a schedule.
        beta: Weight of the relations between classes, >= 0.
        gamma: Weight of the relations between examples, >= 0.

    Shape:
        - student, teacher: ``(B, C)`` logits, C >= 3, any float dtype, same class order; computed in float32. C = 2 is
          possible with ``beta=0.0``.
        - output: ``(B,)`` float32, from 0 to :math:`2 (\beta + \gamma) \tau^2`. Gradient flows to ``student`` only.

    Raises:
        ValueError: ``temperature`` is not > 0, a weight is negative, the logits differ in shape, or there are too few
            classes.

    Source:
        Huang et al. 2022, arXiv:2205.10536. The authors use it for CIFAR-100 as
        ``Objective(ce=LabelTerm(1.0), kd=LogitTerm(DISTLoss(4.0), weight=2.0))``, for ImageNet at
        :math:`\tau = 1`. They add 1e-8 to the product of the norms, which swallows the correlation of classes that
        are improbable in the whole batch; we scale each row and column to a maximum of 1 first.

    Example:
        >>> import torch
        >>> teacher = torch.tensor([[2., 1., 0.], [0., 3., 0.]])
        >>> DISTLoss(1.0)(teacher, teacher)
        tensor([0., 0.])
        >>> DISTLoss(1.0)(teacher.flip(0), teacher)  # each the other's answer: 1.2578 for the classes, 2 for the batch
        tensor([3.2578, 3.2578])
    """

    def __init__(self, temperature: float | Schedule = 4.0, beta: float = 1.0, gamma: float = 1.0) -> None:
        super().__init__()
        check_weights(beta=beta, gamma=gamma)
        self.temperature = checked_temperature(temperature)
        self.beta = beta
        self.gamma = gamma

    def compare(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        log_q, log_p = softened_log_probabilities(student, teacher, temperature)
        if self.beta > 0.0 and log_q.shape[-1] < 3:
            raise ValueError(
                f"Correlating the classes of an example needs at least 3 of them, got {log_q.shape[-1]}: with 2 it is "
                "always 1 or -1 and there is nothing to learn from. Use SoftTargetLoss, or DISTLoss(beta=0.0) for the "
                "relations between examples alone."
            )
        between_classes = one_minus_correlation(log_q, log_p, dim=1)
        between_examples = one_minus_correlation(log_q, log_p, dim=0).mean()
        return (self.beta * between_classes + self.gamma * between_examples) * temperature**2


def one_minus_correlation(log_q: Tensor, log_p: Tensor, dim: int) -> Tensor:
    """1 - ρ of two tensors of probabilities along ``dim``, from their logarithms.

    Of vectors of length 1 it is half of the squared distance, which is exactly 0 where they agree.
    """
    return (unit_deviations(log_q, dim) - unit_deviations(log_p, dim)).square().sum(dim=dim) / 2


def unit_deviations(log_probabilities: Tensor, dim: int) -> Tensor:
    """Probabilities less their mean along ``dim``, as vectors of length 1; shorter where they are :data:`FLAT`."""
    # The direction does not depend on the scale, so neither does the gradient on the greatest value.
    scaled = (log_probabilities - log_probabilities.detach().amax(dim=dim, keepdim=True)).exp()
    return F.normalize(scaled - scaled.mean(dim=dim, keepdim=True), dim=dim, eps=FLAT)
