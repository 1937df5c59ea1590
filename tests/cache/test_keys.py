"""A key depends on what the teacher reads, and on nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, List, Value, concatenate_datasets
from PIL import Image

from hf_distill.cache.keys import Keys, example_keys, keys_of_dataset, keys_of_rows

ROWS = [{"a": [1, 2, 3], "b": "x"}, {"a": [4], "b": "y"}, {"a": [1, 2, 3], "b": "x"}, {"a": [], "b": ""}]


def flat(keys: Keys | Iterable[Keys]) -> list[tuple[int, ...]]:
    parts = [keys] if isinstance(keys, np.ndarray) else list(keys)
    return [tuple(int(part) for part in key) for key in np.concatenate(parts)]


def test_rows_and_stored_columns_have_the_same_keys() -> None:
    stored = Dataset.from_list(ROWS)
    keys = flat(keys_of_rows(ROWS, ["a", "b"]))
    assert keys[0] == keys[2]
    assert len(set(keys)) == 3
    assert flat(keys_of_dataset(stored, ["a", "b"])) == keys
    assert flat(keys_of_dataset(stored, {"b", "a"})) == keys, "whatever the order of the columns"
    assert flat(keys_of_rows([stored[row] for row in range(4)], ["b", "a"])) == keys


@pytest.mark.parametrize("format_", [None, "numpy", "torch"])
@pytest.mark.parametrize("width", ["int8", "int32", "int64"])
def test_how_integers_are_held_does_not_matter(format_: str | None, width: str) -> None:
    stored = Dataset.from_list(ROWS).select_columns("a").cast_column("a", List(Value(width)))
    rows = stored.with_format(format_)
    expected = flat(keys_of_rows(ROWS, ["a"]))
    assert flat(keys_of_rows([rows[row] for row in range(3)], ["a"])) == expected[:3]
    assert flat(keys_of_dataset(rows, ["a"])) == expected


def test_slices_shuffles_and_mixtures_keep_their_keys() -> None:
    stored = Dataset.from_list(ROWS)
    keys = flat(keys_of_dataset(stored, ["a"]))
    assert flat(keys_of_dataset(stored.select([3, 1]), ["a"])) == [keys[3], keys[1]]
    assert flat(keys_of_dataset(stored.select(range(1, 4)), ["a"])) == keys[1:]
    mixed = concatenate_datasets([stored.select(range(2, 4)), stored])
    assert flat(keys_of_dataset(mixed, ["a"])) == keys[2:] + keys


@pytest.mark.parametrize(
    "values",
    [
        [[1, 2], [12]], [[1, 0], [0, 1], [[1], [0]], [1], 1], ["a", "b", b"a", ["a"]], [0.5, 0.25, [0.5]],
        [torch.zeros(2, 3), torch.zeros(3, 2), torch.zeros(6), torch.zeros(2, 3, dtype=torch.int64)],
        [True, "True", 1.0], [None, "None"][1:],
        [Image.new("RGB", (2, 3)), Image.new("RGB", (3, 2)), Image.new("L", (2, 3)), Image.new("RGB", (2, 3), "red")],
    ],
)  # fmt: skip
def test_different_values_have_different_keys(values: list[Any]) -> None:
    keys = [flat(example_keys({"a": [value]}))[0] for value in values]
    assert len(set(keys)) == len(values)


def test_the_column_and_where_a_value_ends_matter() -> None:
    made = [example_keys({"a": [left], "b": [right]}) for left, right in product(["", "x", "xx"], repeat=2)]
    assert len({key for keys in made for key in flat(keys)}) == 9
    assert flat(example_keys({"a": ["x"]})) != flat(example_keys({"b": ["x"]}))


def test_what_has_no_content_is_refused() -> None:
    with pytest.raises(TypeError, match="value of type object: name columns"):
        example_keys({"a": [object()]})
    with pytest.raises(KeyError, match=r"A row has no 'b', by which examples are told apart; it has \['a'\]"):
        keys_of_rows([{"a": 1}], ["b"])
