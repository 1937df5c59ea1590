"""Expected values: plain loops in float64 numpy, gradients by central differences of them, or by hand."""

import numpy as np
import torch
from finite_differences import check_value_and_gradient

from hf_distill.losses import SimilarityPreservingLoss

generator = torch.Generator().manual_seed(0)
STUDENT = torch.randn(5, 3, 2, 2, generator=generator) + 0.5
TEACHER = torch.randn(5, 4, 2, 3, generator=generator) + 0.5


def similarities(features):
    rows = [example.ravel() for example in features]
    similar = np.array([[np.dot(a, b) for b in rows] for a in rows])
    for row in similar:
        row /= np.sqrt((row**2).sum())
    return similar


def of_the_paper(student, teacher):
    return ((similarities(student) - similarities(teacher)) ** 2).sum() / len(student) ** 2


def reference(student, teacher):
    return of_the_paper(student, teacher) / of_the_paper(np.ones((len(teacher), 1)), teacher)


def test_value_and_gradient():
    check_value_and_gradient(SimilarityPreservingLoss(), reference, STUDENT, TEACHER)


def test_by_hand():
    # The teacher's inner products are (1, 1) and (1, 2), so G_t has the rows (1, 1)/sqrt(2) and (1, 2)/sqrt(5). Two
    # opposite examples have (1, -1)/sqrt(2) and (-1, 1)/sqrt(2), whose cosines with these are 0 and 1/sqrt(10); two
    # that are alike have (1, 1)/sqrt(2) twice, with cosines 1 and 3/sqrt(10). Squared distances are 2 - 2 cos.
    teacher = torch.tensor([[1.0, 0.0], [1.0, 1.0]]).double()
    opposite = torch.tensor([[3.0], [-3.0]]).double()
    expected = (2.0 + 2.0 - 2.0 / np.sqrt(10)) / (2.0 - 6.0 / np.sqrt(10))
    np.testing.assert_allclose(SimilarityPreservingLoss()(opposite, teacher), expected, rtol=1e-9)


def test_orthogonal_transforms_of_either_model_do_not_matter():
    student, teacher = STUDENT.flatten(1), TEACHER.flatten(1)
    expected = SimilarityPreservingLoss()(student, teacher)
    turn = torch.linalg.qr(torch.randn(12, 12, generator=generator)).Q
    turn_up = torch.linalg.qr(torch.randn(30, 24, generator=generator)).Q  # into a wider space
    torch.testing.assert_close(SimilarityPreservingLoss()(student @ turn, teacher @ turn_up.T), expected)


def test_other_transforms_do_matter():
    student = STUDENT.flatten(1)
    expected = SimilarityPreservingLoss()(student, TEACHER)
    for other in (student * torch.arange(1.0, 13.0), student + 1.0, student * torch.arange(1.0, 6.0)[:, None]):
        assert not torch.isclose(SimilarityPreservingLoss()(other, TEACHER), expected, rtol=1e-2)


def test_a_teacher_to_whom_all_examples_look_alike_costs_nothing():
    for dtype in (torch.float32, torch.float64):
        teacher = TEACHER[:1].to(dtype).expand(64, -1, -1, -1)
        student = torch.randn(64, 3, generator=generator, dtype=dtype)
        assert SimilarityPreservingLoss()(student, teacher) == 0.0
