import numpy as np
import pytest

from hf_distill.metrics import ExpectedCalibrationError, reliability_bins


def test_value_calculated_by_hand():
    # Confidences 0.95, 0.95, 0.70, 0.52; right, wrong, right, wrong. With 15 bins, 0.95 lies in (14/15, 1], 0.70 in
    # (10/15, 11/15] and 0.52 in (7/15, 8/15]: 2/4 * |0.5 - 0.95| + 1/4 * |1 - 0.70| + 1/4 * |0 - 0.52|.
    probabilities = [[0.95, 0.05], [0.05, 0.95], [0.30, 0.70], [0.52, 0.48]]
    score = ExpectedCalibrationError().compute(predictions=probabilities, references=[0, 0, 1, 1])
    assert score == {"ece": pytest.approx(0.225 + 0.075 + 0.13)}


def test_equals_a_plain_loop_over_the_bins():
    """Against the definition of Guo et al., written as a loop over masks."""
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet([0.5] * 4, size=500), rng.integers(0, 4, 500)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    score = ExpectedCalibrationError().compute(predictions=probabilities, references=labels)
    assert score["ece"] == pytest.approx(expected)


def test_bin_edges_belong_to_the_bin_below_and_certainty_to_the_last():
    _, _, count = reliability_bins([[0.5, 0.5], [1.0, 0.0]], [0, 0], bins=4)
    assert count.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("rows", [[[2.0, -1.0]], [[0.5, 0.4]], [0.5]])
def test_logits_are_refused(rows):
    with pytest.raises(ValueError, match="softmax"):
        reliability_bins(rows, [0])
