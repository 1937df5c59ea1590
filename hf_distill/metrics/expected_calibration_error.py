"""How far a classifier's confidence is from its accuracy."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_distill.metrics.base import PROBABILITY_FEATURES, InMemoryMetric


class ExpectedCalibrationError(InMemoryMetric):
    r"""Mean distance between confidence and accuracy, over bins of equal width, from 0 to 1.

    .. math:: \mathrm{ECE} = \sum_m \frac{|B_m|}{n} \, |\mathrm{acc}(B_m) - \mathrm{conf}(B_m)|

    An example's confidence is the probability of its predicted class; :math:`B_m` holds the examples whose confidence
    lies in :math:`((m-1)/M, m/M]`, with :math:`M = 15`. 0 means that of the predictions made with 80 % confidence,
    80 % are right.

    Raises:
        ValueError: the predictions are not probabilities: outside [0, 1], or rows that do not add up to 1.

    Source:
        Guo, Pleiss, Sun, Weinberger 2017, arXiv:1706.04599, section 2; 15 bins as in its experiments.

    Example:
        >>> probabilities = [[0.75, 0.25], [0.75, 0.25], [0.25, 0.75], [0.25, 0.75]]
        >>> ExpectedCalibrationError().compute(predictions=probabilities, references=[0, 0, 1, 0])
        {'ece': 0.0}
    """

    def _info(self) -> Any:
        return evaluate.MetricInfo(
            description="Mean distance between a classifier's confidence and its accuracy, over 15 bins.",
            citation="Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv:1706.04599",
            inputs_description="predictions: rows of class probabilities; references: class indices.",
            features=datasets.Features(PROBABILITY_FEATURES),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        confidence, accuracy, count = reliability_bins(predictions, references)
        return {"ece": float(np.average(np.abs(accuracy - confidence), weights=count))}


def reliability_bins(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = 15
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Mean confidence, accuracy and number of examples in each confidence bin.

    Args:
        probabilities: Class probabilities of each example.
        labels: The true class indices.
        bins: Number of bins of equal width, each open below and closed above.

    Shape:
        - probabilities: ``(N, C)``; labels: ``(N,)``.
        - output: three arrays ``(bins,)``; confidence and accuracy are 0 where a bin is empty.

    Raises:
        ValueError: the rows are not probabilities.

    Example:
        >>> reliability_bins([[0.9, 0.1], [0.3, 0.7]], [0, 0], bins=2)
        (array([0. , 0.8]), array([0. , 0.5]), array([0, 2]))
    """
    rows = np.asarray(probabilities, dtype=np.float64)
    if rows.ndim != 2 or (rows < 0).any() or not np.allclose(rows.sum(axis=1), 1.0, atol=1e-3):
        raise ValueError(
            "Calibration needs class probabilities: one row an example, entries >= 0 that add up to 1; got an array "
            f"of shape {rows.shape} starting with {rows[:1].tolist()}. Put logits through a softmax first."
        )
    confidence = rows.max(axis=1)
    correct = rows.argmax(axis=1) == np.asarray(labels)
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    at_least_one = np.maximum(count, 1)
    return (
        np.bincount(index, weights=confidence, minlength=bins) / at_least_one,
        np.bincount(index, weights=correct, minlength=bins) / at_least_one,
        count,
    )
