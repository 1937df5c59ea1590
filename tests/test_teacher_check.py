from __future__ import annotations

import pytest
import torch
from sklearn.metrics import r2_score

from hf_distill.labels import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from hf_distill.teacher_check import check_teacher

GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.randint(0, 3, (200,), generator=GENERATOR)


def one_hot(labels: torch.Tensor, classes: int = 3) -> torch.Tensor:
    return torch.nn.functional.one_hot(labels, classes).float()


def test_balanced_accuracy_is_the_mean_recall() -> None:
    labels = torch.tensor([0] * 30 + [1] * 10)
    answers = torch.tensor([0] * 24 + [1] * 6 + [1] * 9 + [0])  # recalls 0.8 and 0.9
    assert check_teacher("t", one_hot(answers, 2), labels, SINGLE_LABEL) == pytest.approx(0.85)


def test_always_the_commonest_class_is_chance() -> None:
    labels = torch.tensor([0] * 190 + [1] * 10)
    with pytest.raises(ValueError, match=r"scores 0\.500 \(balanced accuracy\) .* guessing gives 0\.500"):
        check_teacher("t", one_hot(torch.zeros(200, dtype=torch.long), 2), labels, SINGLE_LABEL)


def test_swapped_names_are_recognised() -> None:
    with pytest.raises(ValueError, match=r"renamed \{0: 2, 1: 0, 2: 1\}: .* or those of the student"):
        check_teacher("t", one_hot((LABELS + 1) % 3), LABELS, SINGLE_LABEL)


def test_guessing_is_refused_and_the_cure_named() -> None:
    guesses = torch.randn(200, 3, generator=GENERATOR)
    with pytest.raises(ValueError, match="Fine-tune it on this task first"):
        check_teacher("t", guesses, LABELS, SINGLE_LABEL)


def test_classes_that_do_not_occur_are_left_out() -> None:
    labels = LABELS.clamp(max=1)
    assert check_teacher("t", one_hot(labels, 5), labels, SINGLE_LABEL) == 1.0


def test_unlabelled_rows_are_left_out() -> None:
    labels = LABELS.clone()
    labels[:100] = -100
    answers = LABELS.clone()
    answers[:100] = (answers[:100] + 1) % 3
    assert check_teacher("t", one_hot(answers), labels, SINGLE_LABEL) == 1.0


@pytest.mark.parametrize("labels", [None, torch.full((200,), -100), torch.zeros(200, dtype=torch.long)])
def test_without_labels_of_two_classes_there_is_no_score(labels: torch.Tensor | None) -> None:
    assert check_teacher("t", one_hot(LABELS), labels, SINGLE_LABEL) is None


def test_too_few_labels_to_tell() -> None:
    assert check_teacher("t", one_hot(1 - LABELS[:31] % 2, 2), LABELS[:31] % 2, SINGLE_LABEL) is None


def test_multi_label_skill() -> None:
    labels = torch.randint(0, 2, (200, 4), generator=GENERATOR).float()
    assert check_teacher("t", labels * 2 - 1, labels, MULTI_LABEL) == 1.0
    with pytest.raises(ValueError, match="nothing to teach"):
        check_teacher("t", torch.randn(200, 4, generator=GENERATOR), labels, MULTI_LABEL)


def test_regression_skill() -> None:
    truth = torch.randn(200, generator=GENERATOR)
    assert check_teacher("t", truth[:, None], truth, REGRESSION) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="nothing to teach"):
        check_teacher("t", torch.randn(200, 1, generator=GENERATOR), truth, REGRESSION)


def test_a_teacher_of_numbers_that_is_always_off_by_as_much_knows_nothing() -> None:
    truth = torch.randn(200, generator=GENERATOR)
    with pytest.raises(ValueError, match="nothing to teach"):
        check_teacher("t", truth[:, None] + 100, truth, REGRESSION)
    columns = torch.randn(200, 2, generator=GENERATOR) + torch.tensor([0.0, 50.0])
    with pytest.raises(ValueError, match="nothing to teach"):  # it only knows that the second one is larger
        check_teacher("t", columns.mean(dim=0).expand(200, 2), columns, REGRESSION)
    near = columns + torch.tensor([0.5, -0.5])
    by_hand = r2_score(columns.numpy(), near.numpy(), multioutput="variance_weighted")
    assert check_teacher("t", near, columns, REGRESSION) == pytest.approx(by_hand)


def test_nan_is_found_without_labels_too() -> None:
    logits = one_hot(LABELS)
    logits[7, 1] = float("nan")
    with pytest.raises(ValueError, match=r"answers NaN or infinity \(example 7"):
        check_teacher("t", logits, None, SINGLE_LABEL)
