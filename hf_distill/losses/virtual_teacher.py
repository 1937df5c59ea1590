"""A teacher without a model: it knows the labels, and is never quite sure."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hf_distill.losses.base import at_least_float32, check_several_classes
from hf_distill.losses.label import NO_LABEL, ClassificationLoss, LabelLoss


class VirtualTeacherLoss(LabelLoss):
    r"""KL divergence from a teacher that is right everywhere, but never quite sure, to the student (Tf-KD).

    .. math:: L_i = T^2 \sum_c u_{ic} (\log u_{ic} - \log q_{ic}), \quad u_{ic} \propto p_{ic}^{1/T}, \quad
        p_{ic} = \begin{cases} a & c = y_i \\ (1 - a) / (C - 1) & \text{else} \end{cases}

    with :math:`q = \mathrm{softmax}(z / T)`. It is label smoothing, on softened logits: it keeps a student from being
    too sure, and knows nothing of which classes are alike. It stands in a
    :class:`~hf_distill.LabelTerm` beside the plain labels: ``LabelTerm(0.9, VirtualTeacherLoss())``.

    Args:
        temperature: Softening T of both, dimensionless, > 0.
        correct: How sure the teacher is of the true class before it is softened, :math:`a`, above 0 and below 1.

    Shape:
        - logits: ``(B, C)``, C >= 2, any float dtype; computed in float32.
        - labels: as for :class:`ClassificationLoss`. For mixed images, which have shares of two classes, the constant
          :math:`\sum u \log u` is that of whole ones; the gradient is the same.
        - output: ``(B,)`` float32, nats times T², >= 0; 0 without a label.

    Raises:
        ValueError: ``temperature`` is not > 0, ``correct`` not between 0 and 1, or logits and labels do not fit.

    Source:
        Yuan et al. 2020, arXiv:1909.11723, section 4.2, Tf-KD_reg, with T = 20 and a >= 0.9. The authors' code softens
        the probabilities as if they were logits, and does not soften the student; the formula here is the paper's.

    Example:
        >>> VirtualTeacherLoss(temperature=1.0, correct=0.9)(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
        tensor([0.3681])
    """

    def __init__(self, temperature: float = 20.0, correct: float = 0.99) -> None:
        super().__init__()
        if not 0.0 < temperature < math.inf:
            raise ValueError(f"temperature must be a finite number > 0, got {temperature}.")
        if not 0.0 < correct < 1.0:
            raise ValueError(f"correct must be above 0 and below 1, got {correct}.")
        self.temperature, self.correct = temperature, correct

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        check_several_classes(logits)
        classes = logits.shape[-1]
        # What is left to the other classes is spread evenly, which is label smoothing with this share:
        odds = ((1 - self.correct) / (classes - 1) / self.correct) ** (1 / self.temperature)
        sure = 1 / (1 + (classes - 1) * odds)
        smoothed = ClassificationLoss((1 - sure) * classes / (classes - 1))
        entropy = -sure * math.log(sure) - (1 - sure) * math.log((1 - sure) / (classes - 1))
        loss: Tensor = smoothed(at_least_float32(logits) / self.temperature, labels) - entropy
        known = torch.ne(labels, NO_LABEL).reshape(len(labels), -1).all(dim=-1)
        return (loss * self.temperature**2).masked_fill(~known, 0.0)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, correct={self.correct}"
