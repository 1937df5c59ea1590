"""Which column is the text, which the label, and what the labels mean."""

from __future__ import annotations

import difflib
import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, Value, concatenate_datasets

from hf_distill.losses import NO_LABEL
from hf_distill.recipe.data import load_splits

logger = logging.getLogger(__name__)

TEXTS = ("text", "sentence", "content", "review")
PAIRS = (
    ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"), ("question", "sentence"),
    ("question", "passage"),
)  # fmt: skip
LABELS = ("label", "labels")
UNLABELLED = (None, "", -1, NO_LABEL)
"""What stands for a missing label: nothing, or -1 as in the test splits of GLUE."""


@dataclass(frozen=True)
class TextData:
    """Splits for the classification of texts or pairs of texts.

    Args:
        splits: ``train``, ``validation`` and maybe ``test`` with the text columns and ``labels``, a class index each,
            ``-100`` where a row has none.
        text_columns: One column, or two for pairs.
        classes: The class names in the order of the indices; ``LABEL_0`` and so on where they have no names.
    """

    splits: DatasetDict
    text_columns: tuple[str, ...]
    classes: tuple[str, ...]

    def labelled(self, split: str) -> Dataset:
        """The rows of a split that have a label."""
        rows = self.splits[split]
        kept = [row for row, label in enumerate(column_of(rows, "labels")) if label != NO_LABEL]
        return rows if len(kept) == len(rows) else rows.select(kept)

    def evaluation(self) -> dict[str, Dataset]:
        """The labelled rows of ``validation`` and ``test``; a split without any is left out."""
        rows = {split: self.labelled(split) for split in ("validation", "test") if split in self.splits}
        return {split: labelled for split, labelled in rows.items() if len(labelled)}


def as_classification(splits: DatasetDict, text: str | None = None, label: str | None = None) -> TextData:
    """Find the text and the labels of a data set, and check both.

    Args:
        splits: As :func:`~hf_distill.recipe.load_splits` returns them.
        text: The text column, or two with a comma between them. Found if left out: a known pair or name, or the only
            column of strings.
        label: The label column. Found if left out: the only ``ClassLabel``, or the one that is called ``label``.
            Strings and other numbers than 0, 1, 2, ... become classes, sorted.

    Raises:
        KeyError: there is no such column, or none that could be meant; the message names those there are.
        ValueError: it is not clear which column is meant, a text is missing, a label is outside the range of the
            label names, or there are labels of one class only.
    """
    train = splits["train"]
    label_column = _label_column(train, label)
    text_columns = _text_columns(train, text, label_column)
    for split, rows in splits.items():
        _require([*text_columns, label_column] if split != "test" else text_columns, rows, split)
        _check_texts(rows, text_columns, split)
    feature = train.features[label_column]
    values = {
        split: [_plain(value) for value in rows[label_column]]
        if label_column in rows.column_names
        else [None] * len(rows)
        for split, rows in splits.items()
    }
    keys: list[Any]
    if isinstance(feature, ClassLabel):
        keys, classes = list(range(feature.num_classes)), tuple(feature.names)
    else:
        found = {value for value in values["train"] if isinstance(value, (str, int))}
        keys = sorted(value for value in found if value not in UNLABELLED)
        if -1 in found and len(keys) > 1:
            raise ValueError(
                f"The labels in {label_column!r} are {sorted(found)}: is -1 a class, or a missing label? Give the "
                "classes names (strings), or leave missing labels empty."
            )
        numbered = keys == list(range(len(keys)))
        classes = tuple(f"LABEL_{key}" if numbered else str(key) for key in keys)
    index = {key: position for position, key in enumerate(keys)}
    encoded = {split: _encode(given, index, classes, label_column, split) for split, given in values.items()}
    for split, labels in encoded.items():
        _check_classes(labels, classes, label_column, split)
    return TextData(
        DatasetDict(
            {
                split: rows.select_columns(list(text_columns)).add_column(
                    "labels", encoded[split], feature=Value("int64")
                )
                for split, rows in splits.items()
            }
        ),
        text_columns,
        classes,
    )


