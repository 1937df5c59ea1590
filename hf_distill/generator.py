"""A network that makes images out of noise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ImageGenerator(nn.Module):
    """Images from latent vectors: a linear layer, and convolutions between which a small map is doubled twice.

    What it puts out has mean 0 and variance 1 in each channel, over the batch, as images have that an image processor
    normalised by the statistics of their data set. All batch normalisation is by the statistics of the batch, also in
    evaluation mode: what a model learned from these images has seen them so.

    Args:
        channels: Of an image, 3 or 1.
        size: Height and width of an image, divisible by 4.
        latent_size: How many numbers an image is made of.
        width: Channels of the last hidden map; the maps before it have twice as many.
        grey: Whether all channels of an image are the same, as of a grey picture that a model reads as a coloured one.

    Shape:
        - input: ``(B, latent_size)``.
        - output: ``(B, channels, size, size)``.

    Raises:
        ValueError: a size is not >= 1, or ``size`` is not divisible by 4.

    Source:
        Chen et al. 2019 (DAFL), arXiv:1904.01186, whose authors' code has a width of 64. There batch normalisation adds
        0.8 to the variance of hidden maps; here it is the usual 1e-5.

    Example:
        >>> ImageGenerator(channels=1, size=28, latent_size=100)(torch.randn(2, 100)).shape
        torch.Size([2, 1, 28, 28])
    """

    def __init__(
        self, channels: int = 3, size: int = 32, latent_size: int = 100, width: int = 64, grey: bool = False
    ) -> None:
        super().__init__()
        if min(channels, size, latent_size, width) < 1:
            raise ValueError(
                f"Every size of a generator must be at least 1, got channels={channels}, size={size}, "
                f"latent_size={latent_size}, width={width}."
            )
        if size % 4:
            raise ValueError(
                f"A generator doubles a map twice, so size must be divisible by 4, got {size}: resize the images to "
                f"{size // 4 * 4 + 4} pixels, for teacher, student and evaluation alike."
            )
        self.channels, self.size, self.latent_size, self.width, self.grey = channels, size, latent_size, width, grey
        made = 1 if grey else channels
        self.begin = nn.Linear(latent_size, 2 * width * (size // 4) ** 2)
        self.normalization = _normalization(2 * width)
        self.middle = nn.Sequential(*_layer(2 * width, 2 * width))
        self.end = nn.Sequential(
            *_layer(2 * width, width),
            nn.Conv2d(width, made, kernel_size=3, padding=1),
            nn.Tanh(),
            _normalization(made, affine=False),
        )

    def forward(self, latents: Tensor) -> Tensor:
        side = self.size // 4
        maps = self.normalization(_as_convolutions_like(self.begin(latents).reshape(len(latents), -1, side, side)))
        maps = self.middle(F.interpolate(maps, scale_factor=2.0))
        images = self.end(F.interpolate(maps, scale_factor=2.0))
        return _as_convolutions_like(images.expand(-1, self.channels, -1, -1))

    def __repr__(self) -> str:
        return (
            f"ImageGenerator(channels={self.channels}, size={self.size}, latent_size={self.latent_size}, "
            f"width={self.width}{', grey=True' if self.grey else ''})"
        )


def latent_size_of(generator: nn.Module) -> int:
    """How many numbers a generator makes an image of.

    Raises:
        ValueError: it does not say.
    """
    size: Any = getattr(generator, "latent_size", None)
    if not isinstance(size, int):
        raise ValueError(
            f"The generator, a {type(generator).__name__}, does not say of how many numbers it makes an image: give it "
            "an attribute latent_size, or take an ImageGenerator."
        )
    return size


def _layer(in_channels: int, out_channels: int) -> list[nn.Module]:
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
    return [convolution, _normalization(out_channels), nn.LeakyReLU(0.2)]


def _as_convolutions_like(maps: Tensor) -> Tensor:
    """With the channels of a pixel side by side in memory, which makes a step on a CPU a third faster."""
    return maps.contiguous(memory_format=torch.channels_last)


def _normalization(channels: int, affine: bool = True) -> nn.Module:
    return nn.BatchNorm2d(channels, affine=affine, track_running_stats=False)
