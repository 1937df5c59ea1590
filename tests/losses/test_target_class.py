"""Expected values: by hand."""

import pytest
import torch

from hf_distill.losses.target_class import check_several_others, of_others, of_target, target_class

TEACHER = torch.tensor([[1.0, 3.0, 2.0], [5.0, 4.0, 6.0]])


def test_a_label_is_the_true_class():
    assert target_class(TEACHER, torch.tensor([0, 1])).tolist() == [0, 1]
    assert target_class(TEACHER, torch.tensor([[0], [1]], dtype=torch.int32)).tolist() == [0, 1]


def test_without_a_label_the_teacher_decides():
    assert target_class(TEACHER, torch.tensor([0, -100])).tolist() == [0, 2]
    assert target_class(TEACHER, None).tolist() == [1, 2]


@pytest.mark.parametrize(
    "labels",
    [torch.tensor([[0.3, 0.7, 0.0], [0.0, 0.0, 1.0]]), torch.tensor([[0, 1, 0], [1, 0, 1]]), torch.tensor([0.0, 1.0])],
    ids=["mixup", "multi-label", "numbers"],
)
def test_labels_without_one_true_class_are_refused_with_the_cure(labels):
    with pytest.raises(ValueError, match=r"shape \(2,\); got .*mixup.*use SoftTargetLoss"):
        target_class(TEACHER, labels)


@pytest.mark.parametrize("label", [3, -1])
def test_a_label_that_is_no_class_is_refused(label):
    with pytest.raises(ValueError, match="classes from 0 to 2, or -100 where there is none; got"):
        target_class(TEACHER, torch.tensor([label, -100]))


def test_the_number_of_labels_must_be_that_of_the_examples():
    with pytest.raises(ValueError, match=r"shape \(2,\); got torch.int64 of shape \(3,\)"):
        target_class(TEACHER, torch.tensor([0, 1, 2]))


def test_the_target_and_the_others_in_their_order():
    target = torch.tensor([0, 1])
    assert of_target(TEACHER, target).tolist() == [1.0, 4.0]
    assert of_others(TEACHER, target).tolist() == [[3.0, 2.0], [5.0, 6.0]]
    assert of_others(TEACHER, torch.tensor([2, 2])).tolist() == [[1.0, 3.0], [5.0, 4.0]]


@pytest.mark.parametrize("classes", [1, 2])
def test_a_single_other_class_is_refused_with_the_reason_and_the_cure(classes):
    with pytest.raises(ValueError, match=f"at least 3 classes, got {classes}.*always 1. Use SoftTargetLoss"):
        check_several_others(torch.zeros(4, classes))
