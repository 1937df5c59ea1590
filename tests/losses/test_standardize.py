"""Expected values: z-scores in plain float64 numpy."""

import numpy as np
import pytest
import torch

from hf_distill.losses import LogitMSELoss, PairLoss, SoftTargetLoss, StandardizedLogits
from hf_distill.schedules import linear

STUDENT = torch.tensor([[0.3, -1.2, 2.0, 0.1], [-4.0, 0.5, 0.0, 2.0]])
TEACHER = torch.tensor([[1.5, 0.2, -0.7, 8.0], [-3.0, 0.5, 0.1, 0.2]])


def z_scores(logits):
    logits = logits.double().numpy()
    return (logits - logits.mean(axis=-1, keepdims=True)) / logits.std(axis=-1, ddof=1, keepdims=True)


def test_values():
    expected = ((z_scores(STUDENT) - z_scores(TEACHER)) ** 2).sum(axis=-1)
    np.testing.assert_allclose(StandardizedLogits(LogitMSELoss())(STUDENT, TEACHER), expected, rtol=1e-5)


def test_the_standard_deviation_is_unbiased():
    # By hand: (0, 3, 6) has mean 3 and unbiased standard deviation 3, so it becomes (-1, 0, 1); all equal becomes 0.
    loss = StandardizedLogits(LogitMSELoss())(torch.tensor([[0.0, 3.0, 6.0]]), torch.ones(1, 3))
    assert loss.tolist() == pytest.approx([2.0])


@pytest.mark.parametrize(("scale", "shift"), [(3.0, 0.0), (0.01, -5.0), (1.0, 100.0)])
def test_scale_and_shift_of_either_model_do_not_matter(scale, shift):
    loss = StandardizedLogits(SoftTargetLoss(2.0))
    expected = loss(STUDENT.double(), TEACHER.double())
    torch.testing.assert_close(loss(scale * STUDENT.double() + shift, TEACHER.double()), expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(loss(STUDENT.double(), scale * TEACHER.double() + shift), expected, rtol=1e-4, atol=0)


def test_gradient_passes_through_mean_and_deviation():
    # The loss is constant along the student's shift and (but for 1e-7) scale, so its gradient has no such part.
    student = STUDENT.double().requires_grad_()
    StandardizedLogits(SoftTargetLoss(2.0))(student, TEACHER.double()).sum().backward()
    assert student.grad.abs().max() > 0.1
    torch.testing.assert_close(student.grad.sum(dim=-1), torch.zeros(2).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close((student.grad * STUDENT).sum(dim=-1), torch.zeros(2).double(), atol=1e-6, rtol=0)


def test_a_row_of_equal_logits_has_a_finite_gradient():
    student = torch.ones(1, 3, requires_grad=True)
    StandardizedLogits(SoftTargetLoss(1.0))(student, torch.tensor([[1.0, 2.0, 3.0]])).sum().backward()
    assert student.grad.isfinite().all()


def test_everything_else_is_handed_on():
    class Recorder(PairLoss):
        def forward(self, student, teacher, *, mask=None, labels=None, progress=0.0):
            self.seen = (mask, labels, progress)
            return student.sum(dim=-1)

    recorder, mask, labels = Recorder(), torch.ones(2, 4), torch.tensor([0, 1])
    StandardizedLogits(recorder)(STUDENT, TEACHER, mask=mask, labels=labels, progress=0.25)
    assert recorder.seen[0] is mask
    assert recorder.seen[1] is labels
    assert recorder.seen[2] == 0.25


@pytest.mark.parametrize("classes", [1, 2])
def test_fewer_than_three_classes_are_refused(classes):
    with pytest.raises(ValueError, match=f"at least 3 classes, got {classes}.*Use the inner loss, LogitMSELoss"):
        StandardizedLogits(LogitMSELoss())(torch.randn(4, classes), torch.randn(4, classes))


@pytest.mark.parametrize(("loss", "name"), [(SoftTargetLoss, "SoftTargetLoss"), (4.0, "4.0"), (None, "None")])
def test_what_is_no_loss_is_refused(loss, name):
    with pytest.raises(ValueError, match=f"goes around a loss, such as .*; got {name}"):
        StandardizedLogits(loss)


def test_it_reads_as_one_line():
    loss = StandardizedLogits(SoftTargetLoss(linear(4.0, 2.0)))
    assert repr(loss) == "StandardizedLogits(SoftTargetLoss(temperature=linear(4.0, 2.0)))"
