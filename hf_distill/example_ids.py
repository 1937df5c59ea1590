"""Which example of the training set a row is: a column of numbers, for what keeps something about each example."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from datasets import Dataset

from hf_distill.image_views import Views, stored_rows

EXAMPLE_ID = "example_id"
"""The column, and the key of a batch, under which the numbers of examples stand."""

Rows = TypeVar("Rows", Dataset, Views)


def with_example_ids(rows: Rows) -> Rows:
    """Number the rows from 0 in a column ``example_id``; one that is there already is replaced.

    Choose and mix the rows before: an objective that needs the numbers keeps as many entries as there are rows. The
    order may change afterwards, as it does in training. Neither student nor teacher sees the column.

    Args:
        rows: A training set; of random views, all of an image have its number.

    Example:
        >>> with_example_ids(Dataset.from_dict({"labels": [1, 0, 1]}))["example_id"][:]
        [0, 1, 2]
    """
    if isinstance(rows, Views):
        return Views(with_example_ids(rows.rows), rows.transform, rows.seed, rows.count)
    if EXAMPLE_ID in rows.column_names:
        rows = rows.remove_columns(EXAMPLE_ID)
    numbered: Rows = rows.add_column(EXAMPLE_ID, np.arange(len(rows)))
    return numbered


def count_of_examples(rows: Any) -> int:
    """How many examples a training set has whose rows are numbered.

    Raises:
        ValueError: it is no ``datasets.Dataset`` and no ``Views``, or a number is not one of its rows'.
        KeyError: there are no numbers.
    """
    stored = stored_rows(rows)
    cure = "Call with_example_ids(dataset), from hf_distill, after all rows are chosen."
    if not isinstance(stored, Dataset):
        raise ValueError(
            "The objective keeps something about each example, and must know how many there are. Give the training set "
            f"as a datasets.Dataset or as Views, got {type(rows).__name__}."
        )
    if EXAMPLE_ID not in stored.column_names:
        raise KeyError(
            f"The objective keeps something about each example and finds it by a column {EXAMPLE_ID!r}, but the "
            f"training set has {stored.column_names}. {cure}"
        )
    column = stored.select_columns([EXAMPLE_ID]).with_format("arrow")[:][EXAMPLE_ID].to_numpy()
    if not np.issubdtype(column.dtype, np.integer):
        raise ValueError(f"The column {EXAMPLE_ID!r} must hold whole numbers, got {column.dtype}. {cure}")
    wrong = np.flatnonzero((column < 0) | (column >= len(column)))
    if len(wrong):
        raise ValueError(
            f"Row {wrong[0]} of the training set has {EXAMPLE_ID} {column[wrong[0]]}, but there are {len(column)} "
            f"rows, 0 to {len(column) - 1}. {cure}"
        )
    return len(column)
