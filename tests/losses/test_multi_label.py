"""Expected values: binary cross-entropy less entropy, in plain float64 numpy with probabilities, or by hand."""

import numpy as np
import pytest
import torch

from hf_distill.losses import MultiLabelTargetLoss
from hf_distill.schedules import linear

STUDENT = torch.tensor([[0.3, -1.2, 2.0], [1.0, 1.0, 1.0], [-4.0, 0.5, 0.0]])
TEACHER = torch.tensor([[1.5, 0.2, -0.7], [0.0, 2.0, -2.0], [-3.0, 0.5, 0.1]])


def sigmoid(logits, temperature):
    return 1 / (1 + np.exp(-logits.double().numpy() / temperature))


def binary_cross_entropy(p, q):
    return -(p * np.log(q) + (1 - p) * np.log(1 - q))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_values(temperature):
    p, q = sigmoid(TEACHER, temperature), sigmoid(STUDENT, temperature)
    expected = temperature**2 * (binary_cross_entropy(p, q) - binary_cross_entropy(p, p)).mean(axis=-1)
    loss = MultiLabelTargetLoss(temperature)(STUDENT.double(), TEACHER.double())
    np.testing.assert_allclose(loss, expected, rtol=1e-9)


def test_one_question_by_hand():
    # p = 3/4, q = 1/2: 3/4 ln(3/2) + 1/4 ln(1/2) = 3/4 ln 3 - ln 2.
    loss = MultiLabelTargetLoss(1.0)(torch.zeros(1, 1), torch.tensor([[np.log(3.0)]], dtype=torch.float32))
    assert loss.item() == pytest.approx(0.75 * np.log(3.0) - np.log(2.0), rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_gradient_is_that_of_binary_cross_entropy(temperature):
    student = STUDENT.clone().requires_grad_()
    MultiLabelTargetLoss(temperature)(student, TEACHER).sum().backward()
    expected = temperature * (sigmoid(STUDENT, temperature) - sigmoid(TEACHER, temperature)) / 3
    np.testing.assert_allclose(student.grad, expected, atol=1e-6)


def test_gradient_at_high_temperature_is_a_quarter_of_the_difference_per_class():
    student = STUDENT.double().requires_grad_()
    MultiLabelTargetLoss(1000.0)(student, TEACHER.double()).sum().backward()
    torch.testing.assert_close(student.grad, (STUDENT - TEACHER).double() / 4 / 3, atol=1e-4, rtol=0)


def test_classes_do_not_compete():
    # A shift of all logits leaves a softmax alone; here it is a different answer.
    assert (MultiLabelTargetLoss(1.0)(TEACHER + 1.0, TEACHER) > 0.01).all()


def test_the_gradient_survives_logits_of_any_size():
    student = torch.tensor([[1e4, -1e4]], requires_grad=True)
    MultiLabelTargetLoss(1.0)(student, torch.tensor([[-1e4, 1e4]])).sum().backward()
    assert student.grad.tolist() == [[0.5, -0.5]]


def test_a_scheduled_temperature_follows_progress():
    loss = MultiLabelTargetLoss(linear(4.0, 2.0))
    torch.testing.assert_close(loss(STUDENT, TEACHER, progress=0.5), MultiLabelTargetLoss(3.0)(STUDENT, TEACHER))


def test_temperature_must_be_positive():
    with pytest.raises(ValueError, match=r"temperature must be a finite number > 0, got 0\.0"):
        MultiLabelTargetLoss(0.0)
