"""A teacher whose answers stand in the dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow
import torch
from torch import Tensor

from hf_distill.image_views import image_transform, stored_rows
from hf_distill.teachers.base import Teacher
from hf_distill.views import ModelView


class ColumnTeacher(Teacher):
    """Answers that stand in the dataset: soft labels from elsewhere, an LLM's for instance.

    Args:
        column: A column with one list of ``C`` numbers a row.
        probabilities: Whether the numbers are probabilities; otherwise they are logits.
        classes: Class names in the column's order, to be aligned with the student's by name. Where left out, those
            that :func:`~hf_distill.with_soft_labels` has put beside the column, if it has.
        name: What logs and cards call the source.

    Example:
        >>> teacher = ColumnTeacher("soft_labels", probabilities=True)
        >>> teacher(teacher.collate([{"soft_labels": [0.25, 0.75]}])).logits.softmax(-1)
        tensor([[0.2500, 0.7500]])
    """

    def __init__(
        self, column: str, probabilities: bool = False, classes: Sequence[str] | None = None, name: str | None = None
    ) -> None:
        self.column = column
        self.probabilities = probabilities
        self.classes = self._given = classes
        self.name = name or f"column {column}"
        self.raw_columns = frozenset({column})

    def __call__(self, inputs: Mapping[str, Any]) -> ModelView:
        values: Tensor = inputs[self.column]
        return ModelView(
            logits=values.clamp_min(torch.finfo(values.dtype).tiny).log() if self.probabilities else values
        )

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {self.column: torch.tensor(np.array([row[self.column] for row in rows], dtype=np.float32))}

    def check_dataset(self, dataset: object) -> None:
        super().check_dataset(dataset)
        transform = image_transform(dataset)
        if transform is not None and transform.mixes:
            raise ValueError(
                f"mixup and CutMix mix the images of a batch, and column {self.column!r} speaks of each as it was. Set "
                "both to 0, or ask a teacher live."
            )
        dataset = stored_rows(dataset)
        feature = (getattr(dataset, "features", None) or {}).get(column_of_classes(self.column))
        self.classes = self._given or getattr(feature, "names", None)
        if not isinstance(dataset, datasets.Dataset):
            return
        column = dataset.select_columns([self.column]).with_format("arrow")
        first_row = 0
        widths: set[int] = set()
        for table in column.iter(batch_size=10_000):
            lists = table[self.column].combine_chunks()
            if lists.null_count:
                raise ValueError(f"Column {self.column!r} has an empty value in row {first_row} or soon after.")
            if not _are_numbers(lists.type):
                raise ValueError(
                    f"Column {self.column!r} holds {lists.type} in each row, where a list of numbers is needed, one "
                    "for each class. Class numbers or names are no soft labels but labels: call the column `labels`."
                )
            values = np.asarray(lists.flatten(), dtype=np.float64)
            widths |= {int(width) for width in np.unique(lists.value_lengths().to_numpy(zero_copy_only=False))}
            if len(widths) > 1:
                raise ValueError(f"The lists in column {self.column!r} have different lengths: {sorted(widths)}.")
            rows = values.reshape(len(lists), -1)
            self._check_rows(rows, first_row)
            first_row += len(rows)
        if self.classes is None and widths:
            self.classes = widths.pop()

    def _check_rows(self, rows: np.ndarray[Any, Any], first_row: int) -> None:
        bad = ~np.isfinite(rows).all(axis=1)
        if bad.any():
            raise ValueError(
                f"Column {self.column!r} holds NaN or infinity in row {first_row + int(bad.argmax())}. "
                "Compute these soft labels again, or filter the rows out."
            )
        if self.probabilities:
            bad = (rows < 0).any(axis=1) | (np.abs(rows.sum(axis=1) - 1) > 1e-2)
            if bad.any():
                row = int(bad.argmax())
                raise ValueError(
                    f"Column {self.column!r} is said to hold probabilities, but row {first_row + row} is "
                    f"{rows[row].tolist()}. For logits leave out probabilities=True."
                )


def _are_numbers(kind: Any) -> bool:
    """Whether an Arrow column holds lists of numbers."""
    types = pyarrow.types
    if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
        return False
    numbers = (types.is_floating, types.is_integer, types.is_boolean, types.is_decimal)
    return any(are(kind.value_type) for are in numbers)


def column_of_classes(column: str) -> str:
    """Where the most likely class stands, as a ``ClassLabel``, whose names are the classes in the column's order."""
    return f"{column}_argmax"
