"""Expected values: the paper's cross-entropies from plain probabilities in float64, less the entropy; or by hand."""

import math

import pytest
import torch

from hf_distill.losses import ClassificationLoss, NormalizedKDLoss
from hf_distill.schedules import linear

STUDENT = torch.tensor([[0.3, -1.2, 2.0, 0.1], [1.0, 1.0, 1.0, 1.0], [-4.0, 0.5, 0.0, 2.0]]).double()
TEACHER = torch.tensor([[1.5, 0.2, -0.7, 3.0], [0.0, 2.0, -2.0, 1.0], [-3.0, 0.5, 0.1, 0.2]]).double()
LABELS = torch.tensor([0, 1, 3])  # the teacher decides otherwise in the first and the last


def row_by_row(student, teacher, labels, temperature, gamma):
    """One row at a time: both cross-entropies as the paper has them, the second less its value at a match."""
    values = []
    for z_s, z_t, y in zip(student, teacher, labels.tolist(), strict=True):
        p, q = z_t.softmax(0), z_s.softmax(0)
        others = [c for c in range(len(z_s)) if c != y]
        p_soft, q_soft = (z_t / temperature).softmax(0)[others], (z_s / temperature).softmax(0)[others]
        p_hat, q_hat = p_soft / p_soft.sum(), q_soft / q_soft.sum()
        cross_entropy, entropy = -(p_hat * q_hat.log()).sum(), -(p_hat * p_hat.log()).sum()
        values.append(-p[y] * q[y].log() + gamma * temperature**2 * (cross_entropy - entropy))
    return torch.stack(values)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("gamma", [0.0, 3.5])
def test_values_and_gradients(temperature, gamma):
    ours, theirs = STUDENT.clone().requires_grad_(), STUDENT.clone().requires_grad_()
    values = NormalizedKDLoss(temperature, gamma)(ours, TEACHER, labels=LABELS)
    expected = row_by_row(theirs, TEACHER, LABELS, temperature, gamma)
    torch.testing.assert_close(values, expected, rtol=1e-9, atol=1e-12)
    values.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12)


def test_three_classes_by_hand():
    # Teacher (1/2, 3/8, 1/8), student (1/4, 3/8, 3/8), class 0 true: 1/2 ln 4, and (3/4, 1/4) against (1/2, 1/2).
    student, teacher = torch.tensor([[2.0, 3.0, 3.0]]).log(), torch.tensor([[4.0, 3.0, 1.0]]).log()
    loss = NormalizedKDLoss(1.0, gamma=2.0)(student, teacher, labels=torch.tensor([0]))
    assert loss.item() == pytest.approx(0.5 * math.log(4) + 2 * (0.75 * math.log(3) - math.log(2)), rel=1e-5)


def test_a_teacher_sure_of_the_label_leaves_the_cross_entropy_with_it():
    teacher = torch.full((3, 4), -200.0).double().scatter(1, LABELS.unsqueeze(1), 200.0)
    loss = NormalizedKDLoss(1.0, gamma=0.0)(STUDENT, teacher, labels=LABELS)
    torch.testing.assert_close(loss, ClassificationLoss()(STUDENT, LABELS))


def test_only_the_first_part_is_left_at_the_teacher():
    p = TEACHER.softmax(-1).gather(1, LABELS.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(NormalizedKDLoss()(TEACHER, TEACHER, labels=LABELS), -p * p.log())


def test_an_example_without_a_label_takes_the_teachers_decision():
    loss, decisions = NormalizedKDLoss(), TEACHER.argmax(-1)
    expected = loss(STUDENT, TEACHER, labels=torch.tensor([0, decisions[1], decisions[2]]))
    torch.testing.assert_close(loss(STUDENT, TEACHER, labels=torch.tensor([0, -100, -100])), expected)


def test_a_scheduled_temperature_follows_progress():
    loss = NormalizedKDLoss(linear(4.0, 2.0))
    torch.testing.assert_close(loss(STUDENT, TEACHER, progress=0.5), NormalizedKDLoss(3.0)(STUDENT, TEACHER))


def test_two_classes_and_mixed_labels_are_refused():
    with pytest.raises(ValueError, match=r"at least 3 classes, got 2.*Use SoftTargetLoss"):
        NormalizedKDLoss()(torch.zeros(4, 2), torch.zeros(4, 2))
    with pytest.raises(ValueError, match="mixup"):
        NormalizedKDLoss()(STUDENT, TEACHER, labels=TEACHER.softmax(-1))


def test_weight_and_temperature_are_checked():
    with pytest.raises(ValueError, match=r"gamma must be a finite number >= 0, got -1\.0"):
        NormalizedKDLoss(gamma=-1.0)
    with pytest.raises(ValueError, match=r"temperature must be a finite number > 0, got 0\.0"):
        NormalizedKDLoss(0.0)
