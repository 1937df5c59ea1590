"""What the metrics share: what they accept, and no files for what fits in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import datasets
import evaluate
import numpy as np
from numpy.typing import NDArray

LABEL_FEATURES = {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
"""One predicted and one true class index an example."""

PROBABILITY_FEATURES = {
    "predictions": datasets.Sequence(datasets.Value("float64")),
    "references": datasets.Value("int64"),
}
"""A row of class probabilities (or logits, where only their order counts) and the true class index."""


class InMemoryMetric(evaluate.Metric, ABC):
    """An ``evaluate.Metric`` that computes in memory.

    ``evaluate`` writes every prediction to an Arrow file below the user's home before it counts. That fails in a
    read-only home and makes several processes wait for each other's locks. These metrics write no file, unless several
    processes share one computation (``num_process > 1``), which needs the files.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["keep_in_memory"] = kwargs.get("num_process", 1) == 1
        super().__init__(*args, **kwargs)

    def _build_data_dir(self) -> str:
        return "" if self.keep_in_memory else str(super()._build_data_dir())

    @abstractmethod
    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        """Return the score under its name."""


def predicted_classes(predictions: Any) -> NDArray[np.int64]:
    """Class indices ``(N,)`` as they are; of rows ``(N, C)`` the index of the largest entry."""
    array = np.asarray(predictions)
    return array.argmax(axis=1) if array.ndim == 2 else array
