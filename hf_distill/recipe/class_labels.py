"""Which column is the label, and what the labels mean."""

from __future__ import annotations

import difflib
import logging
import math
import reprlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, Value

from hf_distill.labels import are_placeholders
from hf_distill.losses import NO_LABEL

logger = logging.getLogger(__name__)

LABELS = ("label", "labels")
UNLABELLED = (None, "", -1, NO_LABEL)
"""What stands for a missing label: nothing, or -1 as in the test splits of GLUE."""


class LabelledSplits:
    """What data sets for classification have in common.

    Attributes:
        splits: With a column ``labels``, a class index each, ``-100`` where a row has none.
    """

    splits: DatasetDict

    def labelled(self, split: str) -> Dataset:
        """The rows of a split that have a label."""
        rows = self.splits[split]
        kept = [row for row, label in enumerate(column_of(rows, "labels")) if label != NO_LABEL]
        return rows if len(kept) == len(rows) else rows.select(kept)

    def evaluation(self) -> dict[str, Dataset]:
        """The labelled rows of ``validation`` and ``test``; a split without any is left out."""
        rows = {split: self.labelled(split) for split in ("validation", "test") if split in self.splits}
        return {split: labelled for split, labelled in rows.items() if len(labelled)}


def class_labels(splits: DatasetDict, column: str) -> tuple[dict[str, list[int]], tuple[str, ...]]:
    """The labels of each split as class indices, ``-100`` where a row has none, and the names of the classes.

    Splits that number their classes in other ways than the training split are read by the names.

    Args:
        splits: With at least ``train``; a split without the column has no labels.
        column: Class labels, strings or numbers.

    Raises:
        ValueError: a label is outside the classes of the training split, two classes have one name, or there are labels
            of one class only.
    """
    feature = splits["train"].features[column]
    keys: list[Any]
    if isinstance(feature, ClassLabel):
        keys, classes = list(range(feature.num_classes)), tuple(feature.names)
        if len({name.strip() for name in classes} - {""}) < len(classes):
            raise ValueError(f"The classes of {column!r} need names that differ, and are {classes}. Rename them.")
    else:
        found = {value for value in _values(splits["train"], column, ()) if isinstance(value, (str, int))}
        keys = sorted(value for value in found if value not in UNLABELLED)
        if -1 in found and len(keys) > 1:
            raise ValueError(
                f"The labels in {column!r} are {sorted(found)}: is -1 a class, or a missing label? Give the "
                "classes names (strings), or leave missing labels empty."
            )
        numbered = keys == list(range(len(keys)))
        classes = tuple(f"LABEL_{key}" if numbered else str(key) for key in keys)
    encoded = {}
    for split, rows in splits.items():
        encoded[split] = [NO_LABEL] * len(rows)
        if column in rows.column_names:
            encoded[split] = labels_of(rows, column, classes, keys, split)
        _check_classes(encoded[split], classes, column, split)
        if split != "test" and (missing := encoded[split].count(NO_LABEL)):
            use = "learnt from through the teacher alone" if split == "train" else "left out"
            logger.info("%d of the %d rows of %s have no label, and are %s.", missing, len(rows), split, use)
    return encoded, classes


