"""Expected values: the formula in plain float64 numpy, with probabilities instead of their logarithms, or by hand."""

import numpy as np
import pytest
import torch

from hf_distill.losses import ReverseSoftTargetLoss, SoftTargetLoss
from hf_distill.schedules import linear

STUDENT = torch.tensor([[0.3, -1.2, 2.0], [1.0, 1.0, 1.0], [-4.0, 0.5, 0.0]])
TEACHER = torch.tensor([[1.5, 0.2, -0.7], [0.0, 2.0, -2.0], [-3.0, 0.5, 0.1]])


def softmax(logits, temperature):
    powers = np.exp(logits.double().numpy() / temperature)
    return powers / powers.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_values(temperature):
    p, q = softmax(TEACHER, temperature), softmax(STUDENT, temperature)
    expected = temperature**2 * (q * np.log(q / p)).sum(axis=-1)
    np.testing.assert_allclose(
        ReverseSoftTargetLoss(temperature)(STUDENT.double(), TEACHER.double()), expected, rtol=1e-9
    )


def test_two_classes_by_hand():
    # p = (3/4, 1/4), q = (1/2, 1/2): KL(q, p) = 1/2 ln(2/3) + 1/2 ln 2 = ln 2 - 1/2 ln 3.
    loss = ReverseSoftTargetLoss(1.0)(torch.zeros(1, 2), torch.tensor([[np.log(3.0), 0.0]], dtype=torch.float32))
    assert loss.item() == pytest.approx(np.log(2.0) - 0.5 * np.log(3.0), rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_gradient_in_closed_form(temperature):
    # d/dz_k of sum_c q_c r_c with r = ln q - ln p is q_k (r_k - sum_c q_c r_c) / T, times T squared.
    student = STUDENT.clone().requires_grad_()
    ReverseSoftTargetLoss(temperature)(student, TEACHER).sum().backward()
    p, q = softmax(TEACHER, temperature), softmax(STUDENT, temperature)
    ratio = np.log(q) - np.log(p)
    expected = temperature * q * (ratio - (q * ratio).sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(student.grad, expected, atol=1e-6)


def test_it_is_the_soft_target_loss_with_the_roles_exchanged():
    torch.testing.assert_close(ReverseSoftTargetLoss(2.0)(STUDENT, TEACHER), SoftTargetLoss(2.0)(TEACHER, STUDENT))


def test_it_forgives_a_class_left_out_and_not_one_made_up():
    two_modes, one_mode = torch.tensor([[9.0, 9.0, -9.0]]), torch.tensor([[9.0, -9.0, -9.0]])
    loss = ReverseSoftTargetLoss(1.0)
    assert loss(one_mode, two_modes).item() == pytest.approx(np.log(2.0), rel=1e-3)
    assert loss(two_modes, one_mode).item() > 8.0


def test_a_scheduled_temperature_follows_progress():
    loss = ReverseSoftTargetLoss(linear(4.0, 2.0))
    torch.testing.assert_close(loss(STUDENT, TEACHER, progress=0.5), ReverseSoftTargetLoss(3.0)(STUDENT, TEACHER))


def test_temperature_must_be_positive():
    with pytest.raises(ValueError, match=r"temperature must be a finite number > 0, got 0\.0"):
        ReverseSoftTargetLoss(0.0)
