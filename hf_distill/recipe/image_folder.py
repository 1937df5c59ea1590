"""A folder of image files, with a folder for each class."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import datasets
from datasets import ClassLabel, Dataset, Features, NamedSplit

from hf_distill.recipe.data import READERS, SPLIT_WORDS, listed, split_of

logger = logging.getLogger(__name__)

IMAGE_FILES = (
    ".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip

Parts = tuple[str, ...]
"""A path below the folder, part by part."""


def load_image_folder(folder: Path) -> dict[str, Dataset]:
    """The images of a folder by split, each labelled with the folder of its class.

    The folder of a class may be a link; what is hidden is not looked at. A warning names the files that are left out,
    among them images in folders within that of a class.

    Args:
        folder: With a folder for each class, within folders for ``train``, ``validation`` and ``test`` or without.

    Returns:
        For each split a column ``image`` and a column ``label``; no split where this is no folder of images.

    Raises:
        ValueError: there are images, but none of them in the folder of a class.
        OSError: a folder cannot be read.
    """
    files = sorted(visible_files(folder))
    images = [parts for parts in files if is_image(parts[-1])]
    depth = 2 if _in_splits(images) else 1
    kept: dict[str, list[Parts]] = {}
    for parts in images:
        if len(parts) == depth + 1 and (split := _split(parts[0]) if depth == 2 else "train"):
            kept.setdefault(split, []).append(parts)
    data = [parts for parts in files if Path(parts[-1]).suffix.lower() in READERS]
    classes = {parts[depth - 1] for found in kept.values() for parts in found}
    if (data and len(classes) < 2) or (depth == 1 and any(split_of(parts) == "train" for parts in data)):
        return {}  # pictures beside files of data
    if images and not kept:
        raise ValueError(
            f"{folder} has images ({listed(map('/'.join, images))}), but no folder of images for each class. Sort "
            "them: CLASS/IMAGE, or train/CLASS/IMAGE and test/CLASS/IMAGE."
        )
    if kept and (left := sorted(set(files).difference(*kept.values()))):
        logger.warning(
            "%s: %d files are left out: %s. Images end in %s, and lie in the folder of their class itself.",
            folder, len(left), listed(map("/".join, left)), ", ".join(IMAGE_FILES),
        )  # fmt: skip
    return {split: _dataset(split, folder.resolve(), found, depth) for split, found in kept.items()}


def visible_files(folder: Path) -> Iterator[Parts]:
    """The files of a folder and of the folders within, but for what is hidden; links are followed, though not upwards.

    Raises:
        OSError: a folder cannot be read.
    """

    def stop(error: OSError) -> NoReturn:
        raise error

    for place, folders, names in os.walk(folder, followlinks=True, onerror=stop):
        here = Path(place)
        folders[:] = [name for name in folders if not name.startswith(".") and not _leads_up(here / name)]
        below = here.relative_to(folder).parts
        yield from ((*below, name) for name in names if not name.startswith("."))


def is_image(name: str) -> bool:
    """Whether a file is called as images are."""
    return Path(name).suffix.lower() in IMAGE_FILES


def _leads_up(folder: Path) -> bool:
    """Whether this is a link to a folder that it lies in."""
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())


def _split(name: str) -> str | None:
    """The split of a folder that is called after it, as a whole: ``Test``, ``train-1`` or ``val2017``."""
    match = re.fullmatch(r"([a-z]+)[-_.]?\d*", name.lower())
    return SPLIT_WORDS.get(match[1]) if match else None


def _in_splits(images: Sequence[Parts]) -> bool:
    """Whether the outermost folders are splits: all are called so, or that for training holds folders.

    A class may be called ``train``.
    """
    outermost = {parts[0] for parts in images if len(parts) > 1}
    return all(map(_split, outermost)) or any(len(parts) > 2 and _split(parts[0]) == "train" for parts in images)


def _dataset(split: str, folder: Path, images: Sequence[Parts], depth: int) -> Dataset:
    names = sorted({parts[depth - 1] for parts in images})
    files = [(str(file := folder.joinpath(*parts)), parts[depth - 1], *_state(file)) for parts in images]
    features = Features({"image": datasets.Image(), "label": ClassLabel(names=names)})
    rows: Dataset = Dataset.from_generator(_rows, features, gen_kwargs={"files": files}, split=NamedSplit(split))
    return rows


def _state(file: Path) -> tuple[int, int]:
    """By which the library's cache knows a file that changed; a link may lead nowhere."""
    stat = file.stat() if file.exists() else None
    return (stat.st_size, stat.st_mtime_ns) if stat else (0, 0)


def _rows(files: Sequence[tuple[str, str, int, int]]) -> Iterator[dict[str, Any]]:
    for path, label, *_ in files:
        yield {"image": path, "label": label}
