"""A part of the training split for validation, where there is no such split."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from datasets import DatasetDict

from hf_distill.losses import NO_LABEL
from hf_distill.recipe.class_labels import column_of

logger = logging.getLogger(__name__)

SHARE = 0.1
SEED = 0


def with_validation(splits: DatasetDict, classes: Sequence[str]) -> DatasetDict:
    """Hold out a tenth of each class of the training split, always the same rows; of a class with one row none.

    Args:
        splits: With ``labels``; as they are where one is for validation.
        classes: The names of the classes.

    Raises:
        ValueError: the training split has not two classes with two rows each.
    """
    if "validation" in splits:
        return splits
    draw, train = np.random.default_rng(SEED), splits["train"]
    labels = np.array(column_of(train, "labels"))
    held_out = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels[labels != NO_LABEL]):
        rows = np.flatnonzero(labels == label)
        count = max(1, round(SHARE * len(rows))) if len(rows) > 1 else 0
        held_out[draw.permutation(rows)[:count]] = True
    found = np.unique(labels[held_out])
    if len(found) < 2:
        raise ValueError(
            "There are too few training examples to hold some out for validation: two classes need two each. Add a "
            "validation split."
        )
    logger.warning(
        "There is no validation split: %d of %d training rows are held out for it, a tenth of each class (seed %d).",
        held_out.sum(), len(labels), SEED,
    )  # fmt: skip
    if len(found) < len(classes):
        missing = [name for label, name in enumerate(classes) if label not in found]
        logger.warning("Of %s there are too few rows: validation says nothing of it.", ", ".join(missing))
    kept = {"train": train.select(np.flatnonzero(~held_out)), "validation": train.select(np.flatnonzero(held_out))}
    return DatasetDict({**kept, **{split: rows for split, rows in splits.items() if split != "train"}})