def with_unlabelled(data: TextData, name: str, examples: int | None = None) -> TextData:
    """Append texts without labels to the training split, for the teacher alone to judge.

    Texts that also occur in validation or test are left out.

    Args:
        data: What to append to.
        name: A data set, file or folder as in :func:`~hf_distill.recipe.load_splits`; its training split counts.
        examples: At most so many, from the top.

    Raises:
        KeyError: it has not the same text columns as ``data``, and not a single column of strings either.
    """
    rows = load_splits(name, validation=False)["train"]
    columns = data.text_columns
    if not set(columns) <= set(rows.column_names):
        found = _text_columns(rows, None, None)
        if len(found) != len(columns):
            raise KeyError(f"{name} has the text columns {list(found)}, but {list(columns)} are needed. Rename them.")
        rows = rows.rename_columns(dict(zip(found, columns, strict=True)))
    rows = rows.select_columns(list(columns))
    _check_texts(rows, columns, name)
    held_out = {
        text for split in ("validation", "test") if split in data.splits for text in _texts(data.splits[split], columns)
    }
    kept = [row for row, text in enumerate(_texts(rows, columns)) if text not in held_out][:examples]
    if not kept:
        raise ValueError(f"{name} has no text that is not in validation or test already.")
    logger.info("%d unlabelled texts from %s.", len(kept), name)
    extra = rows.select(kept).cast(data.splits["train"].select_columns(list(columns)).features)
    extra = extra.add_column("labels", [NO_LABEL] * len(kept), feature=Value("int64"))
    return TextData(
        DatasetDict({**data.splits, "train": concatenate_datasets([data.splits["train"], extra])}),
        data.text_columns,
        data.classes,
    )


# ---- Columns ----


def _label_column(rows: Dataset, wanted: str | None) -> str:
    if wanted is not None:
        _require([wanted], rows, "train")
        return wanted
    class_labels = [name for name, feature in rows.features.items() if isinstance(feature, ClassLabel)]
    named = class_labels if len(class_labels) == 1 else [name for name in rows.column_names if name.lower() in LABELS]
    if len(named) != 1:
        raise KeyError(
            f"Which column holds the labels? There are {rows.column_names}. Say so with --label_column NAME."
        )
    return str(named[0])


def _text_columns(rows: Dataset, wanted: str | None, label: str | None) -> tuple[str, ...]:
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


def _require(names: Sequence[str], rows: Dataset, split: str) -> None:
    for name in names:
        if name not in rows.column_names:
            close = difflib.get_close_matches(name, rows.column_names)
            hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
            raise KeyError(f"The {split} split has no column {name!r}; it has {rows.column_names}.{hint}")


def column_of(rows: Dataset, name: str) -> list[Any]:
    """A column as a list, read at one go."""
    values: list[Any] = rows.select_columns([name])[:][name]
    return values


def _texts(rows: Dataset, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    return list(zip(*(column_of(rows, column) for column in columns), strict=True))


def _check_texts(rows: Dataset, columns: Sequence[str], split: str) -> None:
    for row, texts in enumerate(_texts(rows, columns)):
        for column, text in zip(columns, texts, strict=True):
            if not isinstance(text, str):
                raise ValueError(
                    f"Row {row} of {split} has {text!r} in the text column {column!r}, where a string is needed. "
                    "Fill or remove such rows, or choose another column with --text_column."
                )


# ---- Labels ----


def _plain(value: Any) -> Any:
    """A label as a string or an integer: ``" pos "`` as ``"pos"``, ``True`` as ``"True"``, ``1.0`` as ``1``."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value.is_integer() else value
    return value


def _encode(values: list[Any], index: dict[Any, int], classes: Sequence[str], column: str, split: str) -> list[int]:
    labels = []
    for row, value in enumerate(values):
        if isinstance(value, (list, dict, float)):
            raise ValueError(
                f"Row {row} of {split} has label {value!r} in column {column!r}, which is no class: one string "
                "or whole number is needed, one class for each text. Choose another column with --label_column."
            )
        if value in UNLABELLED:
            labels.append(NO_LABEL)
        elif value in index:
            labels.append(index[value])
        else:
            raise ValueError(
                f"Row {row} of {split} has label {value!r} in column {column!r}, which is outside the classes "
                f"{dict(zip(classes, index, strict=True))}. Correct it; a row without a label has -1 or nothing there."
            )
    return labels


def _check_classes(labels: Sequence[int], classes: Sequence[str], column: str, split: str) -> None:
    counts = Counter(label for label in labels if label != NO_LABEL)
    if not counts and split != "test":
        raise ValueError(f"No row of {split} has a label in column {column!r} (nothing and -1 both mean none).")
    if len(counts) == 1:
        [(label, count)] = counts.items()
        rest = f" and {len(labels) - count} without a label (-1 or nothing)" if count < len(labels) else ""
        raise ValueError(
            f"The {split} split has one class only: {count} rows of {classes[label]!r}{rest}. There is nothing to tell "
            "apart; add rows of another class, or name another column with --label_column."
        )
