"""Expected values: the formula with masks and plain probabilities, in float64; soft targets; or by hand."""

import math

import pytest
import torch

from hf_distill.losses import DecoupledSoftTargetLoss, SoftTargetLoss
from hf_distill.schedules import linear

STUDENT = torch.tensor([[0.3, -1.2, 2.0, 0.1], [1.0, 1.0, 1.0, 1.0], [-4.0, 0.5, 0.0, 2.0]]).double()
TEACHER = torch.tensor([[1.5, 0.2, -0.7, 3.0], [0.0, 2.0, -2.0, 1.0], [-3.0, 0.5, 0.1, 0.2]]).double()
LABELS = torch.tensor([0, 1, 3])  # the teacher decides otherwise in the first and the last


def from_probabilities(student, teacher, labels, temperature, alpha, beta):
    true = torch.nn.functional.one_hot(labels, student.shape[1]).bool()
    q, p = (student / temperature).softmax(-1), (teacher / temperature).softmax(-1)
    q_true, p_true = q[true], p[true]
    of_true = p_true * (p_true / q_true).log() + (1 - p_true) * ((1 - p_true) / (1 - q_true)).log()
    q_rest, p_rest = q[~true].reshape(len(q), -1), p[~true].reshape(len(p), -1)
    q_rest, p_rest = q_rest / q_rest.sum(-1, keepdim=True), p_rest / p_rest.sum(-1, keepdim=True)
    of_rest = (p_rest * (p_rest / q_rest).log()).sum(-1)
    return temperature**2 * (alpha * of_true + beta * of_rest)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 6.0), (0.0, 1.0), (2.0, 0.0)])
def test_values_and_gradients(temperature, alpha, beta):
    ours, theirs = STUDENT.clone().requires_grad_(), STUDENT.clone().requires_grad_()
    values = DecoupledSoftTargetLoss(temperature, alpha, beta)(ours, TEACHER, labels=LABELS)
    expected = from_probabilities(theirs, TEACHER, LABELS, temperature, alpha, beta)
    torch.testing.assert_close(values, expected, rtol=1e-9, atol=1e-12)
    values.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("row", [0, 1, 2])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_with_the_others_weighted_by_their_probability_it_is_the_soft_target_loss(row, temperature):
    student, teacher, label = STUDENT[[row]], TEACHER[[row]], LABELS[[row]]
    beta = 1 - (teacher / temperature).softmax(-1)[0, label].item()
    ours, theirs = student.clone().requires_grad_(), student.clone().requires_grad_()
    values = DecoupledSoftTargetLoss(temperature, 1.0, beta)(ours, teacher, labels=label)
    expected = SoftTargetLoss(temperature)(theirs, teacher)
    torch.testing.assert_close(values, expected, rtol=1e-9, atol=0)
    values.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12)


def test_three_classes_by_hand():
    # Teacher (1/2, 3/8, 1/8), student (1/4, 3/8, 3/8), class 0 true. The true class against the rest: (1/2, 1/2)
    # against (1/4, 3/4) is ln 2 / 2 + ln(2/3) / 2; within the rest (3/4, 1/4) against (1/2, 1/2): 3/4 ln 3 - ln 2.
    student, teacher = torch.tensor([[2.0, 3.0, 3.0]]).log(), torch.tensor([[4.0, 3.0, 1.0]]).log()
    loss = DecoupledSoftTargetLoss(1.0, alpha=1.0, beta=6.0)(student, teacher, labels=torch.tensor([0]))
    expected = math.log(2) / 2 + math.log(2 / 3) / 2 + 6 * (0.75 * math.log(3) - math.log(2))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_a_sure_teacher_still_teaches_the_other_classes():
    # 1 - p_y is 0 in float32. With (3/4, 1/4) among the others against (1/2, 1/2), as above.
    teacher = torch.tensor([[1000.0, math.log(3.0), 0.0]])
    student = torch.tensor([[1000.0, 0.0, 0.0]], requires_grad=True)
    loss = DecoupledSoftTargetLoss(1.0, alpha=1.0, beta=1.0)(student, teacher, labels=torch.tensor([0]))
    assert loss.item() == pytest.approx(0.75 * math.log(3) - math.log(2), rel=1e-5)
    loss.sum().backward()
    assert student.grad[0].tolist() == pytest.approx([0.0, -0.25, 0.25], abs=1e-6)


def test_a_wrong_and_sure_student_is_pulled_back_with_full_force():
    # p_y is 1 and q_y is 0, both to the last bit of float32: d/dz_y of KL(b_t || b_s) is q_y - p_y = -1.
    student = torch.tensor([[-500.0, 500.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[500.0, 0.0, 0.0]])
    DecoupledSoftTargetLoss(1.0, beta=0.0)(student, teacher, labels=torch.tensor([0])).sum().backward()
    assert student.grad[0].tolist() == [-1.0, 1.0, 0.0]


def test_an_example_without_a_label_takes_the_teachers_decision():
    loss, decisions = DecoupledSoftTargetLoss(), TEACHER.argmax(-1)
    expected = loss(STUDENT, TEACHER, labels=torch.tensor([0, decisions[1], decisions[2]]))
    torch.testing.assert_close(loss(STUDENT, TEACHER, labels=torch.tensor([0, -100, -100])), expected)
    torch.testing.assert_close(loss(STUDENT, TEACHER), loss(STUDENT, TEACHER, labels=decisions))


def test_a_scheduled_temperature_follows_progress():
    loss = DecoupledSoftTargetLoss(linear(4.0, 2.0))
    torch.testing.assert_close(loss(STUDENT, TEACHER, progress=0.5), DecoupledSoftTargetLoss(3.0)(STUDENT, TEACHER))


def test_two_classes_are_refused():
    with pytest.raises(ValueError, match=r"at least 3 classes, got 2.*Use SoftTargetLoss"):
        DecoupledSoftTargetLoss()(torch.zeros(4, 2), torch.zeros(4, 2), labels=torch.zeros(4, dtype=torch.long))


def test_mixed_labels_are_refused():
    with pytest.raises(ValueError, match="mixup"):
        DecoupledSoftTargetLoss()(STUDENT, TEACHER, labels=TEACHER.softmax(-1))


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_weights_and_temperature_are_checked(value):
    for name in ("alpha", "beta"):
        with pytest.raises(ValueError, match=f"{name} must be a finite number >= 0, got {value}"):
            DecoupledSoftTargetLoss(**{name: value})
    with pytest.raises(ValueError, match="temperature must be a finite number > 0"):
        DecoupledSoftTargetLoss(value)
