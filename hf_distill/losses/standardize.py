"""Logit standardisation: a transform in front of any loss between logits."""

from __future__ import annotations

from torch import Tensor

from hf_distill.losses.base import PairLoss, as_float32_pair


class StandardizedLogits(PairLoss):
    r"""Give both models' logits mean 0 and standard deviation 1 in each row, then apply a loss.

    .. math:: L_i = \ell\left( \frac{z_{s,i} - \bar z_{s,i}}{\mathrm{std}(z_{s,i}) + 10^{-7}},
        \frac{z_{t,i} - \bar z_{t,i}}{\mathrm{std}(z_{t,i}) + 10^{-7}} \right)

    A small student cannot reach the large logits of a sure teacher and need not: it learns how the classes relate,
    at a scale of its own. Labels must keep the raw logits, so put this around the teacher's loss only.

    A row of equal logits has a gradient of up to :math:`10^7`: do not start a student from a head of zeros.

    It needs three classes. With two, every row becomes :math:`\pm 1/\sqrt 2`: nothing but the decision survives, and
    the student's gradient is 0 wherever it is not undefined. That is an error here, not a silent end of learning.

    Args:
        loss: The loss that sees the standardised logits. Its temperature applies after the transform.

    Shape:
        - student, teacher: ``(B, C)`` logits, C >= 3, any float dtype, same class order; computed in float32.
        - output: that of ``loss``, usually ``(B,)`` float32. Gradient flows to ``student`` only.

    Raises:
        ValueError: ``loss`` is none, there are fewer than three classes, or the logits differ in shape.

    Source:
        Sun et al. 2024, arXiv:2403.01427, algorithm 1 and the authors' code (unbiased standard deviation, 1e-7). They
        write the temperature into the transform; here it stays in the loss, with the same result.

    Example:
        >>> import torch
        >>> from hf_distill.losses import SoftTargetLoss
        >>> loss = StandardizedLogits(SoftTargetLoss(2.0))
        >>> teacher = torch.tensor([[1., 2., 6.]])
        >>> loss(teacher / 3 + 5, teacher) < 1e-6  # another mean and scale cost nothing
        tensor([True])
    """

    def __init__(self, loss: PairLoss) -> None:
        super().__init__()
        if isinstance(loss, type) or not callable(loss):
            name = loss.__name__ if isinstance(loss, type) else repr(loss)
            raise ValueError(f"StandardizedLogits goes around a loss, such as SoftTargetLoss(4.0); got {name}.")
        self.loss = loss

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
        if student.shape[-1] < 3:
            raise ValueError(
                f"Standardising logits needs at least 3 classes, got {student.shape[-1]}: with 2, each row becomes "
                "(0.707, -0.707) or its reverse and there is nothing left to learn from. Use the inner loss, "
                f"{type(self.loss).__name__}, on its own."
            )
        loss: Tensor = self.loss(
            standardize(student), standardize(teacher), mask=mask, labels=labels, progress=progress
        )
        return loss

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.loss!r})"


def standardize(logits: Tensor) -> Tensor:
    """Each row less its mean, over its unbiased standard deviation."""
    mean, std = logits.mean(dim=-1, keepdim=True), logits.std(dim=-1, keepdim=True)
    return (logits - mean) / (std + 1e-7)
