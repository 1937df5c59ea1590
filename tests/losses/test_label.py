"""Expected values: the heads of transformers, torch's own averaged losses, or by hand."""

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification
from transformers.trainer_pt_utils import LabelSmoother

from hf_distill.losses import NO_LABEL, ClassificationLoss, MultiLabelLoss, RegressionLoss, VirtualTeacherLoss

LOGITS = torch.tensor([[0.3, -1.2, 2.0], [1.0, 1.0, 1.0], [-4.0, 0.5, 0.0], [6.0, -0.1, 0.4]])
CLASSES = torch.tensor([2, 0, 0, 1])
QUESTIONS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.3, 0.0, 1.0]])
VALUES = torch.tensor([[0.5, -1.0, 2.5], [0.0, 3.0, 1.0], [-4.0, 0.5, 0.0], [2.0, 2.0, 2.0]])

CASES = [
    pytest.param(ClassificationLoss(), LOGITS, CLASSES, id="classes"),
    pytest.param(ClassificationLoss(0.1), LOGITS, CLASSES, id="smoothed classes"),
    pytest.param(MultiLabelLoss(), LOGITS, QUESTIONS, id="multi-label"),
    pytest.param(RegressionLoss(), LOGITS, VALUES, id="regression"),
    pytest.param(RegressionLoss(), LOGITS[:, :1], VALUES[:, 0], id="one output"),
    pytest.param(VirtualTeacherLoss(), LOGITS, CLASSES, id="virtual teacher"),
]


@pytest.mark.parametrize(
    ("loss", "problem_type", "labels"),
    [
        (ClassificationLoss(), "single_label_classification", CLASSES),
        (MultiLabelLoss(), "multi_label_classification", QUESTIONS),
        (RegressionLoss(), "regression", VALUES),
        (RegressionLoss(), "regression", VALUES[:, 0]),
        (RegressionLoss(), "regression", VALUES[:, :1]),
    ],
)
def test_the_mean_is_the_loss_of_a_sequence_classification_head(loss, problem_type, labels):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=3
    )
    config.problem_type = problem_type
    if problem_type == "regression" and labels.shape != LOGITS.shape:
        config.num_labels = 1
    output = BertForSequenceClassification(config).eval()(torch.randint(50, (4, 7)), labels=labels)
    torch.testing.assert_close(loss(output.logits, labels).mean(), output.loss)


def test_smoothing_is_that_of_the_trainer():
    expected = LabelSmoother(epsilon=0.1)({"logits": LOGITS}, CLASSES)
    torch.testing.assert_close(ClassificationLoss(0.1)(LOGITS, CLASSES).mean(), expected)


def test_classes_by_hand():
    # Probabilities (3/4, 1/4): -ln 3/4 and -ln 1/4; smoothed by 0.2 the target is (0.9, 0.1).
    logits = torch.tensor([[3.0, 1.0], [3.0, 1.0]]).log()
    labels = torch.tensor([0, 1])
    assert ClassificationLoss()(logits, labels).tolist() == pytest.approx([0.287682, 1.386294], rel=1e-5)
    assert ClassificationLoss(0.2)(logits, labels).tolist() == pytest.approx([0.397543, 1.276433], rel=1e-5)


def test_each_value_is_that_of_its_row_alone():
    for loss, logits, labels in (case.values for case in CASES):
        alone = [loss(logits[[row]], labels[[row]]).item() for row in range(4)]
        assert loss(logits, labels).tolist() == pytest.approx(alone)


@pytest.mark.parametrize(("loss", "logits", "labels"), CASES)
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_a_row_without_a_label_costs_0_and_moves_nothing(loss, logits, labels, scale):
    partly = labels.clone()
    partly[1] = partly[3] = NO_LABEL
    student = (scale * logits).requires_grad_()
    values = loss(student, partly)
    assert values[[1, 3]].tolist() == [0.0, 0.0]
    torch.testing.assert_close(values[[0, 2]], loss(scale * logits, labels)[[0, 2]])
    values.sum().backward()
    assert student.grad[[1, 3]].count_nonzero() == 0
    assert student.grad.isfinite().all()


@pytest.mark.parametrize(("loss", "logits", "labels"), CASES)
def test_a_batch_without_labels_costs_0_and_can_be_trained_on(loss, logits, labels):
    student = logits.clone().requires_grad_()
    values = loss(student, torch.full_like(labels, NO_LABEL))
    values.mean().backward()
    assert values.tolist() == [0.0] * 4
    assert student.grad.tolist() == torch.zeros_like(logits).tolist()


