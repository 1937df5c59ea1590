"""What is different about models of timm, which transformers calls ``timm_wrapper``."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import BaseImageProcessor, PreTrainedConfig

TIMM = "timm_wrapper"
IMAGES = "pretrained_cfg"
"""Where their ``config.json`` says how images are to be made, in place of a file of its own."""


def makes_images_of_timm(processor: object) -> bool:
    """Whether this is their image processor, which has the transforms of torchvision in place of the usual fields."""
    return hasattr(processor, "data_config")


def image_channels(config: Any) -> int:
    """How many channels the images of any model have: 3 for colour, 1 for grey.

    Example:
        >>> from transformers import TimmWrapperConfig
        >>> image_channels(TimmWrapperConfig()), image_channels(TimmWrapperConfig(model_args={"in_chans": 1}))
        (3, 1)
    """
    arguments = getattr(config, "model_args", None) or {}
    return int(getattr(config, "num_channels", None) or arguments.get("in_chans", 3))


def correct_config(config: PreTrainedConfig, processing_class: object) -> None:
    """Let the config of a model of timm say what is true of it after its training; any other stays as it is.

    transformers 5.23 saves the class names that such a config was loaded with, ``label_names``, whatever ``id2label``
    has become, so that the saved model comes back with the old classes. And from a folder it makes the images as
    ``pretrained_cfg`` says, though another image processor was saved there; so that goes, unless it is the one.

    Args:
        config: Of the model that is trained; changed in place.
        processing_class: What makes its images, if that is known.
    """
    if config.model_type != TIMM:
        return
    if hasattr(config, "label_names"):
        config.label_names = [config.id2label[index] for index in range(config.num_labels)]
    foreign = isinstance(processing_class, BaseImageProcessor) and not makes_images_of_timm(processing_class)
    if foreign and hasattr(config, IMAGES):
        delattr(config, IMAGES)


def renew_head(body: nn.Module, classes: int) -> bool:
    """Give a model of timm a new head, at random; do nothing with any other. Returns whether it has one now.

    Their body holds the head, so that a new one does not come from leaving the body alone.
    """
    reset: Any = getattr(body, "reset_classifier", None)
    if reset is None:
        return False
    reset(classes)
    return True
