import math

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy
from sklearn.metrics import classification_report

from hf_distill.evaluation.prediction import Predictions
from hf_distill.evaluation.scores import (
    agreement,
    class_scores,
    gap_closed,
    kl_nats,
    mean_and_std,
    over_seeds,
    own_scores,
)


def random_predictions(seed, rows=60, classes=3):
    rng = np.random.default_rng(seed)
    return Predictions(rng.normal(size=(rows, classes)).astype(np.float32), np.arange(rows) % classes)


def test_kl_equals_scipys_from_the_teacher_to_the_student():
    student, teacher = random_predictions(0), random_predictions(1)
    expected = entropy(softmax(teacher.logits, axis=1), softmax(student.logits, axis=1), axis=1).mean()
    assert kl_nats(student, teacher) == pytest.approx(expected, rel=1e-6)
    assert kl_nats(teacher, teacher) == 0.0


def test_kl_by_hand():
    student = Predictions.from_probabilities([[0.5, 0.5]])
    teacher = Predictions.from_probabilities([[0.75, 0.25]])
    assert kl_nats(student, teacher) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_agreement_is_about_decisions():
    student = Predictions.from_probabilities([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4], [0.1, 0.9]])
    teacher = Predictions.from_probabilities([[0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.4, 0.6]])
    assert agreement(student, teacher) == 0.75


def test_gap_is_that_of_the_means_and_its_deviation_that_of_the_seeds():
    # By hand: means 0.85 and 0.80 of a teacher's 0.90: 1/2; by seed 0.02/0.08 = 1/4 and 0.08/0.12 = 2/3.
    mean, std = gap_closed(0.90, [0.84, 0.86], [0.82, 0.78])
    assert mean == pytest.approx(0.5)
    assert std == pytest.approx((2 / 3 - 1 / 4) / math.sqrt(2))


@pytest.mark.parametrize(
    ("teacher", "controls", "expected"),
    [(0.8, [0.8], (None, None)), (0.7, [0.8], (None, None)), (0.9, None, (None, None)), (0.9, [], (None, None))],
)
def test_no_gap_no_share_of_it(teacher, controls, expected):
    assert gap_closed(teacher, [0.85], controls) == expected


def test_a_lead_that_is_only_rounding_is_none():
    controls = [0.1 + 0.2, 0.3, 0.3]
    teacher = float(np.nextafter(np.mean(controls), 1))
    assert gap_closed(teacher, [0.5, 0.5, 0.5], controls) == (None, None)


def test_a_seed_without_a_gap_leaves_no_deviation():
    assert gap_closed(0.9, [0.9, 0.9], [0.9, 0.8]) == (pytest.approx(1.0), None)


def test_a_student_below_its_control_widens_the_gap():
    assert gap_closed(0.9, [0.7], [0.8])[0] == pytest.approx(-1.0)


def test_means_and_sample_deviations():
    assert mean_and_std([1.0, 2.0, 6.0]) == (3.0, pytest.approx(math.sqrt((4 + 1 + 9) / 2)))
    one = over_seeds([{"accuracy": 0.5, "parameters": 7, "latency_ms": {"p50": 1.0}, "size_mb": None}])
    assert one == {
        **{"accuracy": 0.5, "parameters": 7, "latency_ms": {"p50": 1.0}, "size_mb": None},
        **{"accuracy_std": None, "parameters_std": None, "latency_ms_std": None, "size_mb_std": None},
    }


def test_own_scores_by_hand():
    # Right, wrong, right, right at confidence 0.9, all in one bin: |3/4 - 0.9|; F1 of the classes 2/3 and 4/5.
    probabilities = [[0.9, 0.1], [0.1, 0.9], [0.1, 0.9], [0.1, 0.9]]
    scores = own_scores(Predictions.from_probabilities(probabilities, [0, 0, 1, 1]))
    expected = {"accuracy": 0.75, "macro_f1": (2 / 3 + 4 / 5) / 2, "ece": 0.15}
    assert scores == {key: pytest.approx(value, abs=1e-6) for key, value in expected.items()}


def test_classes_equal_sklearns_over_two_seeds():
    seeds, names = [random_predictions(0), random_predictions(1)], ["a", "b", "c"]
    found = class_scores(seeds, names)
    by_seed = [
        classification_report(seed.labels, seed.classes, target_names=names, output_dict=True, zero_division=0)
        for seed in seeds
    ]
    for name in names:
        for ours, theirs in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            values = [report[name][theirs] for report in by_seed]
            assert found["per_class"][name][ours] == pytest.approx(np.mean(values))
            assert found["per_class_std"][name][ours] == pytest.approx(np.std(values, ddof=1))
        assert found["per_class"][name]["support"] == 20
    assert np.sum(found["confusion"]) == 60
    np.testing.assert_allclose(np.sum(found["confusion"], axis=1), [20, 20, 20])
    assert sum(found["reliability"]["count"]) == 120


def test_a_class_that_never_occurs_is_left_out():
    logits = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    assert list(class_scores([Predictions(logits, np.array([0, 1]))], ["a", "b", "c"])["per_class"]) == ["a", "b"]


def test_confusion_is_not_kept_for_many_classes():
    many = random_predictions(0, rows=303, classes=101)
    assert class_scores([many], [str(number) for number in range(101)])["confusion"] is None
