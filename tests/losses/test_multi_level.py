"""Expected values: the formula in loops over examples and classes, from plain probabilities in float64; or by hand."""

import math

import pytest
import torch

from hf_distill.losses import MultiLevelLogitLoss, SoftTargetLoss
from hf_distill.schedules import linear

GENERATOR = torch.Generator().manual_seed(0)
STUDENT = torch.randn(5, 3, generator=GENERATOR, dtype=torch.float64)
TEACHER = torch.randn(5, 3, generator=GENERATOR, dtype=torch.float64)


def in_loops(student, teacher, temperatures, batch_weight, class_weight):
    """The mean over the batch."""
    examples, classes = student.shape
    total = 0.0
    for temperature in temperatures:
        q, p = (student / temperature).softmax(-1), (teacher / temperature).softmax(-1)
        instance = sum((p[i] * (p[i] / q[i]).log()).sum() for i in range(examples)) / examples
        pairs = [(i, j) for i in range(examples) for j in range(examples)]
        batch = sum(((p[i] * p[j]).sum() - (q[i] * q[j]).sum()) ** 2 for i, j in pairs) / examples
        pairs = [(c, d) for c in range(classes) for d in range(classes)]
        class_ = sum(((p[:, c] * p[:, d]).sum() - (q[:, c] * q[:, d]).sum()) ** 2 for c, d in pairs) / classes
        total = total + temperature**2 * instance + batch_weight * batch + class_weight * class_
    return total / len(temperatures)


@pytest.mark.parametrize("temperatures", [(1.0,), (2.0, 3.0, 4.0, 5.0, 6.0)])
@pytest.mark.parametrize(("batch_weight", "class_weight"), [(1.0, 1.0), (3.0, 0.0), (0.0, 0.5)])
def test_the_mean_over_the_batch_and_its_gradient(temperatures, batch_weight, class_weight):
    ours, theirs = STUDENT.clone().requires_grad_(), STUDENT.clone().requires_grad_()
    value = MultiLevelLogitLoss(temperatures, batch_weight, class_weight)(ours, TEACHER).mean()
    expected = in_loops(theirs, TEACHER, temperatures, batch_weight, class_weight)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
    value.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12)


def test_by_hand():
    # Teacher (3/4, 1/4) and (1/4, 3/4), student twice (1/2, 1/2). Each example: 3/4 ln 3 - ln 2. Products of examples
    # 10/16 with itself and 6/16 with the other, 8/16 for the student: 2/64 a row. Those of classes are 10/16 and 6/16
    # against 8/16 as well: 4/64 in all, over two classes.
    student, teacher = torch.zeros(2, 2), torch.tensor([[3.0, 1.0], [1.0, 3.0]]).log()
    expected = 0.75 * math.log(3) - math.log(2) + 2 / 64 + 4 / 64 / 2
    assert MultiLevelLogitLoss((1.0,))(student, teacher).tolist() == pytest.approx([expected] * 2, rel=1e-5)


def test_an_example_has_its_own_value_beside_the_relation_of_the_classes():
    values = MultiLevelLogitLoss((2.0,), batch_weight=0.0)(STUDENT, TEACHER) - SoftTargetLoss(2.0)(STUDENT, TEACHER)
    torch.testing.assert_close(values, values[:1].expand(5))
    torch.testing.assert_close(
        MultiLevelLogitLoss((2.0,), batch_weight=0.0, class_weight=0.0)(STUDENT, TEACHER),
        SoftTargetLoss(2.0)(STUDENT, TEACHER),
    )


def test_scheduled_temperatures_follow_progress():
    loss = MultiLevelLogitLoss((linear(4.0, 2.0), 5.0))
    torch.testing.assert_close(loss(STUDENT, TEACHER, progress=0.5), MultiLevelLogitLoss((3.0, 5.0))(STUDENT, TEACHER))


def test_weights_and_temperatures_are_checked():
    for name in ("batch_weight", "class_weight"):
        with pytest.raises(ValueError, match=rf"{name} must be a finite number >= 0, got -1\.0"):
            MultiLevelLogitLoss(**{name: -1.0})
    with pytest.raises(ValueError, match=r"temperature must be a finite number > 0, got 0\.0"):
        MultiLevelLogitLoss((2.0, 0.0))
    for temperatures in ((), 4.0):
        with pytest.raises(ValueError, match=r"at least one number, as \[4\.0\] does; got"):
            MultiLevelLogitLoss(temperatures)
