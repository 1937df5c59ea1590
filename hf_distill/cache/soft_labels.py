"""Answers as a column, for those who have not the teacher."""

from __future__ import annotations

from datasets import Dataset, concatenate_datasets

from hf_distill.cache.cached_teacher import CachedTeacher
from hf_distill.cache.keys import are_light, keys_of_dataset


def with_soft_labels(dataset: Dataset, teacher: CachedTeacher, column: str = "teacher_logits") -> Dataset:
    """The data set with the teacher's logits in a column, in the order of ``teacher.classes``.

    It can be saved, or pushed with ``push_to_hub``; others then distil with ``ColumnTeacher(column)`` and no teacher.

    Args:
        dataset: Rows whose answers :func:`cache_teacher` has kept.
        teacher: Who answered.
        column: What the new column is called.

    Raises:
        ValueError: there is such a column already, a row has no answer, or rows are known by images or arrays.

    Example:
        >>> import tempfile, transformers, datasets
        >>> from hf_distill.cache import cache_teacher
        >>> config = transformers.BertConfig(
        ...     vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
        ... )
        >>> rows = datasets.Dataset.from_dict({"input_ids": [[1, 2], [3, 4]]})
        >>> teacher = cache_teacher(rows, transformers.BertForSequenceClassification(config), tempfile.mkdtemp())
        >>> with_soft_labels(rows, teacher).column_names
        ['input_ids', 'teacher_logits']
    """
    if column in dataset.column_names:
        raise ValueError(f"The data set has a column {column!r} already: choose another name, column=NAME.")
    if not are_light(dataset, teacher.raw_columns):
        raise ValueError(
            f"The rows are known by {sorted(teacher.raw_columns)}, which are no texts or token ids: soft labels "
            "of images cannot be put beside them yet."
        )
    teacher.check_dataset(dataset)
    parts = [
        Dataset.from_dict({column: teacher.store.logits(keys)})
        for keys in keys_of_dataset(dataset, teacher.raw_columns)
    ]
    return concatenate_datasets([dataset, concatenate_datasets(parts)], axis=1)
