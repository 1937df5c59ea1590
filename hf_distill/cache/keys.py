"""Which example is it? A key made of what the teacher reads: equal inputs have equal keys, wherever they come from."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import pyarrow
import torch
import xxhash
from datasets import Dataset
from numpy.typing import NDArray

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


def keys_of_rows(rows: Sequence[Mapping[str, Any]], columns: Iterable[str]) -> Keys:
    """The keys of rows as a collator gets them.

    Raises:
        KeyError: a row lacks a column.
    """
    try:
        return example_keys({name: [row[name] for row in rows] for name in columns})
    except KeyError as error:
        raise KeyError(f"A row has no {error}, by which examples are told apart; it has {sorted(rows[0])}.") from error


def keys_of_dataset(dataset: Dataset, columns: Iterable[str]) -> Iterable[Keys]:
    """The keys of all rows of a stored data set, some ten thousand at a time, without making Python objects of them."""
    stored = dataset.select_columns(sorted(columns)).with_format("arrow")
    for table in stored.iter(batch_size=ROWS_AT_ONCE):
        yield example_keys({name: _values(table[name].combine_chunks()) for name in table.column_names})


def _values(column: Any) -> Sequence[Any]:
    """A column of an Arrow table; lists of integers as slices of one array."""
    kind = column.type
    lists = pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind)
    if not lists or not pyarrow.types.is_integer(kind.value_type) or column.null_count:
        return list(column.to_pylist())
    numbers = column.values.to_numpy(zero_copy_only=False)
    return [numbers[start:end] for start, end in pairwise(column.offsets.to_numpy())]


def _key(names: Sequence[str], values: Sequence[Any]) -> bytes:
    parts = []
    for name, value in zip(names, values, strict=True):
        kind, content = _bytes(value)
        parts += [f"{name}\0{kind}\0{len(content)}\0".encode(), content]
    return xxhash.xxh3_128_digest(b"".join(parts))


def _bytes(value: Any) -> tuple[str, bytes]:
    """What kind of value it is, and its content, the same for all ways to hold it."""
    if isinstance(value, str):
        return "text", value.encode()
    if type(value) is list and value and type(value[0]) is int:  # the usual case, and faster so
        with suppress(TypeError):
            return f"integers({len(value)},)", array("q", value).tobytes()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "bytes", bytes(value)
    if hasattr(value, "tobytes") and hasattr(value, "mode"):  # a picture
        return f"{value.mode}{value.size}", value.tobytes()
    values = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    if values.size == 0:
        return "empty", b""  # a list does not say of what
    if values.dtype.kind in "iub":
        return f"integers{values.shape}", values.astype(np.int64).tobytes()
    if values.dtype.kind == "f":
        return f"numbers{values.shape}", values.astype(np.float32).tobytes()
    if values.dtype.kind == "U":
        return "texts", "\0".join(np.ravel(values)).encode()
    raise TypeError(
        f"Cannot tell examples apart by a value of type {type(value).__name__}: name columns with numbers, texts, "
        "bytes or pictures, key_columns=[...]."
    )