@pytest.mark.parametrize("loss", [MultiLabelLoss(), RegressionLoss()])
def test_a_cell_without_a_label_is_left_out_of_the_mean(loss):
    labels = QUESTIONS.clone()
    labels[0, 1] = labels[3, 0] = labels[3, 2] = NO_LABEL
    student = LOGITS.clone().requires_grad_()
    values = loss(student, labels)
    assert values[0].item() == pytest.approx(loss(LOGITS[:1, [0, 2]], QUESTIONS[:1, [0, 2]]).item())
    assert values[3].item() == pytest.approx(loss(LOGITS[3:, [1]], QUESTIONS[3:, [1]]).item())
    values.sum().backward()
    assert (student.grad == 0).nonzero().tolist() == [[0, 1], [3, 0], [3, 2]]


@pytest.mark.parametrize(("loss", "logits", "labels"), CASES)
def test_gradients_against_finite_differences(loss, logits, labels):
    assert torch.autograd.gradcheck(lambda z: loss(z, labels), logits.double().requires_grad_())


@pytest.mark.parametrize(("loss", "logits", "labels"), CASES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(loss, logits, labels, dtype):
    values = loss(logits.to(dtype), labels)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, loss(logits.to(dtype).float(), labels))


def test_whole_number_labels_do_for_multi_label_and_regression():
    whole = QUESTIONS.round()
    for loss in (MultiLabelLoss(), RegressionLoss()):
        torch.testing.assert_close(loss(LOGITS, whole.long()), loss(LOGITS, whole))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_shares_of_classes_cost_their_share_of_each_class(smoothing):
    """A mixed image's loss is the mixture of the losses of its two classes; float64, values and gradients."""
    loss, share = ClassificationLoss(smoothing), torch.tensor([0.7, 1.0, 0.25, 0.5], dtype=torch.float64)
    others = torch.tensor([0, 0, 1, 2])
    mixed = torch.zeros(4, 3, dtype=torch.float64)
    for row in range(4):
        mixed[row, CLASSES[row]] += share[row]
        mixed[row, others[row]] += 1 - share[row]
    logits, plain = (LOGITS.double().requires_grad_() for _ in range(2))
    expected = share * loss(plain, CLASSES) + (1 - share) * loss(plain, others)
    torch.testing.assert_close(loss(logits, mixed), expected)
    loss(logits, mixed).sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(logits.grad, plain.grad)
    mixed[1] = NO_LABEL
    logits = LOGITS.double().requires_grad_()
    values = loss(logits, mixed)
    values.sum().backward()
    assert values[1] == 0
    assert logits.grad[1].count_nonzero() == 0
    torch.testing.assert_close(values[[0, 2, 3]], expected[[0, 2, 3]])


def test_a_column_of_classes_is_as_good_as_a_row():
    torch.testing.assert_close(ClassificationLoss()(LOGITS, CLASSES[:, None]), ClassificationLoss()(LOGITS, CLASSES))


@pytest.mark.parametrize(
    ("loss", "logits", "labels", "message"),
    [
        (ClassificationLoss(), LOGITS, CLASSES[:3], r"\(3,\) do not fit logits of shape \(4, 3\)"),
        (ClassificationLoss(), LOGITS, torch.ones(4, 3, dtype=torch.long), "multi_label_classification"),
        (ClassificationLoss(), LOGITS, QUESTIONS, r"\(4, 3\) do not fit"),
        (ClassificationLoss(), LOGITS[:, 0], CLASSES, r"logits of shape \(4,\)"),
        (ClassificationLoss(), LOGITS, CLASSES.float(), "whole numbers, got torch.float32"),
        (ClassificationLoss(), LOGITS[:, :1], CLASSES, "at least 2"),
        (MultiLabelLoss(), LOGITS, CLASSES, r"\(4,\) do not fit"),
        (MultiLabelLoss(), LOGITS, QUESTIONS[:, :2], r"\(4, 2\) do not fit"),
        (RegressionLoss(), LOGITS, VALUES[:, 0], r"\(4,\) do not fit"),
        (RegressionLoss(), LOGITS[:, :1], VALUES[:3, 0], r"\(3, 1\) do not fit"),
    ],
)
def test_labels_that_do_not_fit_are_refused(loss, logits, labels, message):
    with pytest.raises(ValueError, match=message):
        loss(logits, labels)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_smoothing_is_at_least_0_and_below_1(smoothing):
    with pytest.raises(ValueError, match="label_smoothing"):
        ClassificationLoss(smoothing)
