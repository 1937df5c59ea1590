"""The image processors of transformers, which work on bytes one by one, are the independent implementation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import image_models
import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers import BaseImageProcessor, BatchFeature, ViTImageProcessorPil

from hf_distill.augmentation import ImageTransform
from hf_distill.image_input import ImageInput, TorchvisionInput
from hf_distill.image_processors import exact_input, find_image_processor, image_conversion, read_processor

PROCESSORS = {
    "vit": lambda: ViTImageProcessorPil(size={"height": 20, "width": 28}),
    "convnext": lambda: image_models.processor("convnext", 28),
    "convnext, large": lambda: image_models.processor("convnext", 384),
    "mobilenet": lambda: image_models.processor("mobilenet", 24),
    "dinov2": lambda: transformers.BitImageProcessorPil(size={"shortest_edge": 36}, crop_size=32),
    "deit": lambda: transformers.DeiTImageProcessorPil(size={"height": 21, "width": 21}, crop_size=16),
    "no resizing": lambda: ViTImageProcessorPil(do_resize=False, do_center_crop=True, crop_size=24),
    "no normalisation": lambda: ViTImageProcessorPil(size={"height": 9, "width": 9}, do_normalize=False),
    "bytes": lambda: ViTImageProcessorPil(do_rescale=False, image_mean=[120.0] * 3, image_std=[60.0] * 3),
}


def drawn(height: int, width: int) -> np.ndarray[Any, Any]:
    """Stripes, gradients and some noise, neither black nor white."""
    rows, columns = np.mgrid[:height, :width]
    noise = np.random.default_rng(1).integers(60, 80, (height, width, 3))
    picture = np.stack([rows * 110 // height, columns * 110 // width, 110 * (columns // 3 % 2)], axis=-1) + noise
    return picture.astype(np.uint8)


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("shape", [(32, 32), (45, 30)])
def test_batches_are_made_as_the_processor_makes_a_picture(name: str, shape: tuple[int, int]) -> None:
    processor, pixels = PROCESSORS[name](), drawn(*shape)
    wanted = exact_input(processor)
    expected = processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"]
    made = wanted(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
    assert made.shape == expected.shape
    assert tuple(made.shape[2:]) == wanted.output_size(*shape)
    levels = (made - expected).abs() * torch.tensor(wanted.std).reshape(-1, 1, 1) * 255
    assert levels.max() <= 2, "Pillow rounds to whole levels after each direction"
    assert levels.mean() < 0.5


def test_a_grey_processor() -> None:
    processor = ViTImageProcessorPil(size={"height": 9, "width": 9}, image_mean=[0.2], image_std=[0.4])
    assert exact_input(processor) == ImageInput((0.2,), (0.4,), (9, 9))


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        (transformers.MobileViTImageProcessorPil, "MobileViTImageProcessorPil does more with a picture than its size"),
        (lambda: ViTImageProcessorPil(resample=1), "resizes by lanczos, where bilinear and bicubic are known"),
    ],
)
def test_a_processor_that_does_more_is_refused(processor: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        exact_input(processor())


class TimmProcessor(BaseImageProcessor):
    """The fields and the call of the processor of ``timm_wrapper``, as transformers 5.23 has it; timm is not there.

    torchvision, which does it there, rounds halves of a pixel to even ones; the real one is in ``test_timm_models.py``.
    """

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        self.data_config = {
            "input_size": (3, 24, 24), "interpolation": "bicubic", "mean": (0.5,) * 3, "std": (0.25,) * 3,
            "crop_pct": 0.9, "crop_mode": "center", **changes,
        }  # fmt: skip

    def __call__(self, images: Any, return_tensors: str) -> BatchFeature:
        shorter = int(24 / 0.9)
        scale = shorter / min(images.size)
        small = images.resize((int(images.width * scale), int(images.height * scale)), Image.Resampling.BICUBIC)
        left, top = round((small.width - 24) / 2), round((small.height - 24) / 2)
        array = np.asarray(small.crop((left, top, left + 24, top + 24))) / 255
        return BatchFeature({"pixel_values": torch.from_numpy((array - 0.5) / 0.25).permute(2, 0, 1)[None]})


def test_the_fields_of_timm() -> None:
    assert exact_input(TimmProcessor()) == TorchvisionInput((0.5,) * 3, (0.25,) * 3, (26,), (24, 24), "bicubic")
    assert read_processor(TimmProcessor(crop_mode="squash")).size == (26, 26)
    with pytest.raises(ValueError, match="TimmProcessor does more with a picture"):
        exact_input(TimmProcessor(crop_mode="squash"))  # says so, and does not do it


def test_students_images_are_known_by_their_transform_or_their_processor() -> None:
    processor, own = ViTImageProcessorPil(image_mean=[0.1, 0.2, 0.3]), image_models.processor("vit", 8)
    transform = ImageTransform((3, 8, 8), (0.1, 0.2, 0.3), (0.5,) * 3)
    assert image_conversion(transform, own) == image_conversion(processor, own)
    with pytest.raises(TypeError, match="must be its image processor or an ImageTransform, got str"):
        image_conversion("org/model", own)


def test_a_saved_processor_is_found(tmp_path: Path) -> None:
    assert find_image_processor(str(tmp_path)) is None
    image_models.processor("mobilenet", 12).save_pretrained(tmp_path)
    assert read_processor(find_image_processor(str(tmp_path))).crop == (12, 12)


def test_a_saved_processor_that_cannot_be_loaded_is_not_taken_for_none(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text('{"image_processor_type": "NoSuchProcessor"}')
    with pytest.raises((ValueError, OSError)):
        find_image_processor(str(tmp_path))
