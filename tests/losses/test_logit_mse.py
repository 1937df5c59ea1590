"""Expected values by hand: the differences are (-2, -3, 2) and (0, 0, 3)."""

import pytest
import torch

from hf_distill.losses import LogitMSELoss, SoftTargetLoss

STUDENT = torch.tensor([[1.0, 2.0, 3.0], [5.0, 5.0, 8.0]])
TEACHER = torch.tensor([[3.0, 5.0, 1.0], [5.0, 5.0, 5.0]])


def test_values():
    assert LogitMSELoss()(STUDENT, TEACHER).tolist() == [4 + 9 + 4, 9]


def test_centred_values():
    # Less their means -1 and 1: (-1, -2, 3) and (-1, -1, 2).
    assert LogitMSELoss(centered=True)(STUDENT, TEACHER).tolist() == pytest.approx([1 + 4 + 9, 1 + 1 + 4])


def test_gradient_is_twice_the_difference():
    student = STUDENT.clone().requires_grad_()
    LogitMSELoss()(student, TEACHER).sum().backward()
    torch.testing.assert_close(student.grad, 2 * (STUDENT - TEACHER))


def test_only_the_centred_form_ignores_a_shift():
    shifted = STUDENT + torch.tensor([[10.0], [-3.0]])
    centred = LogitMSELoss(centered=True)
    torch.testing.assert_close(centred(shifted, TEACHER), centred(STUDENT, TEACHER))
    assert (LogitMSELoss()(shifted, TEACHER) != LogitMSELoss()(STUDENT, TEACHER)).all()


def test_soft_targets_at_high_temperature_are_the_centred_form_over_2c():
    student, teacher = STUDENT.double(), TEACHER.double()
    expected = LogitMSELoss(centered=True)(student, teacher) / (2 * 3)
    torch.testing.assert_close(SoftTargetLoss(1e4)(student, teacher), expected, rtol=1e-3, atol=0)


def test_one_output_cannot_be_centred():
    assert LogitMSELoss()(torch.ones(1, 1), torch.zeros(1, 1)).tolist() == [1.0]
    with pytest.raises(ValueError, match="at least 2"):
        LogitMSELoss(centered=True)(torch.ones(1, 1), torch.zeros(1, 1))
