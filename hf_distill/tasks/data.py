"""The data sets of several tasks as one."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
from datasets import ClassLabel, Dataset, concatenate_datasets

from hf_distill.labels import check_labels_are_numbers, class_order, label_column, names_in
from hf_distill.losses import NO_LABEL
from hf_distill.tasks.names import Tasks

logger = logging.getLogger(__name__)

INPUT_COLUMNS = ("input_ids", "attention_mask", "token_type_ids", "pixel_values")
"""What a student may read, and so every row must have if one has it."""


def joint_dataset(data: Mapping[str, Dataset], tasks: Tasks, exponent: float = 1.0) -> Dataset:
    r"""The rows of several tasks in one data set, with their labels numbered through.

    The rows of a task keep their order, and those of different tasks lie evenly among each other. A Trainer that
    shuffles them draws a task as often as it has rows: in proportion to

    .. math:: n_k \propto N_k^a

    with a = 1. A smaller exponent repeats the rows of the smaller tasks; with 0 all tasks have as many as the largest.

    Args:
        data: The data set of each task, with its own labels in ``labels`` or ``label``, ``-100`` where there is none,
            and what the student reads, made with the student's tokenizer. Other columns, such as a text that a teacher
            reads, may be in some of them alone.
        tasks: The tasks of the student.
        exponent: The a above, from 0 to 1.

    Raises:
        KeyError: a task has no data, or data no task.
        ValueError: a data set has no rows or no labels, a label is outside the task's classes, or the data sets do not
            go together.

    Source:
        Clark et al. 2019, arXiv:1907.04829 (BAM), has a = 0.75. There tasks are drawn at random; here rows are
        repeated, so that an epoch stays an epoch.

    Example:
        >>> tasks = Tasks({"tone": ["bad", "good"], "topic": ["film", "music"]})
        >>> tone = Dataset.from_dict({"input_ids": [[1], [2], [3], [4]], "labels": [0, 1, 1, 0]})
        >>> topic = Dataset.from_dict({"input_ids": [[5], [6]], "labels": [1, 0]})
        >>> joint_dataset({"tone": tone, "topic": topic}, tasks)["labels"][:]
        [0, 3, 1, 1, 2, 0]
    """
    if set(data) != set(tasks):
        raise KeyError(f"There is data of {sorted(data)}, and the tasks are {sorted(tasks)}: call both the same.")
    if not 0.0 <= exponent <= 1.0:
        raise ValueError(f"exponent must lie between 0 and 1, got {exponent}.")
    largest = max(map(len, data.values()))
    parts, places = [], []
    for task in tasks:
        rows = _renumbered(task, data[task], tasks)
        count = round(largest * (len(rows) / largest) ** exponent)
        parts.append(rows if count == len(rows) else rows.select(np.arange(count) % len(rows)))
        places.append((np.arange(count) + 0.5) / count)
    _check_columns(dict(zip(tasks, parts, strict=True)))
    return concatenate_datasets(parts).select(np.argsort(np.concatenate(places), kind="stable"))


def _renumbered(task: str, rows: Dataset, tasks: Tasks) -> Dataset:
    """The rows of a task with ``labels`` as the student counts them."""
    if not len(rows):
        raise ValueError(f"Task {task!r} has a data set without rows: leave the task out, or find data for it.")
    column = label_column(rows)
    if column is None:
        raise ValueError(
            f"The data of task {task!r} has no column `labels`, or a transform hides it. Write {NO_LABEL} where nobody "
            f'knows: rows.add_column("labels", [{NO_LABEL}] * len(rows)).'
        )
    check_labels_are_numbers(rows)
    _check_order(task, tasks[task], names_in(rows), column)
    labels = np.asarray(rows.with_format("numpy")[column][:])
    wrong = (labels != NO_LABEL) & ((labels < 0) | (labels >= len(tasks[task])))
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or wrong.any():
        found = labels[wrong][0] if wrong.any() else f"of type {labels.dtype}, shape {labels.shape}"
        raise ValueError(
            f"Task {task!r} has classes 0 to {len(tasks[task]) - 1}, {', '.join(tasks[task])}, and its data a label "
            f"{found}. Name all its classes in Tasks, and write {NO_LABEL} where there is no label."
        )
    joint = np.where(labels == NO_LABEL, NO_LABEL, labels + tasks.outputs(task).start)
    return rows.remove_columns(column).add_column("labels", joint, feature=ClassLabel(names=list(tasks.joint)))


def _check_order(task: str, classes: tuple[str, ...], found: list[str] | None, column: str) -> None:
    try:
        order = None if found is None else class_order(classes, found)
    except ValueError:  # other words may mean the same
        logger.warning(
            "The data of task %r calls its classes %s, and Tasks calls them %s: they are taken to be the same, in the "
            "same order.", task, found, list(classes),
        )  # fmt: skip
        return
    if order is not None:
        numbers = {name: index for index, name in enumerate(classes)}
        raise ValueError(
            f"The data of task {task!r} counts its classes {found}, and Tasks {list(classes)}: give both one order, "
            f"dataset.align_labels_with_mapping({numbers}, {column!r})."
        )


def _check_columns(parts: Mapping[str, Dataset]) -> None:
    """Raise where a row would lack what the student reads."""
    read = {task: {*rows.column_names}.intersection(INPUT_COLUMNS) for task, rows in parts.items()}
    everything = set().union(*read.values())
    for task, columns in read.items():
        if columns != everything:
            raise ValueError(
                f"The data of task {task!r} has no {sorted(everything - columns)}, which that of another task has. "
                "Make all of them with the student's tokenizer or image processor."
            )
