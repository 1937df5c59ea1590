"""Expected values: the formula in plain float64 numpy, with probabilities instead of their logarithms, or by hand."""

import numpy as np
import pytest
import torch

from hf_distill.losses import SoftTargetLoss
from hf_distill.losses.base import checked_temperature
from hf_distill.schedules import linear, warmup

STUDENT = torch.tensor([[0.3, -1.2, 2.0], [1.0, 1.0, 1.0], [-4.0, 0.5, 0.0]])
TEACHER = torch.tensor([[1.5, 0.2, -0.7], [0.0, 2.0, -2.0], [-3.0, 0.5, 0.1]])


def softmax(logits, temperature):
    powers = np.exp(logits.double().numpy() / temperature)
    return powers / powers.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_values(temperature):
    p, q = softmax(TEACHER, temperature), softmax(STUDENT, temperature)
    expected = temperature**2 * (p * np.log(p / q)).sum(axis=-1)
    np.testing.assert_allclose(SoftTargetLoss(temperature)(STUDENT.double(), TEACHER.double()), expected, rtol=1e-9)


def test_two_classes_by_hand():
    # p = (3/4, 1/4), q = (1/2, 1/2): KL = 3/4 ln(3/2) + 1/4 ln(1/2) = 3/4 ln 3 - ln 2.
    loss = SoftTargetLoss(1.0)(torch.zeros(1, 2), torch.tensor([[np.log(3.0), 0.0]], dtype=torch.float32))
    assert loss.item() == pytest.approx(0.75 * np.log(3.0) - np.log(2.0), rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_gradient_is_t_times_the_difference_of_probabilities(temperature):
    student = STUDENT.clone().requires_grad_()
    SoftTargetLoss(temperature)(student, TEACHER).sum().backward()
    expected = temperature * (softmax(STUDENT, temperature) - softmax(TEACHER, temperature))
    np.testing.assert_allclose(student.grad, expected, atol=1e-6)


def test_gradient_at_high_temperature_is_that_of_centred_logits_over_the_number_of_classes():
    student = STUDENT.double().requires_grad_()
    SoftTargetLoss(1000.0)(student, TEACHER.double()).sum().backward()
    difference = (STUDENT - TEACHER).double()
    expected = (difference - difference.mean(dim=-1, keepdim=True)) / 3
    torch.testing.assert_close(student.grad, expected, atol=5e-3, rtol=0)


def test_classes_are_summed_not_averaged():
    # A teacher sure of one class against an undecided student costs ln C, whatever C is.
    for classes in (2, 10, 1000):
        teacher = torch.full((1, classes), -100.0)
        teacher[0, 0] = 100.0
        assert SoftTargetLoss(1.0)(torch.zeros(1, classes), teacher).item() == pytest.approx(np.log(classes), rel=1e-5)


def test_a_scheduled_temperature_follows_progress():
    loss = SoftTargetLoss(linear(4.0, 2.0))
    for progress, temperature in ((0.0, 4.0), (0.5, 3.0), (1.0, 2.0)):
        torch.testing.assert_close(
            loss(STUDENT, TEACHER, progress=progress), SoftTargetLoss(temperature)(STUDENT, TEACHER)
        )


@pytest.mark.parametrize(
    "temperature", [0.0, -1.0, float("nan"), float("inf"), linear(1.0, 0.0), warmup(0.1, 2.0)], ids=str
)
def test_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match="temperature must be a finite number > 0"):
        checked_temperature(temperature)
    with pytest.raises(ValueError, match="temperature must be a finite number > 0"):
        SoftTargetLoss(temperature)
