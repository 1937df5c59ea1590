"""The metrics as the ``compute_metrics`` of a Trainer."""

from __future__ import annotations

import evaluate
import numpy as np
from transformers import EvalPrediction

from hf_distill.metrics.accuracy import Accuracy
from hf_distill.metrics.macro_f1 import MacroF1


def classification_metrics(eval_prediction: EvalPrediction) -> dict[str, float]:
    """Accuracy and macro F1, ready to be a Trainer's ``compute_metrics``.

    Examples with a negative label (``-100``) have none and do not count; where no example has a label the result is
    empty.

    Args:
        eval_prediction: What the Trainer hands over: logits (alone, or first in a tuple) and labels.

    Shape:
        - predictions: ``(N, C)`` logits; label_ids: ``(N,)`` class indices.

    Example:
        >>> import numpy as np
        >>> logits = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0], [0.0, 9.0]])
        >>> classification_metrics(EvalPrediction(logits, np.array([0, 1, 0, -100])))
        {'accuracy': 1.0, 'macro_f1': 1.0}
    """
    predictions = eval_prediction.predictions
    logits = np.asarray(predictions[0] if isinstance(predictions, tuple) else predictions)
    labels = np.asarray(eval_prediction.label_ids)
    labelled = labels >= 0
    if not labelled.any():
        return {}
    classes = logits[labelled].argmax(axis=-1)
    metrics = evaluate.combine([Accuracy(), MacroF1()])
    scores: dict[str, float] = metrics.compute(predictions=classes, references=labels[labelled])
    return scores
