"""Which examples of a batch the teacher of a task is asked about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate.utils import recursively_apply
from torch import Tensor

from hf_distill.labels import LABEL_COLUMNS
from hf_distill.losses import NO_LABEL
from hf_distill.tasks.names import Tasks


def rows_to_collate(task: str, tasks: Tasks, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of a batch for a teacher that makes its inputs from them: one of its own in the place of each other.

    So what it makes lies beside the student's inputs, and it need not find its text, or its answer, in other rows.

    Returns:
        As many as there are rows, or none where none is its own.
    """
    labels = torch.tensor([int(next((row[name] for name in LABEL_COLUMNS if name in row), NO_LABEL)) for row in rows])
    judged = tasks.judged_by(task, labels).tolist()
    own = next((row for row, its in zip(rows, judged, strict=True) if its), None)
    return [] if own is None else [row if its else own for row, its in zip(rows, judged, strict=True)]


def taken(inputs: Mapping[str, Any], rows: Tensor) -> dict[str, Any]:
    """A batch of these rows alone, also in what lies nested in it."""

    def take(tensor: Tensor) -> Tensor:
        return tensor[rows] if tensor.dim() and len(tensor) == len(rows) else tensor

    found: dict[str, Any] = recursively_apply(take, dict(inputs))
    return found


def put_back(values: Tensor, rows: Tensor) -> Tensor:
    """What was answered to these rows at their places, and 0 at all others."""
    whole = values.new_zeros(len(rows), *values.shape[1:])
    whole[rows] = values
    return whole
