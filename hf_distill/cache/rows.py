"""Which rows a teacher is asked about, and in which order."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import pyarrow.compute
from accelerate import PartialState
from datasets import Dataset
from numpy.typing import NDArray

from hf_distill.cache.keys import ROWS_AT_ONCE, are_light, keys_of_dataset, keys_of_rows
from hf_distill.cache.store import AnswerStore
from hf_distill.teachers import Teacher

Row: TypeAlias = Mapping[str, Any]

ROWS_READ_TWICE = 64
"""Of a data set whose rows are made, so many are read twice to see whether they stay the same."""


def unanswered(
    dataset: Any, store: AnswerStore, columns: Collection[str], batch_size: int, state: PartialState, bar: Any
) -> Iterator[list[int]]:
    """Batches of this process's row numbers. Of stored rows only those without an answer, the longest first."""
    light = are_light(dataset, columns)
    for block in shared_out(len(dataset), state):
        rows = np.arange(block.start, block.stop)
        if light:
            [keys] = keys_of_dataset(dataset.select(block), columns)
            rows = rows[store.missing(keys)]
            bar.update(len(block) - len(rows))
            rows = rows[np.argsort(-_lengths(dataset, rows, columns), kind="stable")]
        yield from (rows[start : start + batch_size].tolist() for start in range(0, len(rows), batch_size))


def shared_out(rows: int, state: PartialState) -> list[range]:
    """This process's part of so many rows, in blocks of one length. No process reads or hashes those of another."""
    rounds = -(-rows // (ROWS_AT_ONCE * state.num_processes))
    size = -(-rows // (rounds * state.num_processes))
    starts = range(size * state.process_index, rows, size * state.num_processes)
    return [range(start, min(start + size, rows)) for start in starts]


def _lengths(dataset: Dataset, rows: NDArray[np.int64], columns: Collection[str]) -> NDArray[np.int64]:
    """The length of each row in tokens or, where it is text, in characters; 0 where it is neither."""
    by_length = {name: pyarrow.compute.list_value_length for name in columns if name == "input_ids"} or {
        name: pyarrow.compute.utf8_length
        for name in columns
        if getattr(dataset.features[name], "dtype", None) in ("string", "large_string")
    }
    table = dataset.select_columns(sorted(columns)).with_format("arrow")[rows] if len(rows) else {}
    lengths = [measure(table[name]).to_numpy() for name, measure in by_length.items()] if len(rows) else []
    return np.sum(lengths, axis=0) if lengths else np.zeros(len(rows), dtype=np.int64)


def views_of(dataset: Any) -> int:
    """How many views there are of each example."""
    count = getattr(dataset, "count", 1) if hasattr(dataset, "set_epoch") else 1
    if count is None:
        raise ValueError(
            "There is a new random view of each example in every epoch, so no answer would be used twice. Give the "
            "data set a fixed number of views, count=K."
        )
    return int(count)


@contextmanager
def same_view_afterwards(dataset: Any) -> Iterator[None]:
    """Whatever views are shown inside, in the end it is the one before, or the first where the data set says none."""
    view = getattr(dataset, "view", 0)
    try:
        yield
    finally:
        if hasattr(dataset, "set_epoch"):
            dataset.set_epoch(view)


def refuse_unseeded(dataset: Any, columns: Collection[str]) -> None:
    """Raise where the same row has other values each time, or in each epoch, and nobody says how many there are."""
    if are_light(dataset, columns):
        return
    found = []
    for epoch in range(2):
        if hasattr(dataset, "set_epoch") and not hasattr(dataset, "count"):
            dataset.set_epoch(epoch)
        found.append(keys_of_rows([dataset[row] for row in range(min(ROWS_READ_TWICE, len(dataset)))], columns))
    if (found[0] != found[1]).any():
        raise ValueError(
            "The data set gives other values for the same row each time, so no kept answer would ever be found: its "
            "augmentation is random. Use Views(rows, transform, seed=0, count=K), which has K fixed views, or no cache."
        )


def columns_read(teacher: Teacher, row: Row, key_columns: Collection[str] | None) -> frozenset[str]:
    """The columns whose values decide the teacher's answer.

    Raises:
        KeyError: one is missing, or there is none.
    """
    if not isinstance(row, Mapping):
        raise TypeError(f"The rows of the data set must be dicts, got {type(row).__name__}.")
    columns = frozenset(key_columns or teacher.raw_columns | (teacher.shared_columns & row.keys()))
    if missing := sorted(columns - row.keys()):
        raise KeyError(f"Teacher {teacher.name!r} reads {missing}, but the data set has {sorted(row)}.")
    if not columns:
        raise KeyError(
            f"The data set has {sorted(row)}, and teacher {teacher.name!r} reads none of them. Cut texts into "
            "tokens first, or pass ModelTeacher(model, tokenizer, text_columns=[...]); where a collator makes the "
            "inputs, say which columns tell examples apart: key_columns=[...]."
        )
    return columns
