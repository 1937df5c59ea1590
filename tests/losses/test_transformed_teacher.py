"""Expected values: powers of plain probabilities in float64 numpy, or by hand."""

import numpy as np
import pytest
import torch

from hf_distill.losses import SoftTargetLoss, TransformedTeacherMatchingLoss
from hf_distill.schedules import linear

STUDENT = torch.tensor([[0.3, -1.2, 2.0], [1.0, 1.0, 1.0], [-4.0, 0.5, 0.0]])
TEACHER = torch.tensor([[1.5, 0.2, -0.7], [0.0, 2.0, -2.0], [-3.0, 0.5, 0.1]])


def softmax(logits):
    powers = np.exp(logits.double().numpy())
    return powers / powers.sum(axis=-1, keepdims=True)


def transformed(temperature):
    """The teacher's probabilities to the power of 1/T, normalised, and what they were divided by."""
    powers = softmax(TEACHER) ** (1 / temperature)
    total = powers.sum(axis=-1, keepdims=True)
    return powers / total, total


@pytest.mark.parametrize("temperature", [0.5, 1.0, 10.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_values_and_gradients(temperature, weighted):
    (r, total), q = transformed(temperature), softmax(STUDENT)
    weight = total if weighted else np.ones_like(total)
    student = STUDENT.double().requires_grad_()
    values = TransformedTeacherMatchingLoss(temperature, weighted)(student, TEACHER.double())
    np.testing.assert_allclose(values.detach(), weight[:, 0] * (r * np.log(r / q)).sum(axis=-1), rtol=1e-9)
    values.sum().backward()
    np.testing.assert_allclose(student.grad, weight * (q - r), rtol=1e-9, atol=1e-12)


def test_two_classes_by_hand():
    # p = (9/10, 1/10) to the power of 1/2 is (3, 1) / sqrt 10: r = (3/4, 1/4), and the weight is 4 / sqrt 10.
    student, teacher = torch.zeros(1, 2), torch.tensor([[9.0, 1.0]]).log()
    expected = 0.75 * np.log(3.0) - np.log(2.0)
    assert TransformedTeacherMatchingLoss(2.0)(student, teacher).item() == pytest.approx(expected, rel=1e-5)
    weighted = TransformedTeacherMatchingLoss(2.0, weighted=True)(student, teacher).item()
    assert weighted == pytest.approx(4 / np.sqrt(10) * expected, rel=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_at_rest_where_the_student_is_the_softened_teacher(weighted):
    student = (TEACHER.double() / 4.0 + 3.0).requires_grad_()
    values = TransformedTeacherMatchingLoss(4.0, weighted)(student, TEACHER.double())
    values.sum().backward()
    torch.testing.assert_close(values, torch.zeros(3).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(student.grad, torch.zeros(3, 3).double(), atol=1e-12, rtol=0)


def test_the_weight_runs_from_1_to_a_power_of_the_number_of_classes():
    student = torch.tensor([[1.0, 2.0, 0.0, 4.0], [1.0, 2.0, 0.0, 4.0]])
    teacher = torch.tensor([[500.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    weight = TransformedTeacherMatchingLoss(2.0, weighted=True)(student, teacher) / TransformedTeacherMatchingLoss(2.0)(
        student, teacher
    )
    assert weight.tolist() == pytest.approx([1.0, 4 ** (1 - 1 / 2)], rel=1e-5)


def test_at_temperature_1_it_is_the_soft_target_loss():
    torch.testing.assert_close(
        TransformedTeacherMatchingLoss(1.0)(STUDENT, TEACHER), SoftTargetLoss(1.0)(STUDENT, TEACHER)
    )


def test_a_scheduled_temperature_follows_progress():
    loss = TransformedTeacherMatchingLoss(linear(4.0, 2.0))
    expected = TransformedTeacherMatchingLoss(3.0)(STUDENT, TEACHER)
    torch.testing.assert_close(loss(STUDENT, TEACHER, progress=0.5), expected)


def test_temperature_must_be_positive():
    with pytest.raises(ValueError, match=r"temperature must be a finite number > 0, got -2\.0"):
        TransformedTeacherMatchingLoss(-2.0)
