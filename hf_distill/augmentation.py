"""What is done at random to images, for a whole batch at once, so that teacher and student see the same.

The random numbers may be given, as :class:`~hf_distill.image_views.Views` does it. Then a view is a function of them,
and a training that is resumed anywhere goes on to the same bits. Where they are left out, as under
``Dataset.with_transform``, they come from torch's global generator, which ``Trainer`` seeds and keeps in its
checkpoints; that is exact only after whole epochs, because ``Trainer`` prepares the next batch before it restores the
generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hf_distill.image_input import by_channel
from hf_distill.losses import NO_LABEL
from hf_distill.randomness import seeded

DRAWS = 5
"""How many random numbers decide about an image: down, right, mirrored, what seeds the policy, what seeds mixing."""


@dataclass(frozen=True)
class Augmentation:
    """What is done at random to a batch of training images, in this order.

    Args:
        padding: A crop of the old size is taken at random from the image with a black border of so many pixels; 0 for
            no crop.
        flip: Whether every second image, at random, is mirrored left to right.
        policy: Anything else, between the flip and the normalisation: takes and returns ``(B, C, H, W)`` float32 from
            0 to 1, such as ``kornia.augmentation.auto.TrivialAugment()``. Its draws come from the global generators
            of the CPU; where the views are seeded, it is called image by image under a seed, which is slower. Its
            ``repr`` must say what it does, for that tells trainings and caches apart.
        mixup: Mix pairs of images, with a share from the Beta distribution with both parameters this; 0 for none.
        cutmix: Put a rectangle of one image into another, its area drawn in the same way; 0 for none. With both,
            every batch gets the one or the other at random.

    Raises:
        ValueError: a number is negative or not finite, or ``padding`` is no whole number.

    Source:
        Crop and flip as in Lee et al. 2015, arXiv:1409.5185, section 3; mixup: Zhang et al. 2018, arXiv:1710.09412;
        CutMix: Yun et al. 2019, arXiv:1905.04899. The same view for teacher and student: Beyer et al. 2022,
        arXiv:2106.05237.
    """

    padding: int = 4
    flip: bool = True
    policy: Callable[[Tensor], Tensor] | None = None
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        if not (isinstance(self.padding, int) and self.padding >= 0):
            raise ValueError(f"padding must be a whole number of pixels >= 0, got {self.padding}.")
        if not (0 <= self.mixup < math.inf and 0 <= self.cutmix < math.inf):
            raise ValueError(f"mixup and cutmix must be finite numbers >= 0, got {self.mixup} and {self.cutmix}.")


@dataclass(frozen=True)
class Sometimes:
    """A policy for some of the images, so that a batch holds strong views and weak ones, which only cropping makes.

    Args:
        policy: As in :class:`Augmentation`.
        share: Of the images that it is for, > 0 and <= 1, drawn for each image from torch's global generator.

    Raises:
        ValueError: ``share`` is out of its range.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> Sometimes(lambda images: 1 - images, share=0.5)(torch.zeros(4, 1, 1, 1)).flatten()
        tensor([1., 0., 1., 1.])
    """

    policy: Callable[[Tensor], Tensor]
    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be > 0 and <= 1, got {self.share}.")

    def __call__(self, images: Tensor) -> Tensor:
        chosen = torch.rand(len(images)) < self.share
        if not chosen.any():
            return images
        made = images.clone()
        made[chosen] = self.policy(images[chosen])
        return made


@dataclass(frozen=True)
class ImageTransform:
    """Stored pixels to what a model reads, a batch at a time: for ``Views``, and for ``Dataset.with_transform``.

    Args:
        shape: Channels, height and width of the stored images.
        mean: Of each channel, on a scale from 0 to 1; taken off.
        std: Of each channel, on the same scale; divided by.
        augmentation: For a training set.
        classes: Number of classes; needed for mixup and CutMix, whose labels become shares of the classes.

    Raises:
        ValueError: ``shape`` is not three whole numbers >= 1, ``mean`` and ``std`` are not one finite number for each
            channel, the latter > 0, or images are to be mixed and the number of classes is not known; later, stored
            images are of another size.

    Example:
        >>> read = ImageTransform((1, 2, 2), mean=(0.5,), std=(0.5,))
        >>> read({"pixel_values": [bytes([0, 255, 255, 0])], "labels": [3]})["pixel_values"]
        tensor([[[[-1.,  1.], [ 1., -1.]]]])
    """

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation | None = None
    classes: int = 0

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or not all(isinstance(size, int) and size >= 1 for size in self.shape):
            raise ValueError(f"shape must be channels, height and width, whole numbers >= 1; got {self.shape}.")
        fits = len(self.mean) == len(self.std) == self.shape[0]
        if not (fits and all(map(math.isfinite, self.mean)) and all(0 < std < math.inf for std in self.std)):
            raise ValueError(
                f"mean and std must be a finite number for each of {self.shape[0]} channels, std > 0; got {self.mean} "
                f"and {self.std}."
            )
        if self.mixes and self.classes < 2:
            raise ValueError(f"Mixed images have shares of classes as labels: give classes >= 2, got {self.classes}.")

    @property
    def mixes(self) -> bool:
        """Whether labels become shares of classes."""
        return self.augmentation is not None and max(self.augmentation.mixup, self.augmentation.cutmix) > 0

    def __call__(self, batch: Mapping[str, Sequence[Any]], draws: Tensor | None = None) -> dict[str, Any]:
        """Each column that is there, as a tensor: ``pixel_values`` from bytes, and ``labels``.

        Args:
            batch: The columns.
            draws: ``(B, DRAWS)`` float64 from 0 to 1, which decide about each image; drawn if left out.

        Raises:
            ValueError: an image has another number of bytes than ``shape`` says.
        """
        out: dict[str, Any] = dict(batch)
        if "labels" in batch:
            out["labels"] = torch.as_tensor(batch["labels"])
        if "pixel_values" not in batch:
            return out
        size = math.prod(self.shape)
        if other := [len(image) for image in batch["pixel_values"] if len(image) != size]:
            raise ValueError(
                f"A stored image has {other[0]} bytes, where {' x '.join(map(str, self.shape))} (channels, height, "
                f"width) take {size}. Resize and convert all images before they are stored, or say their shape."
            )
        buffer = bytearray(b"".join(batch["pixel_values"]))
        images = torch.frombuffer(buffer, dtype=torch.uint8).reshape(-1, *self.shape)
        chosen = self.augmentation
        if chosen is not None and (chosen.padding or chosen.flip):
            given = torch.rand(len(images), DRAWS, dtype=torch.float64) if draws is None else draws
            images = crop_and_flip(images, given[:, :3], chosen.padding, chosen.flip)
        values = images.float() / 255
        if chosen is not None and chosen.policy is not None:
            values = chosen.policy(values) if draws is None else _one_by_one(chosen.policy, values, draws[:, 3])
        values = (values - by_channel(self.mean, values)) / by_channel(self.std, values)
        if chosen is not None and self.mixes and "labels" in out:
            labels = shares_of_classes(out["labels"], self.classes)
            with nullcontext() if draws is None else seeded(_seed(draws[:, 4])):
                values, out["labels"] = mix(values, labels, chosen.mixup, chosen.cutmix)
        return {**out, "pixel_values": values}


def crop_and_flip(images: Tensor, draws: Tensor, padding: int, flip: bool = True) -> Tensor:
    """A crop from each image with a black border, mirrored or not.

    Image by image, each a copy of its lines: several times faster than one indexing operation for all pixels.

    Args:
        images: ``(B, C, H, W)`` of any dtype that NumPy has.
        draws: ``(B, 3)`` float64 from 0 to 1: how far down the crop lies, how far to the right, and below one half
            where the image is mirrored.
        padding: Width of the border.
        flip: Whether to mirror.

    Returns:
        ``(B, C, H, W)``.

    Example:
        >>> image = torch.tensor([[[[1, 2], [3, 4]]]])
        >>> crop_and_flip(image, torch.tensor([[0.4, 0.9, 0.1]]), padding=1)  # one line further right, then mirrored
        tensor([[[[0, 2],
                  [0, 4]]]])
    """
    height, width = images.shape[2:]
    padded = F.pad(images, [padding] * 4).numpy()
    shown = np.empty(images.shape, padded.dtype)
    corners = (draws[:, :2] * (2 * padding + 1)).long().tolist()
    mirrored = (draws[:, 2] < 0.5).tolist() if flip else [False] * len(images)
    for target, image, (down, right), turned in zip(shown, padded, corners, mirrored, strict=True):
        crop = image[:, down : down + height, right : right + width]
        target[:] = crop[:, :, ::-1] if turned else crop
    return torch.from_numpy(shown)


def _one_by_one(policy: Callable[[Tensor], Tensor], images: Tensor, draws: Tensor) -> Tensor:
    """Each image as the policy makes it under a seed of its own."""
    made = []
    for image, draw in zip(images, draws, strict=True):
        with seeded(_seed(draw)):
            made.append(policy(image[None]))
    return torch.cat(made)


def _seed(draws: Tensor) -> int:
    """A seed made of numbers from 0 to 1, whatever their order; one of 53 bits from each number alone."""
    return int((draws * 2.0**53).long().sum())


def shares_of_classes(labels: Tensor, classes: int) -> Tensor:
    """Class indices ``(B,)`` as ``(B, classes)`` with a 1 in each row; a row of ``-100`` where there is no label."""
    known = labels != NO_LABEL
    shares = F.one_hot(labels.where(known, 0), classes).float()
    return shares.masked_fill(~known.unsqueeze(1), float(NO_LABEL))


def mix(images: Tensor, labels: Tensor, mixup: float, cutmix: float) -> tuple[Tensor, Tensor]:
    """Mix each image of a batch with another one by mixup or CutMix, and the labels in the same shares.

    Args:
        images: ``(B, C, H, W)``.
        labels: ``(B, classes)`` shares; where one of a pair has no label, the mixture has none.
        mixup: Parameter of the Beta distribution for mixup; 0 for none.
        cutmix: The same for CutMix. Where both are > 0, each batch gets one of them at random.
    """
    cuts = cutmix > 0 and (mixup == 0 or bool(torch.rand(()) < 0.5))
    alpha = torch.tensor(cutmix if cuts else mixup)
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    other = torch.randperm(len(images))
    if cuts:
        images, share = _pasted(images, images[other], share)
    else:
        images = share * images + (1 - share) * images[other]
    mixed = share * labels + (1 - share) * labels[other]
    unknown = (labels < 0) | (labels[other] < 0)
    return images, mixed.masked_fill(unknown, float(NO_LABEL))


def _pasted(images: Tensor, others: Tensor, share: float) -> tuple[Tensor, float]:
    """A rectangle of about ``1 - share`` of the area from the others, and the share that is left of the images."""
    height, width = images.shape[2:]
    half = [round(size * (1 - share) ** 0.5 / 2) for size in (height, width)]
    centre = [int(torch.randint(size, ())) for size in (height, width)]
    top, left = (max(c - h, 0) for c, h in zip(centre, half, strict=True))
    bottom, right = (min(c + h, size) for c, h, size in zip(centre, half, (height, width), strict=True))
    pasted = images.clone()
    pasted[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
    return pasted, 1 - (bottom - top) * (right - left) / (height * width)
