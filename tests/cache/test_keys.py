"""A key depends on what the teacher reads, and on nothing else."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import xxhash
from datasets import Dataset, Sequence, Value, concatenate_datasets
from PIL import Image

from hf_distill.cache.keys import Keys, are_light, example_keys, keys_of_dataset, keys_of_rows

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
@pytest.mark.parametrize("width", ["int8", "int32", "int64", "uint8", "uint64"])
def test_how_integers_are_held_does_not_matter(format_: str | None, width: str) -> None:
    stored = Dataset.from_list(ROWS).select_columns("a").cast_column("a", Sequence(Value(width)))
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
        [True, "True", 1.0], [["a\0b"], ["a", "b"], [["a"], ["b"]], ["a\0", "b"], ["a", "1"], "a\0b"],
        [1.7e9, 1.7e9 + 1, 1.7e9 + 1e-6], [2**63, 2**63 - 1, -(2**63)], [np.uint64(2**64 - 1), -1],
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
    with pytest.raises(
        TypeError, match=r"Column .a. cannot tell examples apart: it has a value of type object\. Name columns"
    ):
        example_keys({"a": [object()]})
    with pytest.raises(TypeError, match=r"Column 'a' .*an empty value, None\. Fill such rows, or filter them out"):
        example_keys({"a": ["x", None]})
    with pytest.raises(KeyError, match=r"A row has no \['b'\], by which examples are told apart; it has \['a'\]"):
        keys_of_rows([{"a": 1}], ["b"])


def test_a_palette_is_part_of_a_picture() -> None:
    red, blue = Image.new("P", (2, 2)), Image.new("P", (2, 2))
    red.putpalette([255, 0, 0])
    blue.putpalette([0, 0, 255])
    assert flat(example_keys({"a": [red]})) != flat(example_keys({"a": [blue]}))


def test_bfloat16_and_float64_are_what_they_are() -> None:
    half, double = torch.tensor([0.5, 0.25], dtype=torch.bfloat16), torch.tensor([0.5, 0.25], dtype=torch.float64)
    assert len({key for value in (half, double, [0.5, 0.25]) for key in flat(example_keys({"a": [value]}))}) == 1


@pytest.mark.parametrize("channels_last", [False, True])
def test_an_image_has_the_key_that_it_had(channels_last: bool) -> None:
    """Against the bytes written down here: caches that exist must stay readable."""
    image = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    label, content = struct.pack("<q", 5), struct.pack("<24d", *image.flatten().tolist())
    parts = [b"label", b"integers()", b"8", label, b"pixels", b"float64(2, 3, 4)", b"192", content]
    expected = xxhash.xxh3_128_digest(b"\0".join(parts[:4]) + b"\0".join(parts[4:]))
    given = image.movedim(0, -1).contiguous().movedim(-1, 0) if channels_last else image
    keys = example_keys({"pixels": [given], "label": [5]})
    assert keys.tobytes() == expected


@pytest.mark.parametrize(
    ("values", "light"),
    [
        (["x", "y"], True), ([1, 2], True), ([[1], [2, 3]], True), ([b"a", b"b"], True), ([True, False], True),
        ([[0.5], [0.25]], False), ([[[1], [2]], [[3]]], False), ([{"a": 1}, {"a": 2}], False), ([0.5, 1.5], False),
    ],
)  # fmt: skip
def test_light_columns_are_texts_numbers_and_token_ids(values: list[Any], light: bool) -> None:
    rows = Dataset.from_dict({"a": values, "other": [0.5, 0.5]})
    assert are_light(rows, ["a"]) == light
    assert not are_light(rows.with_transform(dict), ["a"])
    assert not are_light(list(rows), ["a"])
