"""What the command line is given to classify: texts in files, images in folders, with or without labels."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset

from hf_distill.losses import NO_LABEL
from hf_distill.recipe import load_images, load_splits
from hf_distill.recipe.class_labels import LABELS, column_of, find_label_column, labels_of, require
from hf_distill.recipe.columns import find_text_columns, texts_of
from hf_distill.recipe.data import READERS, nearest_paths
from hf_distill.recipe.image_folder import IMAGE_FILES, is_image, visible_files
from hf_distill.recipe.images import find_image_column

STDIN = "-"


@dataclass(frozen=True)
class Inputs:
    """What is to be classified.

    Args:
        columns: What the inputs are called: one name, or two for pairs of texts.
        values: Texts, tuples of texts, or images.
        labels: The class index of each, ``-100`` where it is not known; ``None`` where none is.
        split: Which split of a data set this is; ``None`` for anything else.
    """

    columns: tuple[str, ...]
    values: list[Any]
    labels: list[int] | None = None
    split: str | None = None


def read_texts(path: str, text_column: str | None = None) -> Inputs:
    """The texts of a file.

    Args:
        path: A ``.txt`` file with a text on each line, where blank lines are left out; a Parquet, CSV, TSV, JSON or
            JSON lines file; or ``-`` for lines from the standard input.
        text_column: Which column is the text, or two with a comma between them. Found if left out.

    Raises:
        FileNotFoundError: there is no such file.
        KeyError: there is no such column, or it is not clear which is meant.
        ValueError: the file cannot be read, or has no text, or a text is missing.
    """
    file = Path(path).expanduser()
    if path == STDIN or file.suffix.lower() == ".txt":
        return Inputs(("text",), _lines(path))
    existing(file)
    if file.is_dir() or file.suffix.lower() not in READERS:
        raise ValueError(f"{path} is no file of texts: give one that ends in .txt, {', '.join(READERS)}.")
    return _texts(load_splits(str(file))["train"], path, text_column)


def find_images(paths: Sequence[str]) -> Inputs:
    """The image files among paths and in the folders among them, folders within folders included, sorted.

    Raises:
        FileNotFoundError: a path does not exist, or a folder holds no image.
    """
    found: list[str] = []
    for path in map(Path, paths):
        existing(path)
        if path.is_dir():
            files = [str(path.joinpath(*parts)) for parts in sorted(visible_files(path)) if is_image(parts[-1])]
            if not files:
                raise FileNotFoundError(f"{path} holds no image: looked for {', '.join(IMAGE_FILES)}.")
            found += files
        else:
            found.append(str(path))
    return Inputs(("image",), found)


def read_evaluation(
    path: str,
    classes: Sequence[str],
    *,
    images: bool = False,
    split: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
) -> Inputs:
    """A split to measure a model on, with its labels in the order of the model's classes.

    Args:
        path: A file or folder as the recipes take it.
        classes: The names of the model's classes.
        images: Whether it holds images rather than texts.
        split: Which; default ``validation``, else ``test``, else all there is.
        text_column: As in :func:`read_texts`.
        label_column: Found if left out; without any, the split counts as unlabelled.

    Raises:
        FileNotFoundError: there is no such path.
        KeyError: there is no such split or column.
        ValueError: the data cannot be read, or a label is no class of the model.
    """
    existing(Path(path).expanduser())
    splits = (load_images if images else load_splits)(path)
    name = split or next(name for name in ("validation", "test", "train") if name in splits)
    if name not in splits:
        raise KeyError(f"{path} has no split {name!r}; it has {', '.join(splits)}.")
    rows = splits[name]
    labels = None
    try:
        found = find_label_column(rows, label_column)
    except KeyError:
        if label_column is not None or any(column.lower() in LABELS for column in rows.column_names):
            raise
    else:
        labels = labels_of(rows, found, tuple(classes), _keys(classes), name)
    if labels and all(label == NO_LABEL for label in labels):
        labels = None
    if images:
        column = find_image_column(rows, None)
        stored = column_of(rows.cast_column(column, datasets.Image(decode=False)), column)
        return Inputs((column,), [image["bytes"] or image["path"] for image in stored], labels, name)
    texts = _texts(rows, path, text_column)
    return Inputs(texts.columns, texts.values, labels, name)


def existing(path: Path) -> Path:
    """The path.

    Raises:
        FileNotFoundError: there is none; the message names near ones.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder {path}{nearest_paths(path)}.")
    return path


def _lines(path: str) -> list[Any]:
    try:
        text = sys.stdin.read() if path == STDIN else existing(Path(path).expanduser()).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}). Convert it.") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{'The standard input' if path == STDIN else path} holds no text.")
    return lines


def _texts(rows: Dataset, path: str, wanted: str | None) -> Inputs:
    columns = find_text_columns(rows, wanted, None)
    require(columns, rows, path)
    values = texts_of(rows, columns, path)
    return Inputs(columns, values if len(columns) > 1 else [text for (text,) in values])


def _keys(classes: Sequence[str]) -> Sequence[Any]:
    """What stands for a class beside its name: its place, unless numbers are names, as training makes them."""
    if any(map(str.isdecimal, classes)):
        return [int(name) if name.isdecimal() else name for name in classes]
    return range(len(classes))
