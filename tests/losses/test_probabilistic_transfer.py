"""Expected values: plain loops in float64 numpy, gradients by central differences of them, or by hand."""

import numpy as np
import torch
from finite_differences import check_value_and_gradient

from hf_distill.losses import ProbabilisticTransferLoss

generator = torch.Generator().manual_seed(0)
STUDENT = torch.randn(5, 3, generator=generator)
TEACHER = torch.randn(5, 4, generator=generator)


def neighbours(features):
    rows = [example.ravel() / np.sqrt((example**2).sum()) for example in features]
    kernel = np.array([[(np.dot(a, b) + 1) / 2 + 1e-7 for b in rows] for a in rows])
    return np.array([row / row.sum() for row in kernel])


def divergence(p, q):
    return sum(p[i, j] * np.log(p[i, j] / q[i, j]) for i in range(len(p)) for j in range(len(p)))


def reference(student, teacher):
    p, q = neighbours(teacher), neighbours(student)
    return divergence(p, q) / divergence(p, np.full_like(p, 1 / len(p)))


def test_value_and_gradient():
    check_value_and_gradient(ProbabilisticTransferLoss(), reference, STUDENT, TEACHER)


def test_value_and_gradient_of_maps():
    student, teacher = torch.rand(4, 2, 2, 2, generator=generator), torch.rand(4, 3, 1, 2, generator=generator)
    check_value_and_gradient(ProbabilisticTransferLoss(), reference, student, teacher)


def test_by_hand():
    # Cosines of 0 between the teacher's two: kernel 1, 1/2, so p = (2/3, 1/3). Of 1/2 between the student's: kernel 1,
    # 3/4, so q = (4/7, 3/7). Both rows are alike, and u = 1/2.
    teacher = torch.tensor([[2.0, 0.0], [0.0, 5.0]]).double()
    student = torch.tensor([[1.0, 0.0], [0.5, 0.75**0.5]]).double()
    pays = 2 / 3 * np.log(2 / 3 * 7 / 4) + 1 / 3 * np.log(1 / 3 * 7 / 3)
    uninformed = 2 / 3 * np.log(4 / 3) + 1 / 3 * np.log(2 / 3)
    np.testing.assert_allclose(ProbabilisticTransferLoss()(student, teacher), pays / uninformed, rtol=1e-5)


def test_turning_and_the_scale_of_each_example_do_not_matter():
    expected = ProbabilisticTransferLoss()(STUDENT, TEACHER)
    turn = torch.linalg.qr(torch.randn(9, 3, generator=generator)).Q  # into a wider space
    scale = torch.rand(5, 1, generator=generator) + 0.1
    torch.testing.assert_close(ProbabilisticTransferLoss()(scale * STUDENT @ turn.T, TEACHER / scale), expected)


def test_float32_resolves_a_teacher_that_sees_small_differences_only():
    # After a ReLU all cosines may lie near 1. The plain sum of p log(p / q) has lost all digits in float32 here.
    student, teacher = STUDENT + 100.0, TEACHER + 100.0
    expected = ProbabilisticTransferLoss()(student.double(), teacher.double())
    torch.testing.assert_close(ProbabilisticTransferLoss()(student, teacher).double(), expected, rtol=0.01, atol=0)


def test_a_teacher_to_whom_all_examples_look_alike_costs_nothing():
    teacher = TEACHER[:1].expand(64, -1)
    student = torch.randn(64, 3, generator=generator)
    assert ProbabilisticTransferLoss()(student, teacher) == 0.0


def test_neighbours_that_the_student_takes_for_opposites_cost_a_finite_price():
    student = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]).double().requires_grad_()
    teacher = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).double()
    loss = ProbabilisticTransferLoss()(student, teacher)
    loss.backward()
    np.testing.assert_allclose(loss.item(), reference(student.detach().numpy(), teacher.numpy()), rtol=1e-9)
    assert student.grad.isfinite().all()
