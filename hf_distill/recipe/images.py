"""Images for recipes: found, decoded once, and kept as plain pixels in an Arrow file."""

from __future__ import annotations

import io
import logging
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import transformers
from datasets import Dataset, DatasetDict, Features, Value
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from hf_distill.augmentation import Augmentation, ImageTransform
from hf_distill.image_views import Views
from hf_distill.pictures import upright
from hf_distill.recipe.class_labels import LabelledSplits, class_labels, find_label_column, require
from hf_distill.recipe.data import in_order, load_splits
from hf_distill.recipe.held_out import with_validation
from hf_distill.recipe.image_folder import load_image_folder
from hf_distill.redaction import first_line

logger = logging.getLogger(__name__)

GREY = {"1", "L", "LA", "La"}
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError)


@dataclass(frozen=True)
class ImageData(LabelledSplits):
    """Splits for the classification of images, decoded.

    Args:
        splits: ``train`` and maybe ``validation`` and ``test`` with ``pixel_values``, the bytes of one image each in
            the order of ``shape``, and ``labels``, a class index, ``-100`` where a row has none.
        classes: The class names in the order of the indices; ``LABEL_0`` and so on where they have no names.
        shape: Channels, height and width of every image.
    """

    splits: DatasetDict
    classes: tuple[str, ...]
    shape: tuple[int, int, int]

    def channel_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel over the training split, on a scale from 0 to 1."""
        counts = np.zeros((self.shape[0], 256), dtype=np.int64)
        for batch in self.splits["train"].select_columns(["pixel_values"]).iter(batch_size=1000):
            pixels = np.frombuffer(b"".join(batch["pixel_values"]), dtype=np.uint8).reshape(-1, *self.shape)
            for channel in range(self.shape[0]):
                counts[channel] += np.bincount(pixels[:, channel].reshape(-1), minlength=256)
        levels = np.arange(256) / 255
        mean = (counts @ levels) / counts.sum(axis=1)
        variance = (counts @ levels**2) / counts.sum(axis=1) - mean**2  # rounding may go below 0
        return tuple(mean.round(4).tolist()), tuple(np.sqrt(np.maximum(variance, 1e-6)).round(4).tolist())

    def read(self, rows: Dataset, mean: Sequence[float], std: Sequence[float]) -> Dataset:
        """Rows that give normalised tensors."""
        return rows.with_transform(ImageTransform(self.shape, tuple(mean), tuple(std)))

    def views(
        self,
        rows: Dataset,
        mean: Sequence[float],
        std: Sequence[float],
        augmentation: Augmentation,
        count: int | None = None,
    ) -> Views:
        """Rows that give normalised tensors of random views; so many of each image, or a new one in each epoch."""
        transform = ImageTransform(self.shape, tuple(mean), tuple(std), augmentation, len(self.classes))
        return Views(rows, transform, seed=0, count=count)


def load_images(name: str) -> DatasetDict:
    """Load an image data set as :func:`~hf_distill.recipe.load_splits` does, or from a folder of image files.

    Args:
        name: As there; or a folder of images as :func:`~hf_distill.recipe.image_folder.load_image_folder` takes it.

    Raises:
        FileNotFoundError: there is no such file, folder or data set.
        ValueError: the folder has no training split, or as there.
    """
    path = Path(name).expanduser()
    found = load_image_folder(path) if name.strip() and path.is_dir() else {}
    return in_order(name, found) if found else load_splits(name)


def as_image_classification(
    splits: DatasetDict,
    size: int,
    channels: int = 3,
    image: str | None = None,
    label: str | None = None,
    skip_corrupt: bool = False,
    hold_out: bool = False,
) -> ImageData:
    """Find images and labels, check both, and decode each image once.

    Args:
        splits: As :func:`load_images` returns them.
        size: Height and width in pixels; images of another size are resized as the image processor does it.
        channels: 3, for which grey images are repeated three times, or 1, for grey images only.
        image: The image column. Found if left out: the only one that holds images.
        label: The label column. Found if left out, as for texts.
        skip_corrupt: Whether rows with an image that cannot be read are left out, rather than an error.
        hold_out: As for texts.

    Raises:
        KeyError: there is no such column, or none that could be meant; the message names those there are.
        ValueError: an image is missing, cannot be read or is in colour where one channel is wanted; or as for texts.
    """
    image_column = find_image_column(splits["train"], image)
    label_column = find_label_column(splits["train"], label)
    for split, rows in splits.items():
        require([image_column] if split == "test" else [image_column, label_column], rows, split)
    encoded, classes = class_labels(splits, label_column)
    decoded = {}
    for split, rows in splits.items():
        plain = rows.select_columns([image_column]).cast_column(image_column, datasets.Image(decode=False))
        if image_column != "pixel_values":
            plain = plain.rename_column(image_column, "pixel_values")
        decoded[split] = plain.add_column("labels", encoded[split], feature=Value("int64")).map(
            _decode,
            batched=True,
            batch_size=500,
            with_indices=True,
            fn_kwargs={"split": split, "size": size, "channels": channels, "skip_corrupt": skip_corrupt},
            features=Features({"pixel_values": Value("binary"), "labels": Value("int64")}),
            desc=f"Decoding {split}",
        )
        if lost := len(rows) - len(decoded[split]):
            logger.warning("%d of %d images of %s cannot be read and are left out.", lost, len(rows), split)
        if not len(decoded[split]):
            raise ValueError(f"No image of {split} can be read.")
    parts = DatasetDict(decoded)
    return ImageData(with_validation(parts, classes) if hold_out else parts, classes, (channels, size, size))


def image_processor(size: int, mean: Sequence[float], std: Sequence[float]) -> Any:
    """The image processor to save with a model, which makes of a picture what the model saw in training."""
    return transformers.ViTImageProcessorPil(
        size={"height": size, "width": size}, image_mean=list(mean), image_std=list(std)
    )


def channels_last_collator(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Stack rows into a batch; the channels of a pixel lie side by side in memory, as convolutions like it."""
    batch = {name: torch.stack([torch.as_tensor(row[name]) for row in rows]) for name in rows[0]}
    batch["pixel_values"] = batch["pixel_values"].contiguous(memory_format=torch.channels_last)
    return batch


