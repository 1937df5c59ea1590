"""One tiny image classifier of each family, with an image processor of the kind that its checkpoints have."""

from __future__ import annotations

from typing import Any

import tiny
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextImageProcessorPil,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    MobileNetV2ImageProcessorPil,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
    set_seed,
)

COLOURS = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
FAMILIES = ("resnet", "convnext", "mobilenet", "vit", "vgg")


def model(family: str, size: int, seed: int = 0, labels: int = 3, channels: int = 3) -> PreTrainedModel:
    """A model for images of this size; that of a ViT is fixed."""
    set_seed(seed)
    common: dict[str, Any] = {"num_labels": labels, "num_channels": channels}
    if family == "resnet":
        config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", **common)
        return ResNetForImageClassification(config)
    if family == "convnext":
        return ConvNextForImageClassification(
            ConvNextConfig(hidden_sizes=[4, 4, 8, 8], depths=[1] * 4, patch_size=2, image_size=size, **common)
        )
    if family == "mobilenet":
        config = MobileNetV2Config(depth_multiplier=0.1, min_depth=2, depth_divisible_by=2, image_size=size, **common)
        return MobileNetV2ForImageClassification(config)
    if family == "vgg":
        return tiny.vgg(seed=seed, labels=labels, num_channels=channels)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=size, patch_size=4,
        **common,
    )  # fmt: skip
    return ViTForImageClassification(config)


def processor(family: str, size: int) -> Any:
    """What makes images of this size, in the way of the family."""
    if family in ("resnet", "convnext"):
        return ConvNextImageProcessorPil(size={"shortest_edge": size}, **COLOURS)  # zooms in by 8/7, bicubic
    if family == "mobilenet":
        crop = {"height": size, "width": size}
        return MobileNetV2ImageProcessorPil(size={"shortest_edge": size + 4}, crop_size=crop)
    return ViTImageProcessorPil(size={"height": size, "width": size}, image_mean=[0.5, 0.4, 0.3], image_std=[0.3] * 3)
