"""Weights that come back from a checkpoint under the names that they have in the model."""

from __future__ import annotations

import logging
from pathlib import Path

from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel

logger = logging.getLogger(__name__)


def restore_renamed(model: nn.Module, folder: str | Path) -> None:
    """Load a checkpoint's weights through the model's own class where the file has names that the model has not.

    ``save_pretrained`` writes the weights of a ViT, among others, under the names of earlier versions, and
    ``from_pretrained`` translates them back. ``Trainer`` reads the file by itself: it only warns of missing keys, and
    would go on with the weights that are there.

    Args:
        model: The student, with what ``Trainer`` has loaded into it.
        folder: The checkpoint.
    """
    if not isinstance(model, PreTrainedModel):
        return
    names: set[str] = set()
    for file in Path(folder).glob("model*.safetensors"):
        with safe_open(file, "pt") as saved:
            names.update(saved.keys())
    if names - model.state_dict().keys():
        model.load_state_dict(type(model).from_pretrained(folder, dtype=model.dtype).state_dict())
        logger.warning(
            "What Trainer said of missing keys is settled: the weights in %s were loaded under the names that %s has.",
            folder, type(model).__name__,
        )  # fmt: skip
