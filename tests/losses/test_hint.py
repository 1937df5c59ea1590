"""Expected values: plain loops in float64 numpy, gradients by central differences of them, or by hand."""

import numpy as np
import pytest
import torch
from finite_differences import check_value_and_gradient

from hf_distill.losses import HintLoss

generator = torch.Generator().manual_seed(0)
STUDENT = torch.randn(3, 2, 3, 2, generator=generator)
TEACHER = 3.0 * torch.randn(3, 2, 3, 2, generator=generator)


def relative_error(student, teacher):
    values = []
    for ours, theirs in zip(student, teacher, strict=True):
        error = sum((a - b) ** 2 for a, b in zip(ours.ravel(), theirs.ravel(), strict=True))
        values.append(error / sum(b**2 for b in theirs.ravel()))
    return np.array(values)


@pytest.mark.parametrize("shape", [(2, 3, 2), (4, 3), (12,)])
def test_value_and_gradient(shape):
    check_value_and_gradient(HintLoss(), relative_error, STUDENT.reshape(3, *shape), TEACHER.reshape(3, *shape))


def test_the_papers_weight_is_ours_over_the_mean_square():
    # The usual code: 100 times the mean squared error. All examples have the mean square 4 here.
    teacher = 2.0 * TEACHER / TEACHER.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    usual = 100.0 * torch.nn.functional.mse_loss(STUDENT, teacher)
    torch.testing.assert_close(4.0 * 100.0 * HintLoss()(STUDENT, teacher).mean(), usual)


def test_a_dead_example_costs_nothing_and_the_others_what_they_did():
    teacher = TEACHER.clone()
    teacher[1] = 0.0
    expected = HintLoss()(STUDENT, TEACHER) * torch.tensor([1.0, 0.0, 1.0])
    torch.testing.assert_close(HintLoss()(STUDENT, teacher), expected)
