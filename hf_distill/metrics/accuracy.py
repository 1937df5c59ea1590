"""Share of examples whose predicted class is the true one."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
from sklearn.metrics import accuracy_score

from hf_distill.metrics.base import LABEL_FEATURES, PROBABILITY_FEATURES, InMemoryMetric, predicted_classes


class Accuracy(InMemoryMetric):
    """Share of examples whose predicted class is the true one, from 0 to 1.

    Takes class indices, or rows of probabilities or logits, whose largest entry is then the prediction.

    Example:
        >>> Accuracy().compute(predictions=[0, 1, 1, 0], references=[0, 1, 0, 0])
        {'accuracy': 0.75}
    """

    def _info(self) -> Any:
        return evaluate.MetricInfo(
            description="Share of examples whose predicted class is the true one.",
            citation="",
            inputs_description="predictions: class indices, or rows of class probabilities; references: class indices.",
            features=[datasets.Features(LABEL_FEATURES), datasets.Features(PROBABILITY_FEATURES)],
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"accuracy": float(accuracy_score(references, predicted_classes(predictions)))}
