"""What every exported loss promises, whatever its formula. Those between features are in test_feature_contract.py."""

import inspect
from pathlib import Path

import pytest
import torch

import hf_distill.losses
from hf_distill.losses import (
    ClassificationLoss,
    DecoupledSoftTargetLoss,
    DISTLoss,
    FeatureLoss,
    HardTargetLoss,
    JensenShannonLoss,
    LabelLoss,
    LogitMSELoss,
    MultiLabelLoss,
    MultiLabelTargetLoss,
    MultiLevelLogitLoss,
    NormalizedKDLoss,
    PairLoss,
    RegressionLoss,
    RegressionTargetLoss,
    ReverseSoftTargetLoss,
    SoftTargetLoss,
    StandardizedLogits,
    TransformedTeacherMatchingLoss,
    VirtualTeacherLoss,
)

PAIR_LOSSES = [
    DecoupledSoftTargetLoss(2.0),
    DISTLoss(2.0),
    HardTargetLoss(),
    HardTargetLoss(label_smoothing=0.1, confidence_threshold=0.4),  # which two of the six teacher rows reach
    JensenShannonLoss(2.0),
    JensenShannonLoss(2.0, teacher_share=0.1),
    LogitMSELoss(),
    LogitMSELoss(centered=True),
    MultiLabelTargetLoss(2.0),
    MultiLevelLogitLoss(),
    NormalizedKDLoss(2.0),
    RegressionTargetLoss(),
    ReverseSoftTargetLoss(2.0),
    SoftTargetLoss(2.0),
    StandardizedLogits(SoftTargetLoss(2.0)),
    TransformedTeacherMatchingLoss(2.0),
    TransformedTeacherMatchingLoss(2.0, weighted=True),
]
# Their own contract is in test_label.py.
LABEL_LOSSES = [ClassificationLoss(), MultiLabelLoss(), RegressionLoss(), VirtualTeacherLoss()]

# What sets some losses apart. Everything else in this file holds for all of them.
ON_RAW_LOGITS = (LogitMSELoss, MultiLabelTargetLoss, RegressionTargetLoss)  # the others compare shares of classes
ACROSS_THE_BATCH = (DISTLoss, MultiLevelLogitLoss)  # an example's value depends on the examples beside it
TRUE_CLASS_APART = (DecoupledSoftTargetLoss, NormalizedKDLoss)  # labels matter
NOT_AT_REST_AT_THE_TEACHER = (HardTargetLoss, NormalizedKDLoss, TransformedTeacherMatchingLoss)

every_pair_loss = pytest.mark.parametrize("loss", PAIR_LOSSES, ids=repr)
EXPORTED = [getattr(hf_distill.losses, name) for name in hf_distill.losses.__all__]
LOSS_CLASSES = [c for c in EXPORTED if inspect.isclass(c) and issubclass(c, (PairLoss, LabelLoss))]
every_class = pytest.mark.parametrize("loss_class", [c for c in LOSS_CLASSES if not inspect.isabstract(c)])


def compares_classes(loss):
    return not isinstance(loss, ON_RAW_LOGITS) or getattr(loss, "centered", False)


