"""Answers as a column, for those who have not the teacher."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, concatenate_datasets

from hf_distill.cache.cached_teacher import CachedTeacher
from hf_distill.cache.keys import Keys, are_light, keys_of_dataset, keys_of_rows
from hf_distill.randomness import isolated_randomness
from hf_distill.teachers.column import column_of_classes

ROWS_AT_ONCE = 256
"""So many rows that are made when they are asked for, such as images, are in memory at a time."""


def with_soft_labels(dataset: Dataset, teacher: CachedTeacher, column: str = "teacher_logits") -> Dataset:
    """The data set with the teacher's logits in a column, in the order of ``teacher.classes``.

    It can be saved, or pushed with ``push_to_hub``; others then distil with ``ColumnTeacher(column)`` and no teacher.
    Where the classes have names, a second column, ``teacher_logits_argmax``, is the class that the teacher finds most
    likely, as a ``ClassLabel``: its names say in which order the logits are, and :class:`ColumnTeacher` reads them.

    Args:
        dataset: Rows whose answers :func:`cache_teacher` has kept. What comes back has no transform or format.
        teacher: Who answered.
        column: What the new column is called.

    Raises:
        TypeError: it is no ``Dataset``, or the teacher has no kept answers.
        ValueError: there is such a column already, or a row has no answer.
        KeyError: the rows lack what the teacher read, or one of many images has no answer.

    Example:
        >>> import tempfile, transformers, datasets
        >>> from hf_distill.cache import cache_teacher
        >>> config = transformers.BertConfig(
        ...     vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
        ...     id2label={0: "bad", 1: "good"},
        ... )
        >>> rows = datasets.Dataset.from_dict({"input_ids": [[1, 2], [3, 4]]})
        >>> teacher = cache_teacher(rows, transformers.BertForSequenceClassification(config), tempfile.mkdtemp())
        >>> with_soft_labels(rows, teacher).features["teacher_logits_argmax"].names
        ['bad', 'good']
    """
    if not isinstance(dataset, Dataset):
        raise TypeError(
            f"Soft labels need a datasets.Dataset, one answer a row; got {type(dataset).__name__}. Instead of random "
            "views take the images as they are, views.rows.with_transform(ImageTransform(shape, mean, std)), and ask "
            "the teacher about those with cache_teacher; of several splits take one."
        )
    if not isinstance(teacher, CachedTeacher):
        raise TypeError(
            f"Soft labels are answers that were kept, got {type(teacher).__name__}: pass what cache_teacher(dataset, "
            "teacher, folder) returns, or CachedTeacher(folder)."
        )
    for name in (column, column_of_classes(column)):
        if name in dataset.column_names:
            raise ValueError(f"The data set has a column {name!r} already: choose another name, column=NAME.")
    teacher.check_dataset(dataset)
    with isolated_randomness():
        logits = np.concatenate([teacher.store.logits(keys) for keys in _keys(dataset, teacher)])
    parts = [dataset.with_format(None), Dataset.from_dict({column: logits})]
    if teacher.classes is not None and not isinstance(teacher.classes, int):
        likely = Dataset.from_dict({column_of_classes(column): logits.argmax(axis=1)})
        parts.append(likely.cast_column(column_of_classes(column), ClassLabel(names=list(teacher.classes))))
    return concatenate_datasets(parts, axis=1)


def _keys(dataset: Any, teacher: CachedTeacher) -> Iterator[Keys]:
    if are_light(dataset, teacher.raw_columns):
        yield from keys_of_dataset(dataset, teacher.raw_columns)
        return
    for start in range(0, len(dataset), ROWS_AT_ONCE):
        rows = dataset.__getitems__(list(range(start, min(start + ROWS_AT_ONCE, len(dataset)))))
        yield keys_of_rows(rows, teacher.raw_columns)
