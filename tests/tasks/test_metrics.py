"""Metrics by task."""

from __future__ import annotations

import numpy as np
import pytest
from transformers import EvalPrediction

from hf_distill import Tasks, task_metrics

TASKS = Tasks({"tone": ["bad", "good"], "topic": ["film", "music", "art"]})
LOGITS = np.array([[1.0, 0, 9, 9, 9], [1, 0, 9, 9, 9], [9, 9, 0, 1, 0], [9, 9, 0, 1, 2], [9, 9, 2, 1, 0]])


def test_each_task_has_its_own_and_their_mean_has_the_plain_name() -> None:
    found = task_metrics(TASKS)(EvalPrediction(LOGITS, np.array([0, 1, 3, 3, -100])))
    assert (found["accuracy_tone"], found["accuracy_topic"], found["accuracy"]) == (0.5, 0.5, 0.5)
    found = task_metrics(TASKS)(EvalPrediction((LOGITS, "hidden"), np.array([0, 1, 3, 4, 2])))
    assert (found["accuracy_tone"], found["accuracy_topic"], found["accuracy"]) == (0.5, 1.0, 0.75)
    assert found["macro_f1"] == pytest.approx((found["macro_f1_tone"] + found["macro_f1_topic"]) / 2)


def test_a_task_that_does_not_occur_is_left_out() -> None:
    found = task_metrics(TASKS)(EvalPrediction(LOGITS, np.array([-100, -100, 3, 4, 2])))
    assert {name for name in found if name.startswith("accuracy")} == {"accuracy", "accuracy_topic"}
    assert task_metrics(TASKS)(EvalPrediction(LOGITS, np.full(5, -100))) == {}


def test_any_metric_sees_the_tasks_own_numbers() -> None:
    def shape(prediction: EvalPrediction) -> dict[str, float]:
        return {"classes": prediction.predictions.shape[1], "largest": prediction.label_ids.max()}

    found = task_metrics(TASKS, shape)(EvalPrediction(LOGITS, np.array([0, 1, 3, 4, 2])))
    assert found == {
        "classes": 2.5, "largest": 1.5, "classes_tone": 2, "largest_tone": 1, "classes_topic": 3, "largest_topic": 2,
    }  # fmt: skip
