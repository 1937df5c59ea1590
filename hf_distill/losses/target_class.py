"""Taking the true class of each example apart from all the others, without ever forming ``1 - p``."""

from __future__ import annotations

import torch
from torch import Tensor

from hf_distill.losses.label import NO_LABEL


def target_class(teacher: Tensor, labels: Tensor | None) -> Tensor:
    """The true class of each example, ``(B,)``; the teacher's decision where nobody knows it.

    An example without a label is not dropped: the teacher can teach there too, which is often why the example is in
    the data. Its decision is the best guess at the label, and keeps the loss of all examples of one form and size.

    Args:
        teacher: ``(B, C)`` logits.
        labels: ``(B,)`` or ``(B, 1)`` whole numbers, ``-100`` where there is no label; ``None`` when there are none.

    Raises:
        ValueError: the labels are not one whole number per example, or one is no class.
    """
    decision = teacher.argmax(dim=-1)
    if labels is None:
        return decision
    examples = len(teacher)
    if labels.is_floating_point() or tuple(labels.shape) not in ((examples,), (examples, 1)):
        raise ValueError(
            f"This loss treats the true class apart, so labels must be one whole number per example, of shape "
            f"({examples},); got {labels.dtype} of shape {tuple(labels.shape)}. Mixed labels (mixup, CutMix) and "
            "several labels at once have no single true class: use SoftTargetLoss or MultiLabelTargetLoss for them."
        )
    labels = labels.reshape(-1).long()
    target = torch.where(labels == NO_LABEL, decision, labels)
    # On an accelerator it would have to be waited for; indexing complains there by itself.
    classes = teacher.shape[-1]
    if target.device.type == "cpu" and not ((target >= 0) & (target < classes)).all():
        raise ValueError(
            f"Labels must be classes from 0 to {classes - 1}, or {NO_LABEL} where there is none; got "
            f"{labels.min().item()} to {labels.max().item()}."
        )
    return target


def of_target(values: Tensor, target: Tensor) -> Tensor:
    """What each row of ``values``, ``(B, C)``, holds for its target class: ``(B,)``."""
    return values.gather(-1, target.unsqueeze(-1)).squeeze(-1)


def of_others(values: Tensor, target: Tensor) -> Tensor:
    """Each row of ``values`` without its target class: ``(B, C - 1)``, the order kept."""
    columns = torch.arange(values.shape[-1] - 1, device=values.device).expand(len(values), -1)
    return values.gather(-1, columns + (columns >= target.unsqueeze(-1)))


def check_several_others(logits: Tensor) -> None:
    """Refuse two classes: next to the true one there is only one other, so the others have no proportions to learn.

    Raises:
        ValueError: ``logits`` has fewer than three columns.
    """
    if logits.shape[-1] < 3:
        raise ValueError(
            f"Telling the classes other than the true one apart needs at least 3 classes, got {logits.shape[-1]}: with "
            "2 there is a single other class, whose share of the others is always 1. Use SoftTargetLoss instead."
        )
