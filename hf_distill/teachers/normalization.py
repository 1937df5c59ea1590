"""Does a teacher see the student's images as it was trained to see images?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import BaseImageProcessor

from hf_distill.image_processors import read_processor

FIELDS = ("do_flip_channel_order", "include_top", "rescale_offset")
"""What else a classifier's image processor may do: swap red and blue, divide by the deviation once more, take off 1."""


def normalization(processor: BaseImageProcessor) -> dict[str, Any]:
    """The mean, std and size of the images that an image processor makes, and what else it does, as plain data."""
    made = read_processor(processor)
    size = made.crop or (made.size * 2 if len(made.size) == 1 else made.size)
    more = {field: bool(getattr(processor, field, False)) for field in FIELDS}
    return {"mean": list(made.mean), "std": list(made.std), "size": list(size), **more}


def check_normalization(name: str, its: Mapping[str, Any], processing_class: object) -> None:
    """Refuse a teacher that would see images of another size, normalisation or order of colours than in its training.

    Args:
        name: The teacher's.
        its: What :func:`normalization` says of its image processor; the size, of a square picture, is empty where that
            is not known.
        processing_class: The student's, where it has one.

    Raises:
        ValueError: the two differ; the message says what to do.
    """
    if not isinstance(processing_class, BaseImageProcessor):
        return
    students = normalization(processing_class)
    resized = its["size"] and students["size"] and its["size"] != students["size"]
    if (its["mean"], its["std"]) != (students["mean"], students["std"]) or resized:
        raise ValueError(
            f"Teacher {name!r} was trained on images of {_words(its)}, and the student reads images of "
            f"{_words(students)}. Pass teacher_model=ImageTeacher(model, student=PROCESSOR), with the student's image "
            "processor, so that each image is made anew for it; or, if it is to see the student's, "
            "ModelTeacher(model, processing_class=PROCESSOR)."
        )
    for field in FIELDS:
        wanted, given = its.get(field, students[field]), students[field]
        if wanted != given:
            raise ValueError(
                f"Teacher {name!r} was trained on images made with {field}={wanted}, and the student's are made with "
                f"{field}={given}. Make the student's the same way; or, if the teacher is to see them as they are, "
                "pass teacher_model=ModelTeacher(model, processing_class=PROCESSOR), with the student's processor."
            )


def _words(image: Mapping[str, Any]) -> str:
    pixels = f"{image['size'][0]} x {image['size'][1]} pixels with" if image["size"] else "any size with"
    mean, std = (", ".join(f"{value:.3g}" for value in image[name]) for name in ("mean", "std"))
    return f"{pixels} mean ({mean}) and std ({std})"
