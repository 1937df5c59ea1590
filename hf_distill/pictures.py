"""Pictures as files hold them."""

from __future__ import annotations

from PIL import Image, ImageOps

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
