"""Expected values: entropies in plain float64 numpy (H(m) - w H(p) - (1 - w) H(q)), or by hand."""

import numpy as np
import pytest
import torch

from hf_distill.losses import JensenShannonLoss, ReverseSoftTargetLoss, SoftTargetLoss
from hf_distill.schedules import linear

STUDENT = torch.tensor([[0.3, -1.2, 2.0], [1.0, 1.0, 1.0], [-4.0, 0.5, 0.0]])
TEACHER = torch.tensor([[1.5, 0.2, -0.7], [0.0, 2.0, -2.0], [-3.0, 0.5, 0.1]])


def softmax(logits, temperature):
    powers = np.exp(logits.double().numpy() / temperature)
    return powers / powers.sum(axis=-1, keepdims=True)


def entropy(probabilities):
    return -(probabilities * np.log(probabilities)).sum(axis=-1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_values(temperature, share):
    p, q = softmax(TEACHER, temperature), softmax(STUDENT, temperature)
    expected = entropy(share * p + (1 - share) * q) - share * entropy(p) - (1 - share) * entropy(q)
    loss = JensenShannonLoss(temperature, teacher_share=share)(STUDENT.double(), TEACHER.double())
    np.testing.assert_allclose(loss, temperature**2 * expected, rtol=1e-9)


def test_complete_disagreement_costs_the_entropy_of_the_mixture():
    student, teacher = torch.tensor([[50.0, -50.0]]), torch.tensor([[-50.0, 50.0]])
    assert JensenShannonLoss(1.0)(student, teacher).item() == pytest.approx(np.log(2.0), rel=1e-6)
    bound = -0.2 * np.log(0.2) - 0.8 * np.log(0.8)
    assert JensenShannonLoss(1.0, teacher_share=0.2)(student, teacher).item() == pytest.approx(bound, rel=1e-6)


def test_half_and_half_is_symmetric():
    loss = JensenShannonLoss(2.0)
    torch.testing.assert_close(loss(STUDENT, TEACHER), loss(TEACHER, STUDENT))


def test_the_ends_approach_the_two_kl_divergences():
    student, teacher, share = STUDENT.double(), TEACHER.double(), 1e-6
    forward = JensenShannonLoss(2.0, teacher_share=share)(student, teacher) / share
    reverse = JensenShannonLoss(2.0, teacher_share=1 - share)(student, teacher) / share
    torch.testing.assert_close(forward, SoftTargetLoss(2.0)(student, teacher), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(reverse, ReverseSoftTargetLoss(2.0)(student, teacher), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_gradient_at_high_temperature_is_a_share_of_that_of_the_soft_target_loss(share):
    student = STUDENT.double().requires_grad_()
    JensenShannonLoss(1000.0, teacher_share=share)(student, TEACHER.double()).sum().backward()
    difference = (STUDENT - TEACHER).double()
    expected = share * (1 - share) * (difference - difference.mean(dim=-1, keepdim=True)) / 3
    torch.testing.assert_close(student.grad, expected, atol=2e-3, rtol=0)


def test_a_scheduled_temperature_follows_progress():
    loss = JensenShannonLoss(linear(4.0, 2.0))
    torch.testing.assert_close(loss(STUDENT, TEACHER, progress=0.5), JensenShannonLoss(3.0)(STUDENT, TEACHER))


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_the_share_must_lie_between_0_and_1(share):
    with pytest.raises(ValueError, match="teacher_share must lie between 0 and 1"):
        JensenShannonLoss(1.0, teacher_share=share)


def test_temperature_must_be_positive():
    with pytest.raises(ValueError, match=r"temperature must be a finite number > 0, got -2\.0"):
        JensenShannonLoss(-2.0)
