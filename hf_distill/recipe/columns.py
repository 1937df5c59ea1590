"""Which column is the text."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from datasets import Dataset, DatasetDict, Value, concatenate_datasets

from hf_distill.losses import NO_LABEL
from hf_distill.recipe.class_labels import (
    LabelledSplits,
    class_labels,
    column_of,
    find_label_column,
    place_of,
    require,
)
from hf_distill.recipe.data import load_splits
from hf_distill.recipe.held_out import with_validation

logger = logging.getLogger(__name__)

TEXTS = ("text", "sentence", "content", "review")
PAIRS = (
    ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"), ("question", "sentence"),
    ("question", "passage"),
)  # fmt: skip


@dataclass(frozen=True)
class TextData(LabelledSplits):
    """Splits for the classification of texts or pairs of texts.

    Args:
        splits: ``train`` and maybe ``validation`` and ``test`` with the text columns and ``labels``, a class index
            each, ``-100`` where a row has none.
        text_columns: One column, or two for pairs.
        classes: The class names in the order of the indices; ``LABEL_0`` and so on where they have no names.
    """

    splits: DatasetDict
    text_columns: tuple[str, ...]
    classes: tuple[str, ...]


def as_classification(
    splits: DatasetDict, text: str | None = None, label: str | None = None, hold_out: bool = False
) -> TextData:
    """Find the text and the labels of a data set, and check both.

    Args:
        splits: As :func:`~hf_distill.recipe.load_splits` returns them.
        text: The text column, or two with a comma between them. Found if left out: a known pair or name, or the only
            column of strings.
        label: The label column. Found if left out: the only ``ClassLabel``, or the one that is called ``label``.
            Strings and other numbers than 0, 1, 2, ... become classes, sorted.
        hold_out: Whether a tenth of the training split is held out where there is no validation split. It is done last,
            so that messages name the rows as they stand in the files.

    Raises:
        KeyError: there is no such column, or none that could be meant; the message names those there are.
        ValueError: it is not clear which column is meant, a text is missing, a label is outside the range of the
            label names, or there are labels of one class only.
    """
    train = splits["train"]
    label_column = find_label_column(train, label)
    text_columns = find_text_columns(train, text, label_column)
    if label_column in text_columns:
        raise ValueError(f"Column {label_column!r} cannot be text and label at once: name another.")
    for split, rows in splits.items():
        require([*text_columns, label_column] if split != "test" else text_columns, rows, split)
        texts_of(rows, text_columns, split)
    encoded, classes = class_labels(splits, label_column)
    columns = list(text_columns)
    parts = DatasetDict(
        {
            split: rows.select_columns(columns).add_column("labels", encoded[split], feature=Value("int64"))
            for split, rows in splits.items()
        }
    )
    return TextData(with_validation(parts, classes) if hold_out else parts, text_columns, classes)


def with_unlabelled(
    data: TextData, name: str, examples: int | None = None, others: Sequence[TextData] = ()
) -> TextData:
    """Append texts without labels to the training split, for the teacher alone to judge.

    Texts that also occur in validation or test are left out.

    Args:
        data: What to append to.
        name: A data set, file or folder as in :func:`~hf_distill.recipe.load_splits`; its training split counts.
        examples: At most so many, from the top.
        others: Further data whose validation and test texts are left out, too.

    Raises:
        KeyError: it has not the same text columns as ``data``, and not a single column of strings either.
    """
    rows = load_splits(name, "--unlabelled")["train"]
    columns = data.text_columns
    if not set(columns) <= set(rows.column_names):
        found = find_text_columns(rows, None, None)
        if len(found) != len(columns):
            raise KeyError(f"{name} has the text columns {list(found)}, but {list(columns)} are needed. Rename them.")
        rows = rows.rename_columns(dict(zip(found, columns, strict=True)))
    rows = rows.select_columns(list(columns))
    texts = texts_of(rows, columns, name)
    held_out = {
        text
        for one in (data, *others)
        for split in ("validation", "test")
        if split in one.splits
        for text in texts_of(one.splits[split], one.text_columns, split)
    }
    kept = [row for row, text in enumerate(texts) if text not in held_out][:examples]
    if not kept:
        raise ValueError(f"{name} has no text that is not in validation or test already.")
    logger.info("%d unlabelled texts from %s.", len(kept), name)
    extra = rows.select(kept).cast(data.splits["train"].select_columns(list(columns)).features)
    extra = extra.add_column("labels", [NO_LABEL] * len(kept), feature=Value("int64"))
    train = concatenate_datasets([data.splits["train"], extra])
    return replace(data, splits=DatasetDict({**data.splits, "train": train}))


def find_text_columns(rows: Dataset, wanted: str | None, label: str | None) -> tuple[str, ...]:
    if wanted is not None:
        return tuple(name.strip() for name in wanted.split(","))
    strings = [
        name
        for name, feature in rows.features.items()
        if name != label and getattr(feature, "dtype", None) in ("string", "large_string")
    ]
    for pair in PAIRS:
        if set(pair) <= set(strings):
            return pair
    known = [name for name in strings if name.lower() in TEXTS]
    for candidates in (known, strings):
        if len(candidates) == 1:
            return (candidates[0],)
    raise KeyError(f"Which column holds the text? There are {rows.column_names}. Say so with --text_column NAME.")


def texts_of(rows: Dataset, columns: Sequence[str], split: str) -> list[tuple[str, ...]]:
    """The texts of each row.

    Raises:
        ValueError: one is missing, or is no string; the message says in which row, and how many more there are.
    """
    values: list[tuple[str, ...]] = list(zip(*(column_of(rows, column) for column in columns), strict=True))
    if missing := [row for row, texts in enumerate(values) if not all(isinstance(text, str) for text in texts)]:
        row = missing[0]
        column, text = next((c, t) for c, t in zip(columns, values[row], strict=True) if not isinstance(t, str))
        others = f", and so have {len(missing) - 1} more rows" if len(missing) > 1 else ""
        raise ValueError(
            f"{place_of(row, rows, split)} has {text!r} in the text column {column!r}, where a string is needed"
            f"{others}. Fill or remove such rows, or choose another column with --text_column."
        )
    return values