def labels_of(rows: Dataset, column: str, classes: tuple[str, ...], keys: Sequence[Any], split: str) -> list[int]:
    """The class index of each row, ``-100`` where it has none.

    Args:
        rows: One split.
        column: Class labels, strings or numbers.
        classes: The names of the classes, without regard to case where that tells them apart.
        keys: What may stand for each class beside its name.
        split: What messages call the rows.

    Raises:
        ValueError: a label is none of them.
    """
    names = [name.strip() for name in classes]
    lower = [name.lower() for name in names]
    known = [list(map(str, keys)), lower if len(set(lower)) == len(lower) else [], names, keys]  # the last one counts
    index = {key: place for spelled in known for place, key in enumerate(spelled)}
    labels = []
    for row, value in enumerate(_values(rows, column, classes)):
        if isinstance(value, (list, dict, float)):
            raise ValueError(
                f"{place_of(row, rows, split)} has label {value!r} in column {column!r}, which is no class: one string "
                "or whole number is needed, one class for each row. Choose another column with --label_column."
            )
        place = index.get(value, index.get(value.lower()) if isinstance(value, str) else None)
        if value in UNLABELLED:
            labels.append(NO_LABEL)
        elif place is not None:
            labels.append(place)
        else:
            raise ValueError(
                f"{place_of(row, rows, split)} has label {value!r} in column {column!r}, which is outside the classes "
                f"{dict(zip(classes, keys, strict=True))}.{meant(str(value), classes)} Correct it; a row without a "
                "label has -1 or nothing there."
            )
    return labels


def find_label_column(rows: Dataset, wanted: str | None) -> str:
    """The column that is wanted, the only ``ClassLabel``, or the one that is called ``label``.

    Raises:
        KeyError: there is no such column, or none that could be meant.
        ValueError: the wanted one holds neither names nor numbers.
    """
    if wanted is not None:
        require([wanted], rows, "train")
        if not isinstance(rows.features[wanted], ClassLabel | Value):
            raise ValueError(f"Column {wanted!r} holds no labels but {rows.features[wanted]}: name another.")
        return wanted
    class_labels = [name for name, feature in rows.features.items() if isinstance(feature, ClassLabel)]
    named = class_labels if len(class_labels) == 1 else [name for name in rows.column_names if name.lower() in LABELS]
    if len(named) != 1:
        raise KeyError(
            f"Which column holds the labels? There are {rows.column_names}. Say so with --label_column NAME."
        )
    return str(named[0])


def require(names: Sequence[str], rows: Dataset, split: str) -> None:
    """Raise ``KeyError`` where a split, or a file, has not all of these columns; the message names near ones."""
    for name in names:
        if name not in rows.column_names:
            raise KeyError(
                f"{split} has no column {name!r}; it has {rows.column_names}.{meant(name, rows.column_names)}"
            )


def meant(word: str, known: Sequence[str]) -> str:
    """A question where words that are known are like this one."""
    close = difflib.get_close_matches(word, known)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


def place_of(row: int, rows: Dataset, split: str) -> str:
    """Where a row is, for messages: its number, and what it holds, to search for where the number is not the file's."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = 60
    [values] = rows.select([row]).with_format("arrow")[:].to_pylist()  # as it is stored: no image is decoded
    return f"Row {row} of {split} ({', '.join(f'{name}={short.repr(value)}' for name, value in values.items())})"


def column_of(rows: Dataset, name: str) -> list[Any]:
    """A column as a list, read at one go."""
    values: list[Any] = rows.select_columns([name])[:][name]
    return values


def plain(value: Any) -> Any:
    """A label as a string or an integer: ``" pos "`` as ``"pos"``, ``True`` as ``"True"``, ``1.0`` as ``1``."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value.is_integer() else value
    return value


def _values(rows: Dataset, column: str, classes: Sequence[str]) -> list[Any]:
    """The labels as they stand there; names where the rows number their classes, and not as these are numbered."""
    values, feature = column_of(rows, column), rows.features[column]
    if getattr(feature, "dtype", None) == "bool" and len(classes) == 2 and "True" not in classes:
        return [value if value is None else int(value) for value in values]
    values = [plain(value) for value in values]
    if not isinstance(feature, ClassLabel) or tuple(feature.names) == classes:
        return values
    if _have_no_names(feature.names) or _have_no_names(classes):
        return values
    names = {number: name.strip() for number, name in enumerate(feature.names)}
    return [names.get(value, value) for value in values]


def _have_no_names(classes: Sequence[str]) -> bool:
    """Whether they are called as classes without names are, by this package or by the library."""
    return are_placeholders(classes) or list(classes) == list(map(str, range(len(classes))))


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
