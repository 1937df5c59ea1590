"""Which example is it? A key made of what the teacher reads: equal inputs have equal keys, wherever they come from."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import pyarrow
import torch
import xxhash
from datasets import Dataset
from numpy.typing import NDArray
from PIL import Image

Keys: TypeAlias = "NDArray[np.uint64]"

ROWS_AT_ONCE = 10_000


def example_keys(columns: Mapping[str, Sequence[Any]]) -> Keys:
    """A key of 128 bits for each example: a hash of the names, shapes and values of its columns.

    The same values give the same key as a list, a NumPy array or a tensor, and integers of every width are the same.
    Two different examples get the same key by chance about once in 10^38 pairs.

    Args:
        columns: A batch, as ``dataset[0:100]`` returns it: numbers, arrays of them, strings, bytes or pictures.

    Returns:
        ``(B, 2)``.

    Raises:
        TypeError: a value is none of these.

    Example:
        >>> keys = example_keys({"input_ids": [[101, 7, 102], [101, 8, 102], torch.tensor([101, 7, 102])]})
        >>> bool((keys[0] == keys[2]).all()), bool((keys[0] == keys[1]).all())
        (True, False)
    """
    names = sorted(columns)
    digests = [_key(names, values) for values in zip(*(columns[name] for name in names), strict=True)]
    return np.frombuffer(b"".join(digests), dtype=np.uint64).reshape(-1, 2)


def keys_of_rows(rows: Sequence[Mapping[str, Any]], columns: Collection[str]) -> Keys:
    """The keys of rows as a collator gets them.

    Raises:
        KeyError: a row lacks a column.
    """
    for row in rows:
        if missing := sorted(set(columns) - row.keys()):
            raise KeyError(f"A row has no {missing}, by which examples are told apart; it has {sorted(row)}.")
    return example_keys({name: [row[name] for row in rows] for name in columns})


def are_light(dataset: Any, columns: Collection[str]) -> bool:
    """Whether the columns lie in a file as texts, numbers or token ids, so that all keys are quickly made.

    Pictures, arrays and lists of lists are not: their rows are made when they are asked for.
    """
    if not isinstance(dataset, Dataset) or dataset.format["type"] == "custom":
        return False
    return all(_is_light(field.type) for field in dataset.features.arrow_schema if field.name in columns)


def keys_of_dataset(dataset: Dataset, columns: Collection[str]) -> Iterator[Keys]:
    """The keys of all rows, some ten thousand at a time, without making Python objects of token ids.

    Args:
        dataset: Rows as they are stored.
        columns: Light ones, see :func:`are_light`.
    """
    stored = dataset.select_columns(sorted(columns)).with_format("arrow")
    for table in stored.iter(batch_size=ROWS_AT_ONCE):
        yield example_keys({name: _values(table[name].combine_chunks()) for name in table.column_names})


def _is_light(kind: Any) -> bool:
    types = pyarrow.types
    whole = types.is_integer(kind) or types.is_boolean(kind)
    if whole or types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind):
        return True
    return bool((types.is_list(kind) or types.is_large_list(kind)) and types.is_integer(kind.value_type))


def _values(column: Any) -> Sequence[Any]:
    """A column of an Arrow table; lists of integers as slices of one array."""
    lists = pyarrow.types.is_list(column.type) or pyarrow.types.is_large_list(column.type)
    if not lists or column.null_count:
        return list(column.to_pylist())
    numbers = column.values.to_numpy(zero_copy_only=False)
    return [numbers[start:end] for start, end in pairwise(column.offsets.to_numpy())]


def _key(names: Sequence[str], values: Sequence[Any]) -> bytes:
    digest = xxhash.xxh3_128()
    for name, value in zip(names, values, strict=True):
        try:
            for part in (name.encode(), b"\0", *_encoded(value)):
                digest.update(part)
        except (TypeError, ValueError, OverflowError) as error:
            raise TypeError(f"Column {name!r} cannot tell examples apart: {error}") from error
    return digest.digest()


def _encoded(value: Any) -> list[bytes | memoryview]:
    """A value as bytes that say where it ends: its kind, its length, its content; the same for all ways to hold it."""
    if isinstance(value, (list, tuple)) and not _is_numeric(value):
        return [f"list\0{len(value)}\0".encode(), *(part for item in value for part in _encoded(item))]
    kind, content = _bytes(value)
    return [f"{kind}\0{len(content)}\0".encode(), content]


def _is_numeric(value: Sequence[Any]) -> bool:
    """Whether it is a list of numbers, of arrays, or of lists of these; an empty one may be."""
    first = value[0] if value else 0
    return _is_numeric(first) if isinstance(first, (list, tuple)) else not isinstance(first, (str, bytes, type(None)))


def _bytes(value: Any) -> tuple[str, bytes | memoryview]:
    if isinstance(value, str):
        return "text", value.encode()
    if type(value) is list and value and type(value[0]) is int:  # the usual case, and faster so
        with suppress(TypeError, OverflowError):
            return f"integers({len(value)},)", array("q", value).tobytes()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "bytes", bytes(value)
    if isinstance(value, Image.Image):
        shown = value.convert("RGBA") if value.mode in ("P", "PA") else value  # a palette is no part of the pixels
        return f"{shown.mode}{shown.size}", shown.tobytes()
    if value is None:
        raise TypeError("it has an empty value, None. Fill such rows, or filter them out.")
    values = _as_array(value)
    if values.size == 0:
        return "empty", b""  # a list does not say of what
    if values.dtype.kind in "biu" and (values.dtype != np.uint64 or values.max() < 2**63):
        return f"integers{values.shape}", values.astype(np.int64).tobytes()
    if values.dtype.kind in "uf":
        wide = np.uint64 if values.dtype.kind == "u" else np.float64
        return f"{wide.__name__}{values.shape}", np.ascontiguousarray(values, wide).data.cast("B")
    raise TypeError(
        f"it has a value of type {type(value).__name__}. Name columns with numbers, texts, bytes or pictures, "
        "key_columns=[...]."
    )


def _as_array(value: Any) -> NDArray[Any]:
    if not isinstance(value, torch.Tensor):
        return np.asarray(value)
    plain = value.detach().cpu()
    numbers: NDArray[Any] = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
    return numbers
