"""Metrics of each task, and their mean."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from transformers import EvalPrediction

from hf_distill.losses import NO_LABEL
from hf_distill.metrics import classification_metrics
from hf_distill.tasks.names import Tasks


def task_metrics(
    tasks: Tasks, metrics: Callable[[EvalPrediction], dict[str, float]] = classification_metrics
) -> Callable[[EvalPrediction], dict[str, float]]:
    """A Trainer's ``compute_metrics`` for a student of several tasks.

    Args:
        tasks: The tasks of the student.
        metrics: What is computed of each, from its own logits and labels.

    Returns:
        A function that gives ``METRIC_TASK`` of each task that occurs, and ``METRIC``, the mean over these tasks.

    Example:
        >>> compute = task_metrics(Tasks({"tone": ["bad", "good"], "topic": ["film", "music"]}))
        >>> logits = np.array([[1.0, 0.0, 9.0, 9.0], [9.0, 9.0, 0.0, 1.0], [9.0, 9.0, 0.0, 1.0]])
        >>> found = compute(EvalPrediction(logits, np.array([0, 2, 3])))
        >>> found["accuracy_tone"], found["accuracy_topic"], found["accuracy"]
        (1.0, 0.5, 0.75)
    """

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        given = prediction.predictions
        logits = np.asarray(given[0] if isinstance(given, tuple) else given)
        labels = torch.as_tensor(np.asarray(prediction.label_ids))
        found: dict[str, dict[str, float]] = {}
        for task in tasks:
            own = tasks.own_labels(task, labels).numpy()
            rows = own != NO_LABEL
            if rows.any():
                found[task] = metrics(EvalPrediction(logits[rows, tasks.outputs(task)], own[rows]))
        named = {f"{metric}_{task}": value for task, scores in found.items() for metric, value in scores.items()}
        shared = [metric for metric in next(iter(found.values()), {}) if all(metric in its for its in found.values())]
        return {**{metric: float(np.mean([its[metric] for its in found.values()])) for metric in shared}, **named}

    return compute
