from __future__ import annotations

from typing import Any

import pytest
from datasets import Dataset
from transformers import BertConfig

from hf_distill.labels import (
    MULTI_LABEL,
    REGRESSION,
    SINGLE_LABEL,
    check_labels_are_numbers,
    class_order,
    label_names,
    problem_type,
)


def test_default_names_count_as_none() -> None:
    assert label_names(BertConfig(num_labels=3)) is None
    assert label_names(BertConfig(id2label={0: "bad", 1: "good"})) == ["bad", "good"]


@pytest.mark.parametrize(
    ("student", "teacher", "order"),
    [
        (["a", "b", "c"], ["c", "a", "b"], [1, 2, 0]),
        (["neg", "pos"], ["Pos ", "NEG"], [1, 0]),
        (["a", "A"], ["A", "a"], [1, 0]),
        (["a", "A"], ["a", "A"], None),
        (["crane", "dog", "crane"], ["crane", "dog", "crane"], None),
        (["a", "b"], ["a", "b"], None),
        (2, ["a", "b"], None),
        (["a", "b"], 2, None),
        (["a", "b"], ["LABEL_0", "LABEL_1"], None),
    ],
)
def test_order_points_at_the_teachers_class_of_the_same_name(student: Any, teacher: Any, order: Any) -> None:
    assert class_order(student, teacher) == order


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (["a", "b"], ["a", "c"], "not the same classes.*id2label"),
        (["a", "b"], ["a", "b", "c"], r"2 labels \(a, b\) and the teacher 3 \(a, b, c\)\."),
        (2, 3, "num_labels"),
        (["a", "A"], ["a", "a "], "not the same classes"),
    ],
)
def test_what_cannot_be_aligned_is_an_error(student: Any, teacher: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_order(student, teacher)


@pytest.mark.parametrize(
    ("config", "example", "expected"),
    [
        (BertConfig(num_labels=1), {"labels": 0.5}, REGRESSION),
        (BertConfig(num_labels=3), {"label": 2}, SINGLE_LABEL),
        (BertConfig(num_labels=3), {"labels": [0.0, 1.0, 1.0]}, MULTI_LABEL),
        (BertConfig(num_labels=3), None, SINGLE_LABEL),
        (BertConfig(num_labels=3), {"input_ids": [1]}, SINGLE_LABEL),
        (BertConfig(num_labels=3, problem_type="regression"), {"labels": [0.0, 1.0, 1.0]}, REGRESSION),
    ],
)
def test_the_kind_of_task_is_what_the_head_would_choose(config: BertConfig, example: Any, expected: str) -> None:
    assert problem_type(config, example) == expected


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 0, None, 1], r"Row 2 of the training set has no label, but None or NaN\. Write -100"),
        ([1.5, float("nan"), 0.5], r"Row 1 of the training set has no label, but None or NaN\. Write -100"),
        ([None, None], "Row 0"),
        ([[0.0, 1.0], None], "Row 1"),
        (["good", "bad"], r"are text.*class_encode_column\('label'\)"),
    ],
)
def test_a_missing_label_and_a_word_are_refused(labels: Any, message: str) -> None:
    rows = Dataset.from_dict({"label": labels})
    with pytest.raises(ValueError, match=message):
        check_labels_are_numbers(rows)


def test_labels_that_are_there_are_taken_wherever_the_others_are() -> None:
    rows = Dataset.from_dict({"label": [1, None, -100, 0]})
    check_labels_are_numbers(rows.select([0, 2, 3]))
    check_labels_are_numbers(rows.select([]))
    check_labels_are_numbers(rows.remove_columns("label"))
    words = Dataset.from_dict({"label": ["a,b", "b"]})
    check_labels_are_numbers(words.with_transform(lambda batch: {"label": [[1.0, 1.0], [0.0, 1.0]]}))
