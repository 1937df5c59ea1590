"""An image classifier as teacher that was trained on images of another size or normalisation than the student's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BaseImageProcessor, PreTrainedConfig, PreTrainedModel

from hf_distill.augmentation import ImageTransform
from hf_distill.image_processors import find_image_processor, image_conversion, read_processor
from hf_distill.teachers.model import ModelTeacher, public_name
from hf_distill.views import ModelView


class ImageTeacher(ModelTeacher):
    """An image classifier that sees the student's images as its own image processor would show them.

    They are made of the student's batch, on the device: normalisation undone, resized, cut out, normalised anew. So
    the teacher judges the same crop, flip and colours, the data set needs no second column, and answers can be kept
    as those of any teacher.

    Args:
        model: The model, a name on the Hub, or a folder.
        student: What makes the student's images: its image processor, or an
            :class:`~hf_distill.augmentation.ImageTransform`.
        processor: The teacher's own image processor; the one saved with a model given by name if left out.
        dtype: As in :class:`ModelTeacher`.
        trust_remote_code: Likewise.

    Attributes:
        conversion: From the student's images to the teacher's.

    Raises:
        ValueError: there is no image processor, or it does more than to resize, cut out the middle and normalise; or
            as in :class:`ModelTeacher`.
        FileNotFoundError: there is no such model.

    Example:
        >>> from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil
        >>> config = ViTConfig(image_size=8, patch_size=4, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
        >>> large, small = (ViTImageProcessorPil(size={"height": size, "width": size}) for size in (8, 4))
        >>> teacher = ImageTeacher(ViTForImageClassification(config), student=small, processor=large)
        >>> teacher({"pixel_values": torch.zeros(1, 3, 4, 4)}).logits.shape
        torch.Size([1, 2])
    """

    _cure = "Give the image processor that it was trained with: ImageTeacher(model, student=..., processor=PROCESSOR)."

    def __init__(
        self,
        model: PreTrainedModel | str | Path,
        student: BaseImageProcessor | ImageTransform,
        processor: BaseImageProcessor | None = None,
        dtype: torch.dtype | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        if processor is None and isinstance(model, (str, Path)):
            processor = find_image_processor(str(model), trust_remote_code)
        if processor is None:
            name = public_name(str(model)) if isinstance(model, (str, Path)) else type(model).__name__
            raise ValueError(
                f"No image processor was saved with {name}: give the one that it was trained with, "
                "ImageTeacher(model, student=..., processor=PROCESSOR)."
            )
        super().__init__(model, processor, dtype=dtype, trust_remote_code=trust_remote_code)
        self.conversion = image_conversion(student, processor)

    def __call__(self, inputs: Mapping[str, Any]) -> ModelView:
        own: Tensor = self.conversion(inputs["pixel_values"])
        return super().__call__({**inputs, "pixel_values": own})

    def fingerprint(self) -> dict[str, str]:
        return {**super().fingerprint(), "images": str(self.conversion)}

    def images(self) -> list[dict[str, Any]]:
        return [{"mean": list(self.conversion.mean), "std": list(self.conversion.std), "size": []}]

    def check_student(self, config: PreTrainedConfig, processing_class: object) -> None:
        if not isinstance(processing_class, BaseImageProcessor):
            return
        students = read_processor(processing_class)
        given = self.conversion.mean, self.conversion.std
        if given != (students.mean, students.std):
            raise ValueError(
                f"Teacher {self.name!r} takes the student's images as normalised by mean and std {given}, and the "
                f"trainer's processing_class has {(students.mean, students.std)}: pass the same as student=."
            )
