"""F1 of each class, averaged over the classes: small classes count as much as large ones."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
from sklearn.metrics import f1_score

from hf_distill.metrics.base import LABEL_FEATURES, PROBABILITY_FEATURES, InMemoryMetric, predicted_classes


class MacroF1(InMemoryMetric):
    """Unweighted mean of the classes' F1 scores, from 0 to 1.

    The mean goes over the classes that occur in the predictions or the references; a class that is never predicted
    counts as 0. Takes class indices, or rows of probabilities or logits, whose largest entry is then the prediction.

    Example:
        >>> MacroF1().compute(predictions=[0, 0, 1, 1], references=[0, 0, 1, 1])
        {'macro_f1': 1.0}
    """

    def _info(self) -> Any:
        return evaluate.MetricInfo(
            description="Unweighted mean of the classes' F1 scores.",
            citation="",
            inputs_description="predictions: class indices, or rows of class probabilities; references: class indices.",
            features=[datasets.Features(LABEL_FEATURES), datasets.Features(PROBABILITY_FEATURES)],
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        classes = predicted_classes(predictions)
        return {"macro_f1": float(f1_score(references, classes, average="macro", zero_division=0))}
