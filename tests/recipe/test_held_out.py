"""A tenth of each class for validation, and what happens to rare ones."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from hf_distill.recipe import as_classification
from hf_distill.recipe.held_out import with_validation

NAMES = ("cat", "dog", "fish")


def splits(labels: list[int], **more: Any) -> DatasetDict:
    return DatasetDict(train=Dataset.from_dict({"text": list(map(str, range(len(labels)))), "labels": labels}), **more)


def test_a_tenth_of_each_class(caplog: pytest.LogCaptureFixture) -> None:
    given = splits([0] * 50 + [-100] * 20 + [1] * 5 + [2, 2], test=splits([1, 0])["train"])
    parts, again = with_validation(given, NAMES), with_validation(given, NAMES)
    assert list(parts) == ["train", "validation", "test"]
    assert Counter(parts["validation"]["labels"]) == {0: 5, 1: 1, 2: 1}
    assert Counter(parts["train"]["labels"]) == {0: 45, -100: 20, 1: 4, 2: 1}
    assert sorted([*parts["train"]["text"], *parts["validation"]["text"]]) == sorted(given["train"]["text"])
    assert parts["validation"]["text"][:] == again["validation"]["text"][:]
    assert parts["validation"]["text"][:5] != list("01234"), "drawn, not the first"
    assert "7 of 77 training rows are held out for it, a tenth of each class (seed 0)" in caplog.text
    assert "too few rows" not in caplog.text


def test_a_class_with_a_single_row_stays_in_training(caplog: pytest.LogCaptureFixture) -> None:
    parts = with_validation(splits([0, 0, 1, 1, 2]), NAMES)
    assert parts["validation"]["labels"][:] == [0, 1]
    assert parts["train"]["labels"][:] == [0, 1, 2]
    assert "Of fish there are too few rows" in caplog.text


@pytest.mark.parametrize("labels", [[0, 1], [0, 0, 0, 1], []])
def test_too_few(labels: list[int]) -> None:
    with pytest.raises(ValueError, match=r"too few training examples .*two classes need two each.*Add a validation"):
        with_validation(splits(labels), NAMES[:2])


def test_nothing_is_held_out_where_a_split_is_for_validation() -> None:
    given = splits([0, 1, 0, 1], validation=splits([1, 0])["train"])
    assert with_validation(given, NAMES) is given
    assert list(as_classification(splits([0, 1, 0, 1])).splits) == ["train"], "nor where none is asked for"
    data = as_classification(splits([0, 1, 0, 1]), hold_out=True)
    assert {name: len(rows) for name, rows in data.splits.items()} == {"train": 2, "validation": 2}
