"""Expected values: torch.corrcoef on plain probabilities in float64, or by hand."""

import pytest
import torch

from hf_distill.losses import DISTLoss
from hf_distill.schedules import linear

GENERATOR = torch.Generator().manual_seed(0)
STUDENT = torch.randn(7, 4, generator=GENERATOR, dtype=torch.float64)
TEACHER = torch.randn(7, 4, generator=GENERATOR, dtype=torch.float64)


def from_corrcoef(student, teacher, temperature, beta, gamma):
    q, p = (student / temperature).softmax(-1), (teacher / temperature).softmax(-1)
    rows = torch.stack([1 - torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(q, p, strict=True)])
    columns = torch.stack([1 - torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(q.T, p.T, strict=True)])
    return temperature**2 * (beta * rows + gamma * columns.mean())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize(("beta", "gamma"), [(1.0, 1.0), (2.0, 0.5), (1.0, 0.0), (0.0, 1.0)])
def test_values_and_gradients(temperature, beta, gamma):
    ours, theirs = STUDENT.clone().requires_grad_(), STUDENT.clone().requires_grad_()
    values = DISTLoss(temperature, beta, gamma)(ours, TEACHER)
    expected = from_corrcoef(theirs, TEACHER, temperature, beta, gamma)
    torch.testing.assert_close(values, expected, rtol=1e-9, atol=1e-12)
    values.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12)


def test_three_classes_by_hand():
    # Rows (4, 3, 1)/8 against (4, 1, 3)/8: deviations (4, 1, -5)/24 and (4, -5, 1)/24, correlation 6/42 = 1/7. In a
    # batch of one, no class has a correlation over the examples.
    student, teacher = torch.tensor([[4.0, 1.0, 3.0]]).log(), torch.tensor([[4.0, 3.0, 1.0]]).log()
    assert DISTLoss(1.0)(student, teacher).item() == pytest.approx(6 / 7, rel=1e-5)


def test_the_mean_over_the_batch_has_each_part_once():
    both, rows, columns = (DISTLoss(2.0, beta, gamma)(STUDENT, TEACHER) for beta, gamma in ((1, 1), (1, 0), (0, 1)))
    torch.testing.assert_close(both.mean(), rows.mean() + columns[0])
    assert columns.unique().numel() == 1


def test_offset_and_scale_of_the_probabilities_do_not_matter():
    # Mixed with an even distribution, every row and every column keeps its proportions.
    p = TEACHER.softmax(-1)
    torch.testing.assert_close(DISTLoss(1.0)((0.3 * p + 0.7 / 4).log(), TEACHER), torch.zeros(7).double())


def test_a_class_that_is_improbable_in_the_whole_batch_counts_like_any_other():
    # In float32 its probabilities are near 1e-26 and their squares are 0.
    shift = torch.tensor([0.0, 0.0, 0.0, -60.0])
    loss = DISTLoss(1.0, beta=0.0, gamma=1.0)
    expected = from_corrcoef(STUDENT + shift.double(), TEACHER + shift.double(), 1.0, 0.0, 1.0)
    torch.testing.assert_close(
        loss(STUDENT.float() + shift, TEACHER.float() + shift), expected.float(), rtol=1e-4, atol=0
    )


def test_what_does_not_vary_counts_half_against_what_does_and_nothing_against_its_like():
    flat, varied = torch.zeros(1, 3), torch.tensor([[2.0, 1.0, 0.0]])
    loss = DISTLoss(2.0, gamma=0.0)
    assert loss(flat, flat).item() == 0.0
    assert loss(flat, varied).item() == pytest.approx(0.5 * 2.0**2)


def test_a_student_that_starts_even_is_pulled_the_right_way_with_a_bounded_gradient():
    student, teacher = torch.zeros(4, 3, requires_grad=True), torch.eye(4, 3) * 5
    DISTLoss(1.0)(student, teacher).mean().backward()
    assert student.grad.isfinite().all()
    assert 0 < student.grad.abs().max() < 1e3
    assert (student.grad[:3].diagonal() < 0).all()


@pytest.mark.parametrize("gamma", [0.5, 1.0])
def test_a_batch_of_one_has_no_relation_between_examples(gamma):
    student = STUDENT[:1].clone().requires_grad_()
    DISTLoss(4.0, beta=0.0, gamma=gamma)(student, TEACHER[:1]).sum().backward()
    assert DISTLoss(4.0, beta=0.0, gamma=gamma)(student, TEACHER[:1]).tolist() == [0.0]
    assert student.grad.abs().max() == 0.0


def test_two_classes_have_a_relation_between_examples_only():
    with pytest.raises(ValueError, match=r"at least 3 of them, got 2.*Use SoftTargetLoss, or DISTLoss\(beta=0.0\)"):
        DISTLoss()(STUDENT[:, :2], TEACHER[:, :2])
    expected = from_corrcoef(STUDENT[:, :2], TEACHER[:, :2], 1.0, 0.0, 1.0)
    torch.testing.assert_close(DISTLoss(1.0, beta=0.0)(STUDENT[:, :2], TEACHER[:, :2]), expected)


def test_a_scheduled_temperature_follows_progress():
    loss = DISTLoss(linear(4.0, 2.0))
    torch.testing.assert_close(loss(STUDENT, TEACHER, progress=0.5), DISTLoss(3.0)(STUDENT, TEACHER))


def test_weights_and_temperature_are_checked():
    for name in ("beta", "gamma"):
        with pytest.raises(ValueError, match=rf"{name} must be a finite number >= 0, got -1\.0"):
            DISTLoss(**{name: -1.0})
    with pytest.raises(ValueError, match=r"temperature must be a finite number > 0, got 0\.0"):
        DISTLoss(0.0)
