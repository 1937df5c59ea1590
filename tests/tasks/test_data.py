"""Data sets of several tasks as one."""

from __future__ import annotations

from collections import Counter

import pytest
from datasets import ClassLabel, Dataset, Value

from hf_distill import Tasks, joint_dataset

TASKS = Tasks({"tone": ["bad", "good"], "topic": ["film", "music", "art"]})


def rows(labels: list[int], first: int = 0, **columns: list[object]) -> Dataset:
    ids = [[first + row] for row in range(len(labels))]
    return Dataset.from_dict({"input_ids": ids, "labels": labels, **columns})


def test_labels_are_numbered_through_and_rows_lie_evenly_in_their_order() -> None:
    joint = joint_dataset({"topic": rows([2, 0], 10), "tone": rows([1, 0, -100, 1])}, TASKS)
    # Places (i + 1/2) / n: 1/8, 3/8, 5/8, 7/8 and 1/4, 3/4.
    assert joint["input_ids"][:] == [[0], [10], [1], [2], [11], [3]]
    assert joint["labels"][:] == [1, 4, 0, -100, 2, 1]
    assert joint.features["labels"].names == list(TASKS.joint)


@pytest.mark.parametrize(("exponent", "expected"), [(1.0, [16, 4]), (0.5, [16, 8]), (0.0, [16, 16])])
def test_small_tasks_are_repeated(exponent: float, expected: list[int]) -> None:
    """16 (4 / 16)^a: 4, 8 and 16."""
    joint = joint_dataset({"tone": rows([0, 1] * 8), "topic": rows([0, 1, 2, 0], 100)}, TASKS, exponent)
    counts = Counter(ids[0] for ids in joint["input_ids"])
    assert [sum(counts[row] for row in range(16)), sum(counts[row] for row in range(100, 104))] == expected
    assert {counts[row] for row in range(100, 104)} == {expected[1] // 4}


def test_labels_may_have_names_and_another_column() -> None:
    tone = rows([1, 0]).rename_column("labels", "label").cast_column("label", ClassLabel(names=["neg", "pos"]))
    joint = joint_dataset({"tone": tone, "topic": rows([0, 1])}, TASKS)
    assert sorted(joint.column_names) == ["input_ids", "labels"]
    assert sorted(joint["labels"][:]) == [0, 1, 2, 3]


def test_texts_that_a_teacher_reads_may_be_in_one_of_them_alone() -> None:
    joint = joint_dataset({"tone": rows([1, 0], sentence=["a", "b"]), "topic": rows([0, 1])}, TASKS)
    assert sorted(joint["sentence"][:], key=str) == [None, None, "a", "b"]


def test_other_words_for_the_classes_are_mentioned(caplog: pytest.LogCaptureFixture) -> None:
    other = rows([0, 1]).cast_column("labels", ClassLabel(names=["positive", "negative"]))
    joint_dataset({"tone": other, "topic": rows([0, 1])}, TASKS)
    assert "task 'tone' calls its classes ['positive', 'negative'], and Tasks calls them ['bad', 'good']" in caplog.text


def test_data_and_tasks_must_be_of_the_same_names() -> None:
    with pytest.raises(KeyError, match=r"data of \['tone'\], and the tasks are \['tone', 'topic'\]"):
        joint_dataset({"tone": rows([0, 1])}, TASKS)
    with pytest.raises(ValueError, match="between 0 and 1, got 2"):
        joint_dataset({"tone": rows([0, 1]), "topic": rows([0, 1])}, TASKS, exponent=2.0)


@pytest.mark.parametrize(
    ("tone", "message"),
    [
        (rows([]), "without rows"),
        (rows([0, 1]).remove_columns("labels"), "no column `labels`"),
        (rows([0, 2]), "classes 0 to 1, bad, good, and its data a label 2"),
        (rows([0, -1]), "a label -1"),
        (rows([0, 1]).cast_column("labels", Value("float32")), "of type float32"),
        (rows([0, 1]).cast_column("labels", Value("string")), "labels of the training set are text"),
        (
            rows([0, 1]).cast_column("labels", ClassLabel(names=["good", "bad"])),
            r"\['good', 'bad'\], and Tasks \['bad', 'good'\].*align_labels_with_mapping\({'bad': 0, 'good': 1}",
        ),
        (rows([0, 1], token_type_ids=[[0], [0]]), r"'topic' has no \['token_type_ids'\]"),
    ],
)
def test_data_that_does_not_fit_is_refused(tone: Dataset, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        joint_dataset({"tone": tone, "topic": rows([0, 1])}, TASKS)
