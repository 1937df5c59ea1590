"""What travels with a batch besides the student's inputs: the teachers' own inputs and who counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.data_loader import DataLoaderDispatcher
from datasets import IterableDataset
from torch import Tensor
from transformers.trainer_pt_utils import find_batch_size
from transformers.trainer_utils import has_length

from hf_distill.example_ids import EXAMPLE_ID
from hf_distill.labels import LABEL_COLUMNS
from hf_distill.tasks.asked import rows_to_collate
from hf_distill.tasks.names import Tasks
from hf_distill.teachers import Teacher

MODEL_INPUTS = frozenset({"input_ids", "inputs_embeds", "pixel_values"})
"""What models read, also one whose ``forward`` names nothing, as a compiled model's."""

TEACHER_INPUTS = "_teacher_inputs"
"""Key of a batch under which each teacher finds the inputs that it made for itself."""

COUNTS = "_counts"
"""Key of a batch under which repeated examples are marked 0; absent where every example counts."""


class TeacherCollator:
    """Collates the student's batch as before, and beside it what each teacher makes from the rows.

    Of what only teachers make inputs from, the student's collator sees nothing, for it could not pad a text. Where the
    rows hold no input of any model yet, it is the collator that makes them, of a text or a picture that a teacher may
    read too, and so it sees everything.

    Args:
        collator: The student's collator.
        teachers: The teachers by name; those that make nothing of the rows are not kept.
        student_columns: What the student reads, which its collator must keep even if a teacher reads it too.
        numbered: Whether the batch shall say which examples it has, where the rows are numbered.
        tasks: Those of the student, where it has several; the teacher of one is shown no rows of the others.
    """

    def __init__(
        self,
        collator: Callable[[list[dict[str, Any]]], Mapping[str, Any]],
        teachers: Mapping[str, Teacher],
        student_columns: frozenset[str],
        numbered: bool = False,
        tasks: Tasks | None = None,
    ) -> None:
        self.collator = collator
        self.tasks = tasks
        self.teachers = {name: teacher for name, teacher in teachers.items() if teacher.raw_columns}
        self.numbered = numbered
        known = student_columns.union(*(one.shared_columns for one in teachers.values()))
        self.inputs = known.difference(LABEL_COLUMNS) | MODEL_INPUTS
        hidden = frozenset({EXAMPLE_ID} if numbered else ()).union(*(one.raw_columns for one in teachers.values()))
        self.hidden = hidden - known
        self.tokenizer = getattr(collator, "tokenizer", None)  # Trainer saves a collator's tokenizer

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        made = {
            name: teacher.collate(shown)
            for name, teacher in self.teachers.items()
            if teacher.raw_columns <= rows[0].keys()  # an evaluation set need not have the teacher's columns
            and (shown := self._shown(name, rows))
        }
        hidden = self.hidden if self.inputs & rows[0].keys() else {EXAMPLE_ID}
        collated = self.collator([{key: value for key, value in row.items() if key not in hidden} for row in rows])
        batch = {key: value for key, value in collated.items() if key not in self.hidden}
        if own := {name: inputs for name, inputs in made.items() if inputs}:
            batch[TEACHER_INPUTS] = own
        if self.numbered and EXAMPLE_ID in rows[0]:  # an evaluation set need not be numbered
            batch[EXAMPLE_ID] = torch.tensor([int(row[EXAMPLE_ID]) for row in rows])
        return batch

    def _shown(self, name: str, rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        return rows if self.tasks is None or name not in self.tasks else rows_to_collate(name, self.tasks, rows)

    def __getstate__(self) -> dict[str, Any]:
        """For a data worker that is begun anew, as Python does elsewhere than on Linux: without the models."""
        return {**self.__dict__, "teachers": {name: teacher.for_worker() for name, teacher in self.teachers.items()}}


def mark_repeated(batch: Mapping[str, Any], accelerator: Accelerator, examples: int | None) -> dict[str, Any]:
    """Mark the examples that a data loader repeated to give every process a full last batch.

    Several processes need equally many batches, so accelerate fills the last round up with examples from the start
    of the data set. They must not count twice. With ``dispatch_batches``, the usual way for streams, the first process
    reads for all, and the last round is smaller and only made to divide by their number.

    Args:
        batch: The newest batch of the data loader that is being read.
        accelerator: Knows whether that was the last batch.
        examples: Size of the whole data set; ``None`` where it has none, or where an incomplete round is dropped. It
            does not matter to batches that are dispatched.
    """
    state = accelerator.gradient_state
    if accelerator.num_processes == 1 or not state.end_of_dataloader:
        return dict(batch)
    size = examples_in(batch)
    whole = size * accelerator.num_processes
    if isinstance(state.active_dataloader, DataLoaderDispatcher):
        real = state.remainder  # which only this kind of data loader counts itself
    else:
        # Elsewhere accelerate's own `remainder` is not known after a resume in the middle of an epoch.
        real = whole if examples is None else examples % whole or whole
    if real >= whole:
        return dict(batch)
    position = accelerator.process_index * size + torch.arange(size)
    return {**batch, COUNTS: (position < real).float()}


def count_examples(batches: Sequence[Mapping[str, Any]], accelerator: Accelerator) -> int | Tensor:
    """How many examples all processes hold in these batches, repeated ones left out."""
    counts = sum(int(batch[COUNTS].sum()) if COUNTS in batch else examples_in(batch) for batch in batches)
    if accelerator.num_processes == 1:
        return counts
    everywhere: Tensor = accelerator.reduce(torch.tensor(counts, device=accelerator.device), reduction="sum")
    return everywhere


def examples_in(batch: Mapping[str, Any]) -> int:
    """How many examples a batch holds, whatever else a collator has put into it."""
    known = next((batch[name] for name in ("labels", *sorted(MODEL_INPUTS)) if name in batch), batch)
    return int(find_batch_size(known))


def with_labels(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The batch with its labels under the name that the loss knows, also where a collator left them under another."""
    other = next((name for name in LABEL_COLUMNS if name in batch), "labels")
    return {"labels" if name == other else name: value for name, value in batch.items()}


def first_row(rows: Any) -> Mapping[str, Any] | None:
    """The first row of a data set, where it has any and its rows have names. No other iterator is begun for it."""
    if isinstance(rows, IterableDataset):
        row = next(iter(rows), None)
    else:
        row = rows[0] if rows is not None and has_length(rows) and len(rows) else None
    return row if isinstance(row, Mapping) else None


def spread_rows(total: int, most: int) -> list[int]:
    """So many row numbers of a data set of this length, evenly spread from the first to the last; all if no more.

    Example:
        >>> spread_rows(10, 4), spread_rows(2, 4)
        ([0, 3, 6, 9], [0, 1])
    """
    count = min(total, most)
    return [(total - 1) * number // max(count - 1, 1) for number in range(count)]


def data_sets(dataset: Any) -> Iterable[Any]:
    """The data sets of ``eval_dataset``, which may be several under names."""
    return dataset.values() if isinstance(dataset, dict) else [dataset]
