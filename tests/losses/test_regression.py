"""Expected values by hand."""

import torch

from hf_distill.losses import RegressionTargetLoss

STUDENT = torch.tensor([[1.0, 2.0], [0.5, -1.0]])
TEACHER = torch.tensor([[3.0, 5.0], [0.5, 1.0]])


def test_values():
    assert RegressionTargetLoss()(STUDENT, TEACHER).tolist() == [(4 + 9) / 2, (0 + 4) / 2]


def test_a_single_output():
    assert RegressionTargetLoss()(STUDENT[:, :1], TEACHER[:, :1]).tolist() == [4.0, 0.0]


def test_gradient_is_twice_the_difference_over_the_number_of_outputs():
    student = STUDENT.clone().requires_grad_()
    RegressionTargetLoss()(student, TEACHER).sum().backward()
    assert student.grad.tolist() == [[-2.0, -3.0], [0.0, -2.0]]
