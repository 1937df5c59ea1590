"""Noise to learn from where there is no data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from hf_distill.draws import uniform_draws
from hf_distill.epochs import EpochDataset

Collator: TypeAlias = Callable[[list[Any]], dict[str, Any]]

LATENTS = "latents"
"""The column, and the key of a batch, under which latent vectors stand."""


class Noise(EpochDataset):
    """Rows of standard normal numbers, other ones in each epoch, that depend on seed, row and epoch alone.

    Not on the batch that a row is in, the order, the process or what was drawn before: a training that is resumed
    anywhere sees what it would have seen. No row comes twice, so a teacher's answers to them cannot be kept.

    Args:
        shape: Of a row: ``(latent_size,)`` for a generator, channels, height and width for images of noise.
        rows: How many an epoch has.
        column: What they are called: ``pixel_values`` for images of noise.
        seed: Another seed, other numbers.

    Raises:
        ValueError: ``rows`` or a size is not >= 1.

    Example:
        >>> latents = Noise((100,), rows=60_000)
        >>> len(latents), latents[0]["latents"].shape
        (60000, torch.Size([100]))
    """

    count = None
    """Of how many epochs there are, as for views of images: there is no end of them."""

    def __init__(self, shape: Sequence[int], rows: int, column: str = LATENTS, seed: int = 0) -> None:
        super().__init__()
        if min(*shape, rows) < 1:
            raise ValueError(f"Every size, and rows, must be at least 1, got shape={tuple(shape)}, rows={rows}.")
        self.shape, self.rows, self.column, self.seed = tuple(shape), rows, column, seed

    def for_training(self, seed: int) -> Noise:
        return Noise(self.shape, self.rows, self.column, seed)

    def describe(self) -> dict[str, Any]:
        return {"shape": self.shape, "rows": self.rows, "column": self.column, "seed": self.seed}

    def __len__(self) -> int:
        return self.rows

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Tensor]]:
        if not 0 <= min(indices) <= max(indices) < self.rows:
            raise IndexError(f"Rows {min(indices)} to {max(indices)} of {self.rows}.")
        numbers = np.asarray(indices, dtype=np.uint64)
        uniform = uniform_draws(self.seed, numbers, self.epoch, math.prod(self.shape))
        normal = torch.special.ndtri(uniform.clamp_min(2.0**-54)).float()  # 0 would become minus infinity
        return [{self.column: row} for row in normal.reshape(-1, *self.shape)]

    def __repr__(self) -> str:
        return f"Noise(shape={self.shape}, rows={self.rows}, column={self.column!r}, seed={self.seed})"


class LatentCollator:
    """Stacks latent vectors; all other rows go to the collator that was given.

    Args:
        collator: For images.
    """

    def __init__(self, collator: Collator) -> None:
        self.collator = collator

    def __call__(self, rows: list[Any]) -> dict[str, Any]:
        if LATENTS in rows[0]:
            return {LATENTS: torch.stack([row[LATENTS] for row in rows])}
        return self.collator(rows)
