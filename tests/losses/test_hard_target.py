"""Expected values: the formula in plain float64 numpy with an explicit target distribution, or by hand."""

import numpy as np
import pytest
import torch

from hf_distill.losses import HardTargetLoss

STUDENT = torch.tensor([[0.3, -1.2, 2.0], [1.0, 1.0, 1.0], [-4.0, 0.5, 0.0]])
TEACHER = torch.tensor([[1.5, 0.2, -0.7], [0.0, 9.0, -2.0], [-3.0, 0.5, 0.1]])
DECISIONS = np.eye(3)[[0, 1, 1]]
CONFIDENCES = [0.722, 1.000, 0.588]  # by hand: exp(z_max) over the sum of exp(z)


def softmax(logits):
    powers = np.exp(logits.double().numpy())
    return powers / powers.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
def test_values(smoothing):
    target = (1 - smoothing) * DECISIONS + smoothing / 3
    expected = -(target * np.log(softmax(STUDENT))).sum(axis=-1)
    np.testing.assert_allclose(HardTargetLoss(smoothing)(STUDENT.double(), TEACHER.double()), expected, rtol=1e-9)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradient_is_probabilities_less_targets(smoothing):
    student = STUDENT.clone().requires_grad_()
    HardTargetLoss(smoothing)(student, TEACHER).sum().backward()
    target = (1 - smoothing) * DECISIONS + smoothing / 3
    np.testing.assert_allclose(student.grad, softmax(STUDENT) - target, atol=1e-6)


@pytest.mark.parametrize(("threshold", "kept"), [(0.0, [1, 1, 1]), (0.6, [1, 1, 0]), (0.8, [0, 1, 0])])
def test_an_example_below_the_threshold_costs_nothing_and_moves_nothing(threshold, kept):
    student = STUDENT.clone().requires_grad_()
    loss = HardTargetLoss(confidence_threshold=threshold)(student, TEACHER)
    torch.testing.assert_close(loss, HardTargetLoss()(STUDENT, TEACHER) * torch.tensor(kept))
    loss.sum().backward()
    assert student.grad.abs().sum(dim=-1).bool().tolist() == [bool(k) for k in kept]


@pytest.mark.parametrize(("row", "confidence"), [(0, CONFIDENCES[0]), (2, CONFIDENCES[2])])
def test_the_threshold_is_the_probability_of_the_decision(row, confidence):
    student, teacher = STUDENT[[row]], TEACHER[[row]]
    assert HardTargetLoss(confidence_threshold=confidence - 0.001)(student, teacher) > 0
    assert HardTargetLoss(confidence_threshold=confidence + 0.001)(student, teacher) == 0


def test_only_the_teachers_decision_counts():
    torch.testing.assert_close(HardTargetLoss()(STUDENT, TEACHER), HardTargetLoss()(STUDENT, 7 * TEACHER + 3))


@pytest.mark.parametrize("value", [-0.1, 1.0, 80.0, float("nan")])
def test_smoothing_and_threshold_are_at_least_0_and_below_1(value):
    with pytest.raises(ValueError, match="label_smoothing"):
        HardTargetLoss(label_smoothing=value)
    with pytest.raises(ValueError, match="confidence_threshold"):
        HardTargetLoss(confidence_threshold=value)