# ---- Decoding ----


def _decode(
    batch: Mapping[str, list[Any]], indices: list[int], split: str, size: int, channels: int, skip_corrupt: bool
) -> dict[str, list[Any]]:
    pixels, labels = [], []
    for row, stored, label in zip(indices, batch["pixel_values"], batch["labels"], strict=True):
        try:
            pixels.append(_pixels(stored, size, channels))
            labels.append(label)
        except UNREADABLE as error:
            place = f"Row {row} of {split}{_path(stored)}"
            if not skip_corrupt:
                raise ValueError(
                    f"{place} has an image that cannot be used: {first_line(error)}. Mend or remove it; "
                    "--skip_corrupt leaves such rows out."
                ) from error
            logger.warning("%s is left out: %s.", place, first_line(error))
    return {"pixel_values": pixels, "labels": labels}


def _path(stored: Mapping[str, Any] | None) -> str:
    """What to say of the file that an image was in, where it is known."""
    return f" ({stored['path']})" if stored is not None and stored["path"] else ""


def _pixels(stored: Mapping[str, Any] | None, size: int, channels: int) -> bytes:
    """One image as bytes, channel after channel."""
    if stored is None or (stored["bytes"] is None and stored["path"] is None):
        raise ValueError("there is none")
    source = stored["path"] if stored["bytes"] is None else io.BytesIO(stored["bytes"])
    try:
        opened = Image.open(source)
    except UnidentifiedImageError as error:  # whose words are an address in memory
        raise ValueError("it is no image, or one of an unknown format") from error
    with opened:
        image = upright(opened)
        if channels == 1 and image.mode not in GREY:
            raise ValueError(f"it is in colour (mode {image.mode}), where a grey one is needed")
        image = image.convert("L" if channels == 1 else "RGB")
        if image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.BILINEAR)
        array = np.asarray(image, dtype=np.uint8).reshape(size, size, channels)
    return array.transpose(2, 0, 1).tobytes()


# ---- Finding ----


def find_image_column(rows: Dataset, wanted: str | None) -> str:
    if wanted is not None:
        require([wanted], rows, "train")
    found = [name for name, feature in rows.features.items() if _may_be_images(feature)]
    if wanted is not None and wanted not in found:
        raise KeyError(f"Column {wanted!r} holds no images but {rows.features[wanted]}; images are in {found}.")
    certain = [name for name in found if isinstance(rows.features[name], datasets.Image)]
    for candidates in ([wanted] if wanted else [], certain, found):
        if len(candidates) == 1:
            return str(candidates[0])
    raise KeyError(f"Which column holds the images? There are {rows.column_names}. Say so with --image_column NAME.")


def _may_be_images(feature: Any) -> bool:
    """Images; or bytes, or bytes and path, as a file has them that was not written by the library."""
    stored = isinstance(feature, dict) and {"bytes", "path"} <= feature.keys()
    return (
        stored or isinstance(feature, datasets.Image) or getattr(feature, "dtype", None) in ("binary", "large_binary")
    )
