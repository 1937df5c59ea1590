"""Random views of images that are the same for whoever asks: the basis of exact resumption and of cached teachers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import xxhash
from numpy.typing import NDArray

from hf_distill.augmentation import DRAWS, ImageTransform
from hf_distill.draws import uniform_draws
from hf_distill.epochs import EpochDataset


class Views(EpochDataset):
    """Images, each in a random view that depends on the seed, the image and the number of the view alone.

    Not on the batch that it is in, the order, the process or the number of data workers: a training that is resumed
    anywhere sees what it would have seen, and a teacher that has answered once about each view need not answer again.
    An image is known by its stored bytes, so that rows may be filtered, shuffled and mixed with others before; two
    rows with the same bytes have the same views.

    Epoch e shows view e, or view e modulo ``count``. ``DistillationTrainer`` says which epoch it is; other trainers
    need :class:`~hf_distill.epochs.EpochCallback` for that. Data workers hear of it too, also persistent ones. It
    does not get through ``torch.utils.data.Subset`` and the like: choose among the rows instead.

    mixup and CutMix depend on the other images of the batch too, and on nothing else.

    Args:
        rows: With ``pixel_values``, the bytes of each image as they are stored, and maybe ``labels`` and more.
        transform: What is done with them, at random where it has an augmentation.
        seed: Another seed, other views.
        count: How many views of an image there are; a new one in each epoch where left out.

    Raises:
        KeyError: there is no column ``pixel_values``.
        ValueError: the rows have a transform already, ``count`` is < 1, or images of a batch are to be mixed and
            ``count`` is given.

    Example:
        >>> from hf_distill.augmentation import Augmentation
        >>> rows = datasets.Dataset.from_dict({"pixel_values": [bytes(range(16))] * 2, "labels": [0, 1]})
        >>> transform = ImageTransform((1, 4, 4), mean=(0.5,), std=(0.5,), augmentation=Augmentation(padding=1))
        >>> views = Views(rows, transform, seed=0, count=2)
        >>> for view in range(2):
        ...     views.set_epoch(view)
        ...     views[1]["pixel_values"].shape
        torch.Size([1, 4, 4])
        torch.Size([1, 4, 4])
    """

    def __init__(self, rows: datasets.Dataset, transform: ImageTransform, seed: int, count: int | None = None) -> None:
        super().__init__()
        if "pixel_values" not in rows.column_names:
            raise KeyError(f"Views need images as bytes in a column 'pixel_values'; there are {rows.column_names}.")
        if rows.format["type"] == "custom":
            raise ValueError(
                "These rows have a transform of their own already. Give the rows as they are stored, "
                "rows.with_format(None), and the transform as an argument."
            )
        if count is not None and count < 1:
            raise ValueError(f"count must be >= 1, or None for a new view in each epoch, got {count}.")
        if count is not None and transform.mixes:
            raise ValueError(
                "mixup and CutMix mix the images of a batch, so that no image has a fixed number of views. Set both "
                "to 0, or give no count, for a new view in each epoch."
            )
        self.rows = rows.with_format(None)
        self.transform, self.seed, self.count = transform, seed, count

    @property
    def view(self) -> int:
        """The number of the view that is shown, from 0."""
        return self.epoch if self.count is None else self.epoch % self.count

    def for_training(self, seed: int) -> Views:
        """The views that a training with this seed sees: its own where there is no end of them, else these."""
        return Views(self.rows, self.transform, seed) if self.count is None else self

    def describe(self) -> dict[str, Any]:
        """What the views depend on beside the rows, as plain data."""
        return {"transform": repr(self.transform), "seed": self.seed, "count": self.count}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        stored = self.rows[list(indices)]
        draws = uniform_draws(self.seed, example_hashes(stored["pixel_values"]), self.view, DRAWS)
        columns = self.transform(stored, draws)
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def stored_rows(rows: Any) -> Any:
    """The rows behind images that are made of bytes, for checks that read whole columns; other data as it is."""
    if isinstance(rows, Views):
        return rows.rows
    return rows if image_transform(rows) is None else rows.with_format(None)


def image_transform(rows: Any) -> ImageTransform | None:
    """What makes images of the bytes in these rows, at random or not, where it is ours."""
    if isinstance(rows, Views):
        return rows.transform
    if not isinstance(rows, datasets.Dataset):
        return None
    transform = rows.format["format_kwargs"].get("transform")
    return transform if isinstance(transform, ImageTransform) else None


def example_hashes(stored: Sequence[bytes]) -> NDArray[np.uint64]:
    """``(B,)``, by which an image is known wherever it stands: XXH3 of its bytes, 64 bits."""
    return np.array([xxhash.xxh3_64_intdigest(image) for image in stored], dtype=np.uint64)
