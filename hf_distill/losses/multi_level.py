"""Multi-level logits: each example, the pairs of examples and the pairs of classes, at several temperatures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hf_distill.losses.base import (
    PairLoss,
    check_weights,
    checked_temperature,
    kl_divergence,
    softened_log_probabilities,
)
from hf_distill.schedules import Schedule


class MultiLevelLogitLoss(PairLoss):
    r"""Soft targets, plus how alike the examples and how alike the classes are, averaged over temperatures (MLKD).

    .. math:: L_i = \frac{1}{|\mathcal T|} \sum_{T \in \mathcal T} \left[ T^2 \, KL(p_i \| q_i)
        + w_b \sum_j \left( p_i \cdot p_j - q_i \cdot q_j \right)^2
        + \frac{w_c}{C} \left\| P^\top P - Q^\top Q \right\|_F^2 \right]

    with :math:`p = \mathrm{softmax}(z_t / T)` and :math:`q = \mathrm{softmax}(z_s / T)`, the rows of :math:`P` and
    :math:`Q`. Averaged over a batch the middle part is :math:`\| P P^\top - Q Q^\top \|_F^2 / B`.

    The last two parts relate the examples of a batch to each other. The last is one number for the batch, added to
    each of its examples so that their mean is the loss. Both depend on which examples share a batch and grow with
    their number, the middle part like :math:`B`, the last like :math:`B` to :math:`B^2`; with gradient accumulation
    or several processes each micro-batch is a batch of its own. Weights of 1 are the authors' for a batch of 64: give
    larger batches smaller ones.

    Args:
        temperatures: The softenings T, dimensionless, > 0; each a number or a schedule.
        batch_weight: Weight :math:`w_b` of the pairs of examples, >= 0.
        class_weight: Weight :math:`w_c` of the pairs of classes, >= 0.

    Shape:
        - student, teacher: ``(B, C)`` logits, C >= 2, any float dtype, same class order; computed in float32.
        - output: ``(B,)`` float32, >= 0. Gradient flows to ``student`` only.

    Raises:
        ValueError: there is no temperature, one is not > 0, a weight is negative, the logits differ in shape, or there
            is only one class.

    Source:
        Jin, Wang and Lin 2023, "Multi-Level Logit Distillation", CVPR 2023, and the authors' code. That takes a weakly
        and a strongly augmented view of each image and sums over both and over the five temperatures, with 0.1 for the
        labels and 0.9 for each part. Its masks of examples and classes do no more than halve what they are applied to:
        once the soft targets of the weak view, and the pairs, which it takes of the weak view only. So the pairs weigh
        a third of the soft targets, and per view its setting for CIFAR-100 is ``Objective(ce=LabelTerm(0.1),
        kd=LogitTerm(MultiLevelLogitLoss(batch_weight=1 / 3, class_weight=1 / 3), weight=3.375))``. Here all views in a
        batch are treated alike, and there are no masks.

    Example:
        >>> import torch
        >>> student, teacher = torch.zeros(2, 2), torch.tensor([[2., 0.], [0., 2.]])
        >>> MultiLevelLogitLoss(temperatures=(2.0, 4.0))(student, teacher)
        tensor([0.4889, 0.4889])
    """

    def __init__(
        self,
        temperatures: Sequence[float | Schedule] = (2.0, 3.0, 4.0, 5.0, 6.0),
        batch_weight: float = 1.0,
        class_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_weights(batch_weight=batch_weight, class_weight=class_weight)
        if not isinstance(temperatures, Sequence) or not temperatures:
            raise ValueError(f"temperatures must hold at least one number, as [4.0] does; got {temperatures!r}.")
        self.temperatures = tuple(checked_temperature(temperature) for temperature in temperatures)
        self.batch_weight = batch_weight
        self.class_weight = class_weight

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        *,
        mask: Tensor | None = None,
        labels: Tensor | None = None,
        progress: float = 0.0,
    ) -> Tensor:
        levels = [self._at(student, teacher, temperature(progress)) for temperature in self.temperatures]
        return torch.stack(levels).mean(dim=0)

    def _at(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        log_q, log_p = softened_log_probabilities(student, teacher, temperature)
        q, p = log_q.exp(), log_p.exp()
        with torch.autocast(q.device.type, enabled=False):  # which would multiply matrices in half precision
            examples = (p @ p.T - q @ q.T).square().sum(dim=-1)
            classes = (p.T @ p - q.T @ q).square().sum() / q.shape[-1]
        return temperature**2 * kl_divergence(log_p, log_q) + self.batch_weight * examples + self.class_weight * classes