def logits(seed, classes=5, examples=6):
    return torch.randn(examples, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_every_exported_loss_is_in_the_lists_above():
    logit_losses = {c for c in LOSS_CLASSES if not issubclass(c, FeatureLoss)}
    assert {type(loss) for loss in PAIR_LOSSES + LABEL_LOSSES} == logit_losses - {PairLoss, LabelLoss}


@every_pair_loss
def test_one_finite_value_at_least_0_per_example(loss):
    values = loss(logits(0).float(), logits(1).float())
    assert values.shape == (6,)
    assert values.dtype == torch.float32
    assert values.isfinite().all()
    assert (values >= 0).all()


@every_pair_loss
def test_an_example_sees_its_neighbours_just_where_the_loss_relates_them(loss):
    student, teacher = logits(0), logits(1)
    alone = torch.cat([loss(student[[row]], teacher[[row]]) for row in range(6)])
    assert torch.allclose(loss(student, teacher), alone) != isinstance(loss, ACROSS_THE_BATCH)


@every_pair_loss
def test_the_order_of_examples_does_not_matter(loss):
    order = torch.tensor([3, 0, 5, 4, 2, 1])
    torch.testing.assert_close(loss(logits(0)[order], logits(1)[order]), loss(logits(0), logits(1))[order])


@every_pair_loss
def test_labels_matter_just_where_the_true_class_is_treated_apart(loss):
    labels = torch.tensor([4, 0, 3, 1, 2, 2])
    assert (labels != logits(1).argmax(dim=-1)).any()  # which is what such a loss falls back on
    same = torch.allclose(loss(logits(0), logits(1), labels=labels), loss(logits(0), logits(1)))
    assert same != isinstance(loss, TRUE_CLASS_APART)


@every_pair_loss
def test_gradient_goes_to_the_student_only(loss):
    student, teacher = logits(0).requires_grad_(), logits(1).requires_grad_()
    loss(student, teacher).sum().backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@every_pair_loss
def test_gradient_against_finite_differences(loss):
    assert torch.autograd.gradcheck(lambda student: loss(student, logits(1)), logits(0).requires_grad_())


@pytest.mark.parametrize(
    "loss", [loss for loss in PAIR_LOSSES if not isinstance(loss, NOT_AT_REST_AT_THE_TEACHER)], ids=repr
)
def test_no_cost_and_no_pull_at_a_perfect_match(loss):
    student = logits(0).requires_grad_()
    values = loss(student, logits(0))
    values.sum().backward()
    torch.testing.assert_close(values, torch.zeros_like(values), atol=1e-12, rtol=0)
    torch.testing.assert_close(student.grad, torch.zeros_like(student), atol=1e-12, rtol=0)


@every_pair_loss
def test_a_shift_of_all_logits_matters_just_where_no_softmax_is(loss):
    same = torch.allclose(loss(logits(0) + 3.0, logits(1)), loss(logits(0), logits(1)))
    assert same == compares_classes(loss)


@every_pair_loss
def test_the_order_of_classes_does_not_matter(loss):
    order = torch.tensor([3, 0, 4, 2, 1])
    torch.testing.assert_close(loss(logits(0)[:, order], logits(1)[:, order]), loss(logits(0), logits(1)))


@every_pair_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(loss, dtype):
    student, teacher = logits(0).to(dtype), logits(1).to(dtype)
    values = loss(student, teacher)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, loss(student.float(), teacher.float()))


@every_pair_loss
def test_autocast_changes_nothing(loss):
    student, teacher = logits(0).float(), logits(1).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = loss(student, teacher)
    torch.testing.assert_close(values, loss(student, teacher))


@every_pair_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_logits_stay_finite(loss, dtype):
    extremes = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [1e4, 1e4, 1e4]], dtype=dtype)
    for teacher in (extremes.flip(0), extremes, extremes.roll(1, dims=1), extremes / 1e8):
        student = extremes.clone().requires_grad_()
        values = loss(student, teacher)
        values.sum().backward()
        assert values.isfinite().all()
        assert student.grad.isfinite().all()


@every_pair_loss
@pytest.mark.parametrize(
    ("student", "teacher"), [((4, 3), (4, 5)), ((4, 3), (2, 3)), ((4, 3), (1, 3)), ((4,), (4,)), ((2, 3, 4), (2, 3, 4))]
)
def test_shapes_that_do_not_fit_are_refused_with_both_shapes(loss, student, teacher):
    with pytest.raises(ValueError, match="Student and teacher logits must both be") as error:
        loss(torch.zeros(student), torch.zeros(teacher))
    assert str(student) in str(error.value)
    assert str(teacher) in str(error.value)


@every_pair_loss
def test_one_output_is_refused_where_classes_are_compared(loss):
    if compares_classes(loss):
        with pytest.raises(ValueError, match="at least"):
            loss(torch.ones(4, 1), torch.zeros(4, 1))
    else:
        assert loss(torch.ones(4, 1), torch.zeros(4, 1)).shape == (4,)


@every_pair_loss
def test_its_repr_is_one_line_that_says_how_it_was_made(loss):
    assert repr(loss).startswith(f"{type(loss).__name__}(")
    assert "\n" not in repr(loss)


@every_class
def test_the_docstring_has_its_sections(loss_class):
    text = inspect.getdoc(loss_class)
    sections = ["Shape:", "Raises:", "Source:", "Example:"]
    if "__init__" in vars(loss_class):
        sections.insert(0, "Args:")
    positions = [text.find(f"\n{section}\n") for section in sections]
    assert -1 not in positions, f"{loss_class.__name__} lacks one of {sections}"
    assert positions == sorted(positions)
    assert ".. math::" in text
    assert ">>> " in text


@every_class
def test_a_test_file_of_the_same_name_exists(loss_class):
    module = Path(inspect.getfile(loss_class))
    assert (Path(__file__).parent / f"test_{module.stem}.py").is_file()
