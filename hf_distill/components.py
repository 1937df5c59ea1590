"""The weighted components of the loss, added up between two log entries."""

from __future__ import annotations

import logging
import math

import torch
from accelerate import Accelerator
from torch import Tensor

logger = logging.getLogger(__name__)


class ComponentLog:
    """Adds components up on the device; nothing is copied to the host before they are logged."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._sums: Tensor | None = None
        self._first_step = 0

    def add(self, names: tuple[str, ...], values: Tensor, step: int) -> None:
        """Add the components of one micro-batch.

        Args:
            names: What they are called.
            values: ``(len(names),)``, scaled like the loss.
            step: The optimizer step that they belong to.
        """
        if self._sums is None:
            self._names, self._sums, self._first_step = names, torch.zeros_like(values), step
        self._sums += values

    def drain(self, accelerator: Accelerator, step: int) -> dict[str, float]:
        """The mean of each component over the optimizer steps since the last call, over all processes.

        A component that is not finite is named in a warning.
        """
        if self._sums is None:
            return {}
        steps = max(step - self._first_step, 1)
        means = (accelerator.reduce(self._sums, reduction="mean") / steps).tolist()
        self._sums = None
        components = dict(zip(self._names, means, strict=True))
        for name, value in components.items():
            if not math.isfinite(value):
                logger.warning("The loss component %r is %s at step %d.", name, value, step)
        return components
