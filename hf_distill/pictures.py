"""Pictures as files hold them."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

EIGHT_BITS = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}


def upright(picture: Image.Image) -> Image.Image:
    """A picture as its camera was held.

    Raises:
        ValueError: it has more than 8 bits a channel, which would be cut off, not scaled.
    """
    turned: Image.Image = ImageOps.exif_transpose(picture)
    if turned.mode not in EIGHT_BITS:
        raise ValueError(f"it has more than 8 bits a channel (mode {turned.mode}), convert it to 8")
    return turned


def picture_grid(images: Tensor, columns: int = 8, scale: int = 1) -> Image.Image:
    """Images side by side and below each other, a white line between them.

    Args:
        images: ``(B, C, H, W)`` with 1 channel or 3; from 0 to 1, what goes beyond is cut off.
        columns: How many stand side by side.
        scale: So many pixels high and wide each of theirs becomes.

    Example:
        >>> picture_grid(torch.zeros(6, 1, 8, 8), columns=3).size
        (28, 19)
    """
    rows = -(-len(images) // columns)
    enlarged = images.clamp(0, 1).repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    framed = F.pad(enlarged, (0, 1, 0, 1), value=1.0)
    _, channels, height, width = framed.shape
    white = framed.new_ones(rows * columns - len(images), channels, height, width)
    cells = torch.cat([framed, white]).reshape(rows, columns, channels, height, width)
    whole = F.pad(
        cells.permute(2, 0, 3, 1, 4).reshape(channels, rows * height, columns * width), (1, 0, 1, 0), value=1.0
    )
    pixels = (whole * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(pixels.squeeze(-1) if channels == 1 else pixels))
