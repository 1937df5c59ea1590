"""Does a teacher see the student's images as it was trained to see images?"""

from __future__ import annotations

from transformers import BaseImageProcessor

from hf_distill.image_input import ImageInput
from hf_distill.image_processors import read_processor

FIELDS = ("do_flip_channel_order", "include_top", "rescale_offset")
"""What else a classifier's image processor may do: swap red and blue, divide by the deviation once more, take off 1."""


def check_normalization(name: str, own: BaseImageProcessor, processing_class: object) -> None:
    """Refuse a teacher that would see images of another size, normalisation or order of colours than in its training.

    Args:
        name: The teacher's.
        own: Its image processor.
        processing_class: The student's, where it has one.

    Raises:
        ValueError: the two differ; the message says what to do.
    """
    if not isinstance(processing_class, BaseImageProcessor):
        return
    its, students = read_processor(own), read_processor(processing_class)
    sizes = {_size(its), _size(students)} - {None}
    if (its.mean, its.std) != (students.mean, students.std) or len(sizes) > 1:
        raise ValueError(
            f"Teacher {name!r} was trained on images of {_words(its)}, and the student reads images of "
            f"{_words(students)}. Pass teacher_model=ImageTeacher(model, student=PROCESSOR), with the student's image "
            "processor, so that each image is made anew for it; or, if it is to see the student's, "
            "ModelTeacher(model, processing_class=PROCESSOR)."
        )
    for field in FIELDS:
        wanted, given = (bool(getattr(processor, field, False)) for processor in (own, processing_class))
        if wanted != given:
            raise ValueError(
                f"Teacher {name!r} was trained on images made with {field}={wanted}, and the student's are made with "
                f"{field}={given}. Make the student's the same way; or, if the teacher is to see them as they are, "
                "pass teacher_model=ModelTeacher(model, processing_class=PROCESSOR), with the student's processor."
            )


def _size(image: ImageInput) -> tuple[int, ...] | None:
    """Height and width that a square picture gets; ``None`` where it keeps its own."""
    return image.crop or (image.size * 2 if len(image.size) == 1 else image.size) or None


def _words(image: ImageInput) -> str:
    size = _size(image)
    pixels = f"{size[0]} x {size[1]} pixels with" if size else "any size with"
    mean, std = (", ".join(f"{value:.3g}" for value in values) for values in (image.mean, image.std))
    return f"{pixels} mean ({mean}) and std ({std})"
