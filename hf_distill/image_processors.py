"""What an image processor makes of a picture, read from its fields and tried."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, BaseImageProcessor

from hf_distill.augmentation import ImageTransform
from hf_distill.image_input import MODES, ImageConversion, ImageInput, TorchvisionInput, by_channel
from hf_distill.timm_models import makes_images_of_timm

logger = logging.getLogger(__name__)

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")

LEVELS = 2
"""By so many of 256 levels a pixel may differ from the processor's: Pillow rounds to whole ones, twice."""

WARPED_FROM = 384
"""From this size on the processor of ConvNext and ResNet resizes without cutting anything off."""


def image_conversion(given: Any, processor: Any) -> ImageConversion:
    """From the images that a student reads to those that a teacher's processor makes of the same picture.

    Args:
        given: What makes the student's: an image processor, or an
            :class:`~hf_distill.augmentation.ImageTransform`.
        processor: The teacher's image processor.

    Raises:
        ValueError: the processor does something that is not known here.
        TypeError: ``given`` is neither.
    """
    if not isinstance(given, (ImageTransform, BaseImageProcessor)):
        raise TypeError(
            "What makes the student's images must be its image processor or an ImageTransform, got "
            f"{type(given).__name__}."
        )
    known = given if isinstance(given, ImageTransform) else read_processor(given)
    return ImageConversion(tuple(known.mean), tuple(known.std), exact_input(processor))


def read_processor(processor: Any) -> ImageInput:
    """What the fields of an image processor say; it may do more than that, see :func:`exact_input`."""
    if makes_images_of_timm(processor):
        timm: dict[str, Any] = processor.data_config
        crop = tuple(timm["input_size"][1:])
        size = tuple(int(side / timm["crop_pct"]) for side in crop)
        size = size if timm["crop_mode"] == "squash" else (min(size),)
        return TorchvisionInput(tuple(timm["mean"]), tuple(timm["std"]), size, crop, timm["interpolation"])
    size = _sides(processor, "size") if getattr(processor, "do_resize", False) else ()
    crop = _sides(processor, "crop_size") if getattr(processor, "do_center_crop", False) else ()
    if (share := getattr(processor, "crop_pct", None)) and len(size) == 1:
        crop = size * 2
        size = (int(size[0] / share),) if size[0] < WARPED_FROM else crop
    scale = 255 * (processor.rescale_factor if getattr(processor, "do_rescale", False) else 1)
    normalizes = getattr(processor, "do_normalize", False)
    mean, std = (_numbers(getattr(processor, name)) if normalizes else () for name in ("image_mean", "image_std"))
    if abs(scale - 1) > 1e-9:
        mean, std = (tuple(value / scale for value in values) for values in (mean or (0.0,), std or (1.0,)))
    resample = getattr(processor, "resample", None)
    resample = Image.Resampling.BILINEAR if resample is None else resample
    name = Image.Resampling(resample).name if isinstance(resample, int) else str(getattr(resample, "value", resample))
    return ImageInput(mean or (0.0,), std or (1.0,), size, crop, name.lower())


def exact_input(processor: Any) -> ImageInput:
    """What an image processor makes of pictures, tried on one.

    Raises:
        ValueError: the processor does something else than its fields say, or resizes in a way that PyTorch has not.
    """
    name = type(processor).__name__
    cure = (
        "Pass a processor that only resizes, cuts out the middle and normalises, such as ViTImageProcessor(size=..., "
        "image_mean=..., image_std=...), with the size and normalisation that the model was trained with."
    )
    wanted = read_processor(processor)
    if wanted.resample not in MODES:
        raise ValueError(f"The {name} resizes by {wanted.resample}, where {' and '.join(MODES)} are known. {cure}")
    grey = len(wanted.mean) == 1 and getattr(processor, "do_normalize", False)
    pixels = np.random.default_rng(0).integers(64, 192, (40, 48, 1 if grey else 3), dtype=np.uint8)
    expected = processor(Image.fromarray(pixels.squeeze(2) if grey else pixels), return_tensors="pt")["pixel_values"]
    made = wanted(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
    if made.shape != expected.shape or not _within_rounding(made, expected, wanted.std):
        raise ValueError(
            f"The {name} does more with a picture than its size, crop_size, mean and std say, which cannot be repeated "
            f"on batches of images. {cure}"
        )
    return wanted


def find_image_processor(name: str, trust_remote_code: bool = False) -> BaseImageProcessor | None:
    """The image processor saved with a model, or ``None``, with a warning for the Hub's, where none is found.

    Raises:
        OSError, ValueError, ImportError: there is one, but it cannot be loaded.
    """
    try:
        return AutoImageProcessor.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError):
        if any((Path(name) / file).is_file() for file in PROCESSOR_FILES):
            raise
        if not Path(name).is_dir():
            logger.warning(
                "No image processor of %s is found on the Hub or in the local cache. It is taken to read images as the "
                "student does.", name,
            )  # fmt: skip
        return None


def _numbers(value: Any) -> tuple[float, ...]:
    return tuple(map(float, value)) if isinstance(value, Sequence) else (float(value),)


def _sides(processor: Any, field: str) -> tuple[int, ...]:
    """Height and width, or the shorter of them."""
    found: Any = getattr(processor, field, None)
    sides = {"height": found, "width": found} if isinstance(found, int) else dict(found or {})
    edge = sides.get("shortest_edge")
    return (edge,) if edge else (sides["height"], sides["width"]) if sides.get("height") else ()


def _within_rounding(made: Tensor, expected: Tensor, std: tuple[float, ...]) -> bool:
    return bool(((made - expected).abs() * by_channel(std, made) * 255).max() <= LEVELS)
