"""Expected values: plain loops over pairs and triplets in float64 numpy, gradients by central differences; by hand."""

from itertools import permutations

import numpy as np
import pytest
import torch
from finite_differences import check_value_and_gradient

from hf_distill.losses import RelationalLoss

generator = torch.Generator().manual_seed(0)
STUDENT = torch.randn(5, 3, generator=generator)
TEACHER = torch.randn(5, 4, generator=generator) * torch.tensor([4.0, 1.0, 1.0, 0.2])


def huber(x):
    return x**2 / 2 if abs(x) <= 1 else abs(x) - 0.5


def direction(difference):
    length = np.sqrt((difference**2).sum())
    return difference / length if length else difference


def of_the_paper(student, teacher, distance_weight, angle_weight):
    pairs = list(permutations(range(len(student)), 2))
    lengths = [[np.sqrt(((f[i] - f[j]) ** 2).sum()) for i, j in pairs] for f in (student, teacher)]
    ours, theirs = (np.array(each) / np.mean(each) for each in lengths)
    angles = []
    for i, j, k in permutations(range(len(student)), 3):
        cosines = [direction(f[i] - f[j]) @ direction(f[k] - f[j]) for f in (student, teacher)]
        angles.append(huber(cosines[0] - cosines[1]))
    return distance_weight * np.mean([huber(x) for x in ours - theirs]) + angle_weight * np.mean(angles)


def reference(student, teacher, *weights):
    return of_the_paper(student, teacher, *weights) / of_the_paper(np.eye(len(teacher)), teacher, *weights)


@pytest.mark.parametrize("weights", [(1.0, 2.0), (25.0, 50.0), (1.0, 0.0), (0.0, 1.0), (3.0, 0.5)])
def test_value_and_gradient(weights):
    check_value_and_gradient(RelationalLoss(*weights), lambda s, t: reference(s, t, *weights), STUDENT, TEACHER)


def test_value_and_gradient_beyond_the_square_part_of_huber():
    teacher = TEACHER.clone()
    teacher[0] += 100.0
    check_value_and_gradient(RelationalLoss(), lambda s, t: reference(s, t, 1.0, 2.0), STUDENT, teacher)


def test_value_with_two_equal_examples():
    student, teacher = STUDENT[[0, 0, 1, 2, 3]].double(), TEACHER.double()
    expected = reference(student.numpy(), teacher.numpy(), 1.0, 2.0)
    np.testing.assert_allclose(RelationalLoss()(student, teacher), expected, rtol=1e-9)


def test_only_the_ratio_of_the_weights_matters():
    torch.testing.assert_close(RelationalLoss(25.0, 50.0)(STUDENT, TEACHER), RelationalLoss()(STUDENT, TEACHER))
    assert not torch.isclose(
        RelationalLoss(50.0, 25.0)(STUDENT, TEACHER), RelationalLoss()(STUDENT, TEACHER), rtol=1e-3
    )


def test_turning_shifting_and_scaling_either_model_do_not_matter():
    expected = RelationalLoss()(STUDENT, TEACHER)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator)).Q
    turn_up = torch.linalg.qr(torch.randn(9, 4, generator=generator)).Q  # into a wider space
    moved = 0.01 * STUDENT @ turn + 5.0 * torch.randn(3, generator=generator)
    torch.testing.assert_close(RelationalLoss()(moved, 7.0 * TEACHER @ turn_up.T - 30.0), expected, rtol=1e-3, atol=0)


def test_stretching_one_axis_does_matter():
    expected = RelationalLoss()(STUDENT, TEACHER)
    assert not torch.isclose(RelationalLoss()(STUDENT * torch.tensor([3.0, 1.0, 1.0]), TEACHER), expected, rtol=1e-2)


def test_by_hand():
    # Distances 3, 4, 5 over their mean 4; a simplex has 1 everywhere: h = (1/16 + 0 + 1/16) / 2 / 3 = 1/48.
    # Cosines 0, 3/5, 4/5 against 1/2: h = (1/4 + 1/100 + 9/100) / 2 / 3 = 7/120.
    # The student has them on a line, with the corner in the middle: distances 3/4, 3/4, 3/2 and cosines -1, 1, 1 meet
    # distances 3/4, 1, 5/4 and cosines 0, 3/5, 4/5.
    teacher = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]).double()
    line = torch.tensor([[1.0], [0.0], [2.0]]).double()
    distances = (0.0 + 1 / 16 + 1 / 16) / 2 / 3
    angles = (1.0 + (2 / 5) ** 2 + (1 / 5) ** 2) / 2 / 3
    expected = (distances + 2 * angles) / (1 / 48 + 2 * 7 / 120)
    np.testing.assert_allclose(RelationalLoss()(line, teacher), expected, rtol=1e-12)


def test_two_examples_have_no_relation():
    assert RelationalLoss()(STUDENT[:2], TEACHER[:2]) == 0.0


def test_float32_is_exact_enough_for_examples_that_lie_close_together_far_from_0():
    student = 100.0 + torch.tensor([[0.0], [0.25], [0.5], [2.0]])  # exact in float32
    teacher = TEACHER[:4]
    expected = RelationalLoss()(student.double(), teacher.double())
    torch.testing.assert_close(RelationalLoss()(student, teacher).double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("weights", [(-1.0, 2.0), (1.0, -2.0), (0.0, 0.0), (float("nan"), 1.0), (1.0, float("inf"))])
def test_weights_must_not_be_negative_nor_both_0(weights):
    with pytest.raises(ValueError, match=r"must be a finite number >= 0, got|must not both be 0"):
        RelationalLoss(*weights)


def test_it_reads_as_it_was_made():
    assert repr(RelationalLoss(1.0, 0.5)) == "RelationalLoss(distance_weight=1.0, angle_weight=0.5)"
