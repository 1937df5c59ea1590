"""Hard targets: the teacher's decision, as if it were the label."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from hf_distill.losses.base import LogitLoss, check_label_smoothing, check_several_classes


class HardTargetLoss(LogitLoss):
    r"""Cross-entropy between the student and the class that the teacher would choose.

    .. math:: L_i = - \sum_c y_{ic} \log q_{ic}, \quad
        y_{ic} = (1 - \epsilon) [c = \arg\max_k z_{t,ik}] + \epsilon / C

    with :math:`q = \mathrm{softmax}(z_s)`, and :math:`L_i = 0` where :math:`\max_c \mathrm{softmax}(z_t)_{ic}` is
    below the confidence threshold. It pseudo-labels data that has no labels, and it needs no temperature. The
    threshold drops examples on which the teacher is guessing; the mean over a batch still counts them.

    Args:
        label_smoothing: Share :math:`\epsilon` of the target spread evenly over all classes, in [0, 1).
        confidence_threshold: Least probability that the teacher must give its choice, in [0, 1). 0 keeps every
            example.

    Shape:
        - student, teacher: ``(B, C)`` logits, C >= 2, any float dtype, same class order; computed in float32.
        - output: ``(B,)`` float32, nats, >= 0. Gradient flows to ``student`` only.

    Raises:
        ValueError: ``label_smoothing`` or ``confidence_threshold`` is not in [0, 1), the logits differ in shape, or
            there is only one class.

    Source:
        Touvron et al. 2021 (DeiT), arXiv:2012.12877, section 4, "Hard-label distillation". The threshold is
        FixMatch's (Sohn et al. 2020, arXiv:2001.07685, section 2.2); 0 gives DeiT's loss.

    Example:
        >>> import torch
        >>> student = torch.tensor([[0., 0.], [0., 0.]])
        >>> teacher = torch.tensor([[3., 0.], [1., 0.]])  # sure to 0.95 and to 0.73
        >>> HardTargetLoss(confidence_threshold=0.8)(student, teacher)
        tensor([0.6931, 0.0000])
    """

    def __init__(self, label_smoothing: float = 0.0, confidence_threshold: float = 0.0) -> None:
        super().__init__()
        check_label_smoothing(label_smoothing)
        if not 0.0 <= confidence_threshold < 1.0:
            raise ValueError(
                f"confidence_threshold is a probability, at least 0 and below 1, got {confidence_threshold}. "
                "For a percentage divide by 100."
            )
        self.label_smoothing = label_smoothing
        self.confidence_threshold = confidence_threshold

    def compare(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        check_several_classes(student)
        confidence, decision = F.softmax(teacher, dim=-1).max(dim=-1)
        loss = F.cross_entropy(student, decision, reduction="none", label_smoothing=self.label_smoothing)
        return loss.masked_fill(confidence < self.confidence_threshold, 0.0)
