"""A folder of image files, with a folder for each class."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
from datasets import ClassLabel, Dataset, Features, NamedSplit

from hf_distill.recipe.data import READERS, listed, split_of

logger = logging.getLogger(__name__)

IMAGE_FILES = (
    ".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip

Parts = tuple[str, ...]
"""A path below the folder, part by part."""


def load_image_folder(folder: Path) -> dict[str, Dataset]:
    """The images of a folder by split, each labelled with the folder of its class.

    The folder of a class may have folders within, and may be a link; what is hidden is not looked at. A warning names
    the files that are left out.

    Args:
        folder: With a folder for each class, within folders for ``train``, ``validation`` and ``test`` or without.

    Returns:
        For each split a column ``image`` and a column ``label``; no split where this is no folder of images.

    Raises:
        ValueError: there are images, but none of them in the folder of a class.
    """
    files = sorted(_visible_files(folder))
    images = [parts for parts in files if is_image(parts[-1])]
    depth = 2 if _in_splits(images) else 1
    kept: dict[str, list[Parts]] = {}
    for parts in images:
        if len(parts) > depth and (split := split_of(parts[:1]) if depth == 2 else "train"):
            kept.setdefault(split, []).append(parts)
    classes = {parts[depth - 1] for parts in kept.get("train", [])}
    if len(classes) < 2 and any(Path(parts[-1]).suffix.lower() in READERS for parts in files):
        return {}  # pictures beside files of data
    if images and not kept:
        raise ValueError(
            f"{folder} has images ({listed(map('/'.join, images))}), but no folder of images for each class. Sort "
            "them: CLASS/IMAGE, or train/CLASS/IMAGE and test/CLASS/IMAGE."
        )
    if kept and (left := sorted(set(files).difference(*kept.values()))):
        logger.warning(
            "%s: %d files are left out, as they are no images (%s) in the folder of a class: %s.",
            folder, len(left), ", ".join(IMAGE_FILES), listed(map("/".join, left)),
        )  # fmt: skip
    return {split: _dataset(split, folder, found, depth) for split, found in kept.items()}


def is_image(name: str) -> bool:
    """Whether a file is called as images are."""
    return Path(name).suffix.lower() in IMAGE_FILES


def _visible_files(folder: Path) -> Iterator[Parts]:
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(place).relative_to(folder).parts
        yield from ((*below, name) for name in names if not name.startswith("."))


def _in_splits(images: Sequence[Parts]) -> bool:
    """Whether the outermost folders are splits: all are called so, or that for training holds folders.

    A class may be called ``train``.
    """
    outermost = {parts[0] for parts in images if len(parts) > 1}
    return all(split_of([name]) for name in outermost) or any(
        len(parts) > 2 and split_of(parts[:1]) == "train" for parts in images
    )


def _dataset(split: str, folder: Path, images: Sequence[Parts], depth: int) -> Dataset:
    names = sorted({parts[depth - 1] for parts in images})
    files = [(str(file := folder.joinpath(*parts)), parts[depth - 1], file.stat().st_mtime_ns) for parts in images]
    features = Features({"image": datasets.Image(), "label": ClassLabel(names=names)})
    rows: Dataset = Dataset.from_generator(_rows, features, gen_kwargs={"files": files}, split=NamedSplit(split))
    return rows


def _rows(files: Sequence[tuple[str, str, int]]) -> Iterator[dict[str, Any]]:
    """A row for each file; when it was changed is there for the cache, to know files that changed."""
    for path, label, _ in files:
        yield {"image": path, "label": label}
