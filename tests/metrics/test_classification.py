import numpy as np
from transformers import EvalPrediction

from hf_distill.metrics import classification_metrics


def test_unlabelled_examples_do_not_count_and_logits_come_first_in_a_tuple():
    logits = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    labels = np.array([0, 1, -100, 1])
    # By hand: classes 0, 1, 0 for labels 0, 1, 1: both classes have F1 2/3.
    scores = classification_metrics(EvalPrediction((logits, np.zeros((4, 3))), labels))
    assert scores.keys() == {"accuracy", "macro_f1"}
    np.testing.assert_allclose([scores["accuracy"], scores["macro_f1"]], 2 / 3)


def test_no_label_at_all_gives_no_score():
    assert classification_metrics(EvalPrediction(np.zeros((2, 2)), np.array([-100, -100]))) == {}
