"""The config says what a VGG is made of, and refuses what cannot be built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from hf_distill import VGGConfig

CONFIGS = [VGGConfig.vgg8, VGGConfig.vgg11, VGGConfig.vgg13, VGGConfig.vgg16, VGGConfig.vgg19]


@pytest.mark.parametrize(("make", "layers"), list(zip(CONFIGS, (8, 11, 13, 16, 19), strict=True)))
def test_the_number_counts_the_layers_with_weights_in_the_form_with_three_linear_layers(make: Any, layers: int) -> None:
    config = make(imagenet=True)
    # VGG-8 has its name from the small form without hidden linear layers, and five convolutions: 5 + 3.
    assert sum(config.depths) + len(config.head_sizes) + 1 == layers
    assert make().depths == config.depths
    assert (make().image_size, config.image_size) == (32, 224)


def test_a_config_survives_saving(tmp_path: Path) -> None:
    config = VGGConfig.vgg11(
        imagenet=True, width=0.25, batch_norm=False, id2label={0: "cat", 1: "dog"}, head_dropout=0.1
    )
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(again, VGGConfig)
    for name in (
        "hidden_sizes",
        "depths",
        "batch_norm",
        "num_pooled_blocks",
        "head_pool_size",
        "head_sizes",
        "id2label",
    ):
        assert getattr(again, name) == getattr(config, name)
    assert again.hidden_sizes == [16, 32, 64, 128, 128]
    assert again.head_sizes == [1024, 1024]
    assert (again.head_dropout, again.num_labels) == (0.1, 2)


def test_an_argument_wins_over_the_form() -> None:
    config = VGGConfig.vgg8(hidden_sizes=[1, 2, 3, 4, 5], imagenet=True, image_size=64)
    assert (config.hidden_sizes, config.image_size, config.num_pooled_blocks) == ([1, 2, 3, 4, 5], 64, 5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hidden_sizes": [8, 8]}, r"needs a width and a depth, got hidden_sizes=\[8, 8\] and depths="),
        ({"hidden_sizes": [], "depths": []}, "needs a width and a depth"),
        ({"depths": [1, 1, 0, 1, 1]}, "at least 1"),
        ({"head_pool_size": 0}, "at least 1"),
        ({"num_channels": 0}, "at least 1"),
        ({"head_sizes": [0]}, "at least 1"),
        ({"num_pooled_blocks": 6}, "give 0 to 5"),
        ({"head_dropout": 1.0}, "below 1, got 1.0"),
    ],
)
def test_what_cannot_be_built(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VGGConfig(**wrong)


def test_a_width_that_leaves_no_channel() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        VGGConfig.vgg8(width=0.001)
