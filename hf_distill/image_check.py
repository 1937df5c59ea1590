"""Can a model read images of this size? Asked once, before any training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.trainer_utils import has_length

from hf_distill.randomness import isolated_randomness
from hf_distill.redaction import first_line

MOST_CHANNELS = 4
"""Where the first size is larger, it is no channels: the rows are raw pictures, of which a collator makes images."""


def holds_images(dataset: Any) -> bool:
    """Whether the rows hold images, of channels, height and width, which a collator need only put together."""
    if not (hasattr(dataset, "__getitem__") and has_length(dataset) and len(dataset)):
        return False
    with isolated_randomness():
        row = dataset[0]
    values = row.get("pixel_values") if isinstance(row, Mapping) else None
    shape = np.shape(values) if isinstance(values, (list, tuple, np.ndarray, Tensor)) else ()
    return len(shape) == 3 and shape[0] <= MOST_CHANNELS


def check_student_reads(model: Any, shape: Sequence[int]) -> None:
    """Let a student read a black picture of this size.

    Raises:
        ValueError: it cannot.
    """
    training = model.training
    cure = "Resize and convert the images as the image processor saved with it does, or take another student."
    try:
        model.eval()
        check_readable(model, shape, "The student", cure, lambda images: model(pixel_values=images.to(model.dtype)))
    finally:
        model.train(training)


def check_readable(model: Any, shape: Sequence[int], name: str, cure: str, read: Callable[[Tensor], Any]) -> None:
    """Let a model read a black picture.

    Args:
        model: Whose config says what it was made for.
        shape: Channels, height and width.
        name: What the message calls the model.
        cure: What the message ends with.
        read: Runs the model on a batch.

    Raises:
        ValueError: the model cannot read it.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad(), isolated_randomness():
            read(torch.zeros(1, *shape, device=device))
    except (ValueError, RuntimeError, AssertionError) as error:  # the last from models of timm
        made_for = ", ".join(
            f"{field} {value}"
            for field in ("num_channels", "image_size")
            if (value := getattr(model.config, field, None)) is not None
        )
        channels, height, width = shape
        raise ValueError(
            f"{name} cannot read images of {height} x {width} pixels and {channels} channel{'s' * (channels > 1)}: "
            f"{first_line(error)}. {f'Its config says {made_for}. ' if made_for else ''}{cure}"
        ) from error
