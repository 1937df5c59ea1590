"""Drawing without moving the random number generators that the training draws from."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def isolated_randomness() -> Iterator[None]:
    """Whatever is drawn inside, on the CPU and on this process's GPU, leaves the generators as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    gpu = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(gpu):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Whatever is drawn on the CPU inside depends on the seed alone, and leaves the generators as they were.

    Generators of other devices are not touched, so that this works in data workers too.
    """
    python, numpy, ours = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(ours)
