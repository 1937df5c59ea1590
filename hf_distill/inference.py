"""A model that only answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def running(model: nn.Module, device: torch.device | str | None = None) -> Iterator[torch.device]:
    """Evaluation mode on a device, without gradient; afterwards the model is in the mode and place it was in.

    The autocast that accelerate leaves around a model trained in bf16 is taken off, so that a model answers in the same
    precision whether it was just trained or loaded from the disk.
    """
    wrapper = {
        name: vars(model).pop(name) for name in ("forward", "_original_forward") if "_original_forward" in vars(model)
    }
    modes = {module: module.training for module in model.modules()}
    home = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    where = torch.device(device) if device is not None else home
    model.eval().to(where)
    try:
        with torch.inference_mode():
            yield where
    finally:
        vars(model).update(wrapper)
        model.to(home)
        for module, training in modes.items():
            module.training = training
