"""Expected values: by hand, or from soft targets of a teacher whose logits are written out."""

import pytest
import torch

from hf_distill.losses import NO_LABEL, SoftTargetLoss, VirtualTeacherLoss

LABELS = torch.tensor([2, 0, 1])


def written_out(correct, labels=LABELS, classes=3):
    """The teacher's logits, as the paper defines it."""
    others = torch.full((len(labels), classes), (1 - correct) / (classes - 1), dtype=torch.float64)
    return others.scatter(1, labels[:, None], correct).log()


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
@pytest.mark.parametrize("correct", [0.9, 0.99])
def test_it_is_soft_targets_of_a_teacher_that_is_always_right(temperature, correct):
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    loss = VirtualTeacherLoss(temperature, correct)(ours, LABELS)
    expected = SoftTargetLoss(temperature)(theirs, written_out(correct))
    torch.testing.assert_close(loss, expected)
    loss.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_by_hand():
    # u = (0.1, 0.9) against (1/2, 1/2): 0.1 ln 0.2 + 0.9 ln 1.8 = 0.368064.
    loss = VirtualTeacherLoss(temperature=1.0, correct=0.9)
    assert loss(torch.zeros(1, 2), torch.tensor([1])).item() == pytest.approx(0.368064, rel=1e-5)


def test_it_is_0_where_the_student_is_just_as_sure():
    loss = VirtualTeacherLoss(temperature=3.0, correct=0.95)
    torch.testing.assert_close(loss(written_out(0.95), LABELS), torch.zeros(3, dtype=torch.float64))


def test_mixed_images_move_the_student_by_their_shares():
    """Labels that are shares of two classes: the gradient is the mixture of both classes' gradients."""
    loss = VirtualTeacherLoss(4.0)
    shares = torch.tensor([[0.3, 0.0, 0.7], [1.0, 0.0, 0.0], [float(NO_LABEL)] * 3], dtype=torch.float64)
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mixed, plain = (logits.clone().requires_grad_() for _ in range(2))
    values = loss(mixed, shares)
    values.sum().backward()
    both = [loss(plain, torch.tensor(labels)) for labels in ([0, 0, NO_LABEL], [2, 0, NO_LABEL])]
    (0.3 * both[0] + 0.7 * both[1])[[0]].sum().backward(retain_graph=True)
    both[0][[1]].sum().backward()
    torch.testing.assert_close(mixed.grad, plain.grad)
    assert values[2] == 0
    assert values[0] > 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperature": 0.0}, "temperature must be a finite number > 0, got 0.0"),
        ({"temperature": float("inf")}, "temperature"),
        ({"correct": 1.0}, "correct must be above 0 and below 1, got 1.0"),
        ({"correct": 0.0}, "correct"),
    ],
)
def test_wrong_numbers_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        VirtualTeacherLoss(**given)
