"""Is the teacher worth following? Asked once, before any training."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import balanced_accuracy_score, confusion_matrix
from torch import Tensor

from hf_distill.labels import MULTI_LABEL, REGRESSION
from hf_distill.losses import NO_LABEL

Numbers: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

BALANCED = "balanced accuracy"
FEWEST_EXAMPLES = 32
"""With fewer labelled examples than this, chance and skill cannot be told apart."""


def check_teacher(name: str, logits: Tensor, labels: Tensor | None, problem_type: str) -> float | None:
    """Score a teacher on labelled examples and refuse one that knows nothing.

    Skill is balanced accuracy for classes, so that a teacher that always gives the commonest answer has none; the
    mean of it over labels for multi-label; and R² for regression.

    Args:
        name: What messages call the teacher.
        logits: ``(N, C)``, in the student's class order.
        labels: ``(N,)`` or ``(N, C)``; ``-100`` where there is none. Of shares of classes the largest counts.
        problem_type: As in :func:`hf_distill.labels.problem_type`.

    Returns:
        The score, or ``None`` where there are too few labels to tell.

    Raises:
        ValueError: the logits are not finite, or the score is near chance; the message says how to go on.
    """
    if not torch.isfinite(logits).all():
        row = int((~torch.isfinite(logits)).any(dim=-1).nonzero()[0])
        raise ValueError(
            f"Teacher {name!r} answers NaN or infinity (example {row} of those it was scored on). Load it in float32, "
            "and check that its weights and inputs are finite."
        )
    if labels is None:
        return None
    labelled = (labels != NO_LABEL).reshape(len(labels), -1).all(dim=-1)
    if int(labelled.sum()) < FEWEST_EXAMPLES:
        return None
    answers, truth = logits[labelled].double().numpy(), labels[labelled].numpy()
    if problem_type == REGRESSION:
        truth = truth.reshape(answers.shape)
        residual, spread = ((truth - answers) ** 2).mean(), ((truth - truth.mean(axis=0)) ** 2).mean()
        return _checked(name, float(1 - residual / spread) if spread else 0.0, "R²", chance=0.0, margin=0.02)
    if problem_type == MULTI_LABEL:
        columns = [column for column in range(answers.shape[1]) if len(np.unique(truth[:, column])) > 1]
        scores = [balanced_accuracy_score(truth[:, column], answers[:, column] > 0) for column in columns]
        margin = _margin(0.5, truth[:, columns].size)
        return _checked(name, float(np.mean(scores)), BALANCED, 0.5, margin) if scores else None
    if truth.ndim == 2 and truth.shape == answers.shape:
        truth = truth.argmax(axis=1)
    classes = len(np.unique(truth))
    if classes < 2:
        return None
    hint = _swapped_classes(answers, truth)
    score = float(balanced_accuracy_score(truth, _most_likely_present(answers, truth)))
    return _checked(name, score, BALANCED, 1 / classes, _margin(1 / classes, len(truth)), hint)


def _most_likely_present(answers: Numbers, truth: Numbers) -> Numbers:
    """The teacher's choice among the classes that occur."""
    present: Numbers = np.unique(truth)
    chosen: Numbers = present[answers[:, present].argmax(axis=1)]
    return chosen


def _margin(chance: float, examples: int) -> float:
    """Two standard errors of a guesser's accuracy."""
    return 2 * math.sqrt(chance * (1 - chance) / examples)


def _checked(name: str, score: float, measure: str, chance: float, margin: float, hint: str = "") -> float:
    if score > chance + margin:
        return score
    cure = (
        hint
        or "Fine-tune it on this task first, for instance with DistillationTrainer(model, teacher_model=None, ...)."
    )
    raise ValueError(
        f"Teacher {name!r} scores {score:.3f} ({measure}) on training examples, where guessing gives {chance:.3f}: it "
        f"has nothing to teach. {cure} (teacher_score_examples=0 skips this check.)"
    )


def _swapped_classes(answers: Numbers, truth: Numbers) -> str:
    """A hint where the teacher is right once its classes are renamed."""
    table = confusion_matrix(truth, answers.argmax(axis=1), labels=np.arange(answers.shape[1]))
    true_class, teacher_class = linear_sum_assignment(table, maximize=True)
    if table[true_class, teacher_class].sum() < 0.7 * len(truth):
        return ""
    renamed = dict(sorted((int(t), int(c)) for c, t in zip(true_class, teacher_class, strict=True) if c != t))
    return (
        f"Its answers fit once its classes are renamed {renamed}: correct its `id2label` and `label2id`, or those of "
        "the student, if it is the student that counts otherwise than the data."
    )
