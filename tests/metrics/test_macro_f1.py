import pytest

from hf_distill.metrics import MacroF1


def test_small_classes_count_as_much_as_large_ones():
    # By hand: class 0 has precision 3/4 and recall 1, F1 6/7; class 1 precision 1 and recall 1/2, F1 2/3.
    score = MacroF1().compute(predictions=[0, 0, 0, 0, 1], references=[0, 0, 0, 1, 1])
    assert score == {"macro_f1": pytest.approx((6 / 7 + 2 / 3) / 2)}


def test_a_class_that_is_never_predicted_counts_as_zero(recwarn):
    assert MacroF1().compute(predictions=[0, 0], references=[0, 1]) == {"macro_f1": pytest.approx((2 / 3) / 2)}
    assert not recwarn.list


def test_probabilities_are_accepted():
    score = MacroF1().compute(predictions=[[0.9, 0.1], [0.2, 0.8]], references=[0, 1])
    assert score == {"macro_f1": 1.0}
