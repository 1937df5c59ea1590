"""A teacher's own images, made of the student's: of the same crop, for whole batches and on any device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

MODES = ("bilinear", "bicubic")
"""Pillow's ways to resize that PyTorch has too. The result is the same but for the rounding to bytes, and but for where
bicubic goes beyond black or white on the way."""


@dataclass(frozen=True)
class ImageInput:
    """How a model wants its images: resized, cut out of the middle, normalised.

    Args:
        mean: Of each channel, on a scale from 0 to 1; taken off. Of a grey image each of them makes a channel.
        std: Of each channel, on the same scale; divided by.
        size: Height and width to resize to, or the shorter of the two alone; empty for no resizing.
        crop: Height and width of the middle that is left after that; empty for all of it. Black is put around where
            there is too little.
        resample: ``bilinear`` or ``bicubic``, with the width of the reduction, as in Pillow.

    Example:
        >>> read = ImageInput(mean=(0.5,), std=(0.5,), size=(1, 2))
        >>> read(torch.tensor([[[[0.0, 1.0], [0.5, 0.5]]]]))
        tensor([[[[-0.5000,  0.5000]]]])
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, ...] = ()
    crop: tuple[int, ...] = ()
    resample: str = "bilinear"

    def __call__(self, pictures: Tensor) -> Tensor:
        """``(B, C, H, W)`` float32 from 0 to 1, to what the model reads."""
        height, width = self._resized(*pictures.shape[2:])
        if pictures.shape[2:] != (height, width):
            pictures = F.interpolate(pictures, (height, width), mode=self.resample, antialias=True).clamp(0, 1)
        if self.crop:
            top, left = map(self._start, (height, width), self.crop)
            bottom, right = height - self.crop[0] - top, width - self.crop[1] - left
            pictures = F.pad(pictures, (-left, -right, -top, -bottom))
        return (pictures - by_channel(self.mean, pictures)) / by_channel(self.std, pictures)

    def output_size(self, height: int, width: int) -> tuple[int, ...]:
        """Height and width of what is made of a picture."""
        return self.crop or self._resized(height, width)

    def keeps_size(self, height: int, width: int) -> bool:
        """Whether pictures of this size are neither resized nor cut."""
        return self._resized(height, width) == (height, width) == self.output_size(height, width)

    def _start(self, side: int, kept: int) -> int:
        """The first pixel that is left; below 0 where black is put before it."""
        return (side - kept) // 2

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if len(self.size) == 1:
            [edge] = self.size
            shorter = min(height, width)
            return (edge, edge * width // shorter) if height <= width else (edge * height // shorter, edge)
        return (self.size[0], self.size[1]) if self.size else (height, width)


class TorchvisionInput(ImageInput):
    """The same where torchvision cuts out the middle: what cannot be halved is rounded to the nearest even pixel.

    Source:
        ``torchvision.transforms.functional.center_crop``, version 0.29.

    Example:
        >>> pictures = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4]).reshape(1, 1, 1, 5)
        >>> [kind((0.0,), (1.0,), crop=(1, 2))(pictures).flatten().tolist() for kind in (ImageInput, TorchvisionInput)]
        [[0.10000000149011612, 0.20000000298023224], [0.20000000298023224, 0.30000001192092896]]
    """

    def _start(self, side: int, kept: int) -> int:
        return round((side - kept) / 2) if side >= kept else -((kept - side) // 2)


@dataclass(frozen=True)
class ImageConversion:
    """One model's pixel values to those that another model wants of the same picture.

    Args:
        mean: What was taken off.
        std: What was divided by.
        wanted: What the other model wants.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    wanted: ImageInput

    def __call__(self, pixel_values: Tensor) -> Tensor:
        """``(B, C, H, W)``, any float dtype, to ``(B, C', H', W')`` float32."""
        values = pixel_values.float()
        return self.wanted((values * by_channel(self.std, values) + by_channel(self.mean, values)).clamp(0, 1))

    def changes(self, height: int, width: int) -> bool:
        """Whether it does anything to images of this size."""
        same = (self.mean, self.std) == (self.wanted.mean, self.wanted.std)
        return not (same and self.wanted.keeps_size(height, width))


@dataclass(frozen=True)
class ConvertingCollator:
    """Batches with converted images: for training or evaluating the other model by itself.

    Args:
        collator: Makes the batches.
        conversion: What is done with their ``pixel_values``.
    """

    collator: Callable[[list[Any]], Mapping[str, Any]]
    conversion: ImageConversion

    def __call__(self, rows: list[Any]) -> dict[str, Any]:
        batch = dict(self.collator(rows))
        return {**batch, "pixel_values": self.conversion(batch["pixel_values"])}


def by_channel(values: Sequence[float], like: Tensor) -> Tensor:
    """One number a channel, to be broadcast over ``(B, C, H, W)``."""
    return torch.tensor(values, dtype=like.dtype, device=like.device).reshape(-1, 1, 1)
