"""Can these be compared? Checks on the splits, the labels and the number of models, each with its cure."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from hf_distill.evaluation.prediction import Predictions, label_of
from hf_distill.labels import LABEL_COLUMNS
from hf_distill.losses import NO_LABEL

logger = logging.getLogger(__name__)


def labelled_splits(splits: Mapping[str, Any]) -> dict[str, Any]:
    """The splits that have labels, as far as their first rows tell.

    Raises:
        ValueError: a split is empty, or none has labels.
    """
    for name, rows in splits.items():
        if len(rows) == 0:
            raise ValueError(f"Split {name!r} is empty. Leave it out, or choose another.")
    labelled = {name: rows for name, rows in splits.items() if label_of(rows[0]) != NO_LABEL}
    if left_out := [name for name in splits if name not in labelled]:
        logger.warning("No labels in %s: left out of the comparison.", ", ".join(left_out))
    if not labelled:
        raise ValueError(
            f"No labels in {', '.join(splits) or 'the dataset'}: looked for a column {', '.join(LABEL_COLUMNS)} with "
            "class indices >= 0. A comparison needs a labelled split."
        )
    return labelled


def check_labels(predictions: Predictions, split: str) -> None:
    """Every row has a label that the model knows, and there is more than one class.

    Raises:
        ValueError: not so.
    """
    labels, classes = predictions.labels, predictions.logits.shape[1]
    if labels is None or labels.min() < 0:
        row = 0 if labels is None else int(labels.argmin())
        raise ValueError(f"Split {split!r} is labelled only in part: row {row} has no label. Filter such rows out.")
    if labels.max() >= classes:
        raise ValueError(
            f"Split {split!r}: row {labels.argmax()} has label {labels.max()}, but the student has {classes} classes, "
            f"0 to {classes - 1}. Give the student as many labels as the dataset has."
        )
    if labels.min() == labels.max():
        raise ValueError(
            f"Split {split!r} has one class only ({labels.min()}): every score would be trivial. Choose rows of "
            "several classes; a sorted dataset must be shuffled before a part of it is selected."
        )


def check_counts(students: Sequence[Any], controls: Sequence[Any], seeds: Sequence[int]) -> None:
    """One control and one seed for each student, where there are any.

    Raises:
        ValueError: not so.
    """
    if not students:
        raise ValueError("compare() needs at least one student, got an empty sequence.")
    if controls and len(controls) != len(students):
        raise ValueError(f"{len(students)} students and {len(controls)} controls: train one control for each student.")
    if seeds and len(seeds) != len(students):
        raise ValueError(f"{len(students)} students and {len(seeds)} seeds {list(seeds)}: give one seed each.")


def by_split(given: Any, splits: Mapping[str, Any]) -> dict[str, Any]:
    """What was given for each split; something for a single split may stand without its name.

    Raises:
        ValueError: a split is missing.
    """
    if not isinstance(given, Mapping):
        given = dict.fromkeys(splits, given) if len(splits) == 1 else {}
    if missing := [name for name in splits if name not in given]:
        raise ValueError(
            f"The teacher has nothing for the splits {missing}. Give teacher predictions or teacher_dataset as a dict "
            f"with the keys {list(splits)}."
        )
    return {name: given[name] for name in splits}
