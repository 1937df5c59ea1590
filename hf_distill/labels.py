"""What the classes are called, and which class of the teacher is which class of the student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedConfig

from hf_distill.losses import NO_LABEL

LABEL_COLUMNS = ("labels", "label", "label_ids")
REGRESSION = "regression"
SINGLE_LABEL = "single_label_classification"
MULTI_LABEL = "multi_label_classification"


def label_names(config: PreTrainedConfig) -> list[str] | None:
    """The class names in the order of the logits, or ``None`` where they are only ``LABEL_0``, ``LABEL_1``, ..."""
    names = [str(config.id2label[index]) for index in range(config.num_labels)]
    return None if are_placeholders(names) else names


def classes_of(config: PreTrainedConfig) -> list[str] | int:
    """The class names in the order of the logits, or their number where they have no names."""
    return label_names(config) or int(config.num_labels)


def class_order(student: Sequence[str] | int, teacher: Sequence[str] | int) -> list[int] | None:
    """For each class of the student, the teacher's index of the class with the same name.

    Names are compared without regard to case and spaces around them, unless classes differ in nothing else. Where one
    side has no names, the order is taken to be the same.

    Args:
        student: Class names in the order of the student's logits, or their number where they have no names.
        teacher: The same for the teacher.

    Returns:
        The indices into the teacher's logits, or ``None`` where both have the same order already.

    Raises:
        ValueError: the two have different classes.

    Example:
        >>> class_order(["negative", "positive"], ["POSITIVE", "NEGATIVE"])
        [1, 0]
    """
    student_count = student if isinstance(student, int) else len(student)
    teacher_count = teacher if isinstance(teacher, int) else len(teacher)
    if student_count != teacher_count:
        raise ValueError(
            f"The student has {student_count} labels{_listed(student)} and the teacher {teacher_count}"
            f"{_listed(teacher)}. Give the student the teacher's `num_labels`, `id2label` and `label2id`, or choose "
            "another teacher."
        )
    if isinstance(student, int) or isinstance(teacher, int) or are_placeholders(student) or are_placeholders(teacher):
        return None
    wanted, offered = list(student), list(teacher)
    if wanted == offered:
        return None  # also where a name occurs twice, as "crane" does in ImageNet
    if sorted(wanted) != sorted(offered):
        wanted, offered = ([name.strip().lower() for name in names] for names in (student, teacher))
    if sorted(wanted) != sorted(offered) or len(set(wanted)) != len(wanted):
        raise ValueError(
            f"The student's labels {list(student)} and the teacher's {list(teacher)} are not the same classes. Where "
            "they mean the same, rename them: set `id2label` and `label2id` in one of the two configs."
        )
    order = [offered.index(name) for name in wanted]
    return None if order == list(range(len(order))) else order


def _listed(classes: Sequence[str] | int) -> str:
    return "" if isinstance(classes, int) else f" ({', '.join(classes)})"


def problem_type(config: PreTrainedConfig, example: Mapping[str, Any] | None) -> str:
    """The kind of task, decided as the classification heads of transformers decide it.

    Args:
        config: The student's configuration; its ``problem_type`` wins where it is set.
        example: One row of the training set, to see what a label looks like.

    Returns:
        ``"regression"``, ``"single_label_classification"`` or ``"multi_label_classification"``.
    """
    if getattr(config, "problem_type", None) is not None:
        return str(config.problem_type)
    if config.num_labels == 1:
        return REGRESSION
    label = next((example[key] for key in LABEL_COLUMNS if key in example), 0) if example else 0
    return MULTI_LABEL if torch.as_tensor(label).is_floating_point() else SINGLE_LABEL


def has_labels(labels: Tensor | None) -> bool:
    """Whether any example of a batch has a label."""
    return labels is not None and bool((labels != NO_LABEL).any())


def label_column(rows: Any) -> str | None:
    """The column of labels, where it can be read as a whole: in a ``datasets.Dataset`` without a transform."""
    if not isinstance(rows, datasets.Dataset) or rows.format["type"] == "custom":
        return None
    return next((name for name in LABEL_COLUMNS if name in rows.column_names), None)


def check_labels_are_numbers(rows: Any) -> None:
    """Raise where a row has no label, or a word for one; looks only at a ``datasets.Dataset`` without a transform.

    Args:
        rows: The training set.

    Raises:
        ValueError: a label is missing or text.
    """
    column = label_column(rows)
    if column is None:
        return
    if getattr(rows.features[column], "dtype", None) in ("string", "large_string"):
        raise ValueError(
            f"The labels of the training set are text: make them numbers, dataset.class_encode_column({column!r}), in "
            "the order of the student's id2label."
        )
    start = 0
    for batch in rows.select_columns([column]).with_format("arrow").iter(batch_size=100_000):
        labels = batch[column].combine_chunks()
        missing = labels.is_null(nan_is_null=True)
        if missing.true_count:
            row = start + missing.index(True).as_py()
            raise ValueError(
                f"Row {row} of the training set has no label, but None or NaN. Write {NO_LABEL} where one is missing, "
                f"before data sets are put together: unlabelled.add_column({column!r}, [{NO_LABEL}] * len(unlabelled))."
            )
        start += len(labels)


def names_in(rows: Any) -> list[str] | None:
    """How a data set calls its classes, in its order; ``None`` where it has no names, or is no ``datasets.Dataset``."""
    column = label_column(rows)
    feature = rows.features[column] if column is not None else None
    return list(feature.names) if isinstance(feature, datasets.ClassLabel) else None


def check_class_names(rows: Any, config: PreTrainedConfig) -> None:
    """Raise where a data set has the student's classes in another order; other names may mean the same.

    Args:
        rows: A data set.
        config: The student's.

    Raises:
        ValueError: not the same order.
    """
    student, found = label_names(config), names_in(rows)
    if student is None or found is None:
        return
    try:
        order = class_order(student, found)
    except ValueError:
        return
    if order is not None:
        raise ValueError(
            f"The data set counts its classes {found}, and the student {student}: give both one order, "
            f"dataset.align_labels_with_mapping(model.config.label2id, {label_column(rows)!r})."
        )


def check_class_labels(rows: Any, classes: int) -> None:
    """Raise where labels cannot be class indices; looks only at a ``datasets.Dataset`` without a transform.

    Args:
        rows: The training set.
        classes: How many classes the student has.

    Raises:
        ValueError: a label is outside the range, or all labels are the same.
    """
    column = label_column(rows)
    if column is None or not len(rows):
        return
    batches = rows.select_columns([column]).with_format("numpy").iter(batch_size=100_000)
    values = np.concatenate([np.asarray(batch[column]) for batch in batches])
    known = values[values != NO_LABEL]
    wrong = known[(known < 0) | (known >= classes)]
    if len(wrong):
        row = int(np.flatnonzero(values == wrong[0])[0])
        raise ValueError(
            f"Row {row} of the training set has label {wrong[0]}, but the student has {classes} classes, 0 to "
            f"{classes - 1}. Give the student as many labels as the data has; {NO_LABEL} stands for a missing one."
        )
    if len(known) and (known == known[0]).all():
        raise ValueError(
            f"All labels of the training set are {known[0]}: nothing is left to tell apart. Take rows of several "
            "classes; a sorted data set must be shuffled before a part of it is selected."
        )


def are_placeholders(names: Sequence[str]) -> bool:
    """Whether these are the names that transformers gives to classes without any: ``LABEL_0``, ``LABEL_1``, ..."""
    return all(name == f"LABEL_{index}" for index, name in enumerate(names))
