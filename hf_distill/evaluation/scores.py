"""The numbers of a comparison: one model's own, and those between teacher, student and control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import evaluate
import numpy as np
import torch
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torch.nn import functional as F

from hf_distill.evaluation.prediction import Predictions
from hf_distill.losses.base import kl_divergence
from hf_distill.metrics import Accuracy, ExpectedCalibrationError, MacroF1, reliability_bins

MOST_CLASSES_IN_CONFUSION = 100


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1); ``None`` instead of a deviation of a single value.

    Example:
        >>> mean_and_std([1.0, 3.0]), mean_and_std([5])
        ((2.0, 1.41421...), (5, None))
    """
    mean = values[0] if len(set(values)) == 1 else float(np.mean(values))
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else None


def over_seeds(figures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean of each figure over the seeds, and beside it, under ``<key>_std``, the sample standard deviation.

    Args:
        figures: One dict a seed, of numbers, ``None``, or dicts of numbers.

    Example:
        >>> over_seeds([{"accuracy": 0.5, "latency_ms": {"p50": 1.0}}, {"accuracy": 0.5, "latency_ms": {"p50": 2.0}}])
        {'accuracy': 0.5, 'accuracy_std': 0.0, 'latency_ms': {'p50': 1.5}, 'latency_ms_std': {'p50': 0.70710...}}
    """
    result: dict[str, Any] = {}
    for key, first in figures[0].items():
        values = [figure[key] for figure in figures]
        if first is None:
            result[key], result[f"{key}_std"] = None, None
        elif isinstance(first, dict):
            pairs = {name: mean_and_std([value[name] for value in values]) for name in first}
            result[key] = {name: mean for name, (mean, _) in pairs.items()}
            result[f"{key}_std"] = {name: std for name, (_, std) in pairs.items()} if len(values) > 1 else None
        else:
            result[key], result[f"{key}_std"] = mean_and_std(values)
    return result


def own_scores(predictions: Predictions) -> dict[str, float]:
    """Accuracy, macro F1 and expected calibration error of labelled predictions."""
    metrics = evaluate.combine([Accuracy(), MacroF1(), ExpectedCalibrationError()])
    scores: dict[str, float] = metrics.compute(predictions=predictions.probabilities, references=predictions.labels)
    return scores


def class_scores(seeds: Sequence[Predictions], names: Sequence[str]) -> dict[str, Any]:
    """Precision, recall, F1 and support of each class that occurs, the confusion matrix and the reliability bins.

    Args:
        seeds: Labelled predictions of one split, one a seed.
        names: The class names in the order of the logits.

    Returns:
        ``per_class`` with ``per_class_std``; ``confusion`` (rows are true classes; counts, means over seeds; ``None``
        for more than 100 classes); ``reliability``, the bins of the calibration error with all seeds together.
    """
    everything = range(len(names))
    labels = np.concatenate([_labels(seed) for seed in seeds])
    classes = np.concatenate([seed.classes for seed in seeds])
    tables = np.stack(
        [
            np.stack(precision_recall_fscore_support(_labels(seed), seed.classes, labels=everything, zero_division=0))
            for seed in seeds
        ]
    )
    occurring = np.union1d(labels, classes).tolist()
    columns = ("precision", "recall", "f1")
    means, support = tables[:, :3].mean(axis=0), tables[0, 3]
    confusion = confusion_matrix(labels, classes, labels=everything) / len(seeds)
    confidence, accuracy, count = reliability_bins(np.concatenate([seed.probabilities for seed in seeds]), labels)
    result: dict[str, Any] = {
        "per_class": {
            names[index]: {**dict(zip(columns, means[:, index].tolist(), strict=True)), "support": int(support[index])}
            for index in occurring
        },
        "per_class_std": None,
        "confusion": confusion.tolist() if len(names) <= MOST_CLASSES_IN_CONFUSION else None,
        "reliability": {"confidence": confidence.tolist(), "accuracy": accuracy.tolist(), "count": count.tolist()},
    }
    if len(seeds) > 1:
        stds = tables[:, :3].std(axis=0, ddof=1)
        result["per_class_std"] = {
            names[index]: dict(zip(columns, stds[:, index].tolist(), strict=True)) for index in occurring
        }
    return result


def agreement(student: Predictions, teacher: Predictions) -> float:
    """Share of examples for which student and teacher decide for the same class."""
    return float((student.classes == teacher.classes).mean())


def kl_nats(student: Predictions, teacher: Predictions) -> float:
    """Mean KL divergence from the teacher's class probabilities to the student's, at temperature 1, in nats."""
    log_p, log_q = (F.log_softmax(torch.from_numpy(model.logits).double(), dim=-1) for model in (teacher, student))
    return float(kl_divergence(log_p, log_q).mean())


NO_LEAD = 1e-9
"""A lead in accuracy that is only the rounding of a mean: one example in a thousand million."""


def gap_closed(
    teacher: float, students: Sequence[float], controls: Sequence[float] | None
) -> tuple[float | None, float | None]:
    """How much of the teacher's lead over the control the student gained, with its standard deviation over seeds.

    The gap closed is that of the mean accuracies, which a seed with a small gap cannot blow up; the deviation is that
    of each seed's own gap.

    Args:
        teacher: The teacher's accuracy.
        students: The student's accuracy for each seed.
        controls: The control's accuracy for the same seeds.

    Returns:
        ``(student - control) / (teacher - control)``, or ``None`` where there is no control or the teacher is not
        better than it; then its deviation, or ``None`` for one seed or where some seed has no gap.

    Example:
        >>> gap_closed(1.0, [0.75, 0.75], [0.5, 0.5])
        (0.5, 0.0)
        >>> gap_closed(0.5, [0.75], [0.75])
        (None, None)
    """
    if not controls or teacher - np.mean(controls) < NO_LEAD:
        return None, None
    mean = float((np.mean(students) - np.mean(controls)) / (teacher - np.mean(controls)))
    if len(controls) < 2 or teacher - max(controls) < NO_LEAD:
        return mean, None
    own = [(student - control) / (teacher - control) for student, control in zip(students, controls, strict=True)]
    return mean, float(np.std(own, ddof=1))


def _labels(predictions: Predictions) -> Any:
    if predictions.labels is None:
        raise ValueError("These predictions have no labels to be scored against. Choose a labelled split.")
    return predictions.labels
