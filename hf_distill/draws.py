"""Random numbers that are a function of what they are for, and of nothing that was drawn before them."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Words: TypeAlias = "NDArray[np.uint64]"

GOLDEN = 0x9E3779B97F4A7C15


def uniform_draws(seed: int, examples: Words, view: int, count: int) -> Tensor:
    """Numbers from 0 to 1, of each example its own, the same whenever and wherever they are asked for.

    The seed begins a SplitMix64 sequence. Its first number, xor the example, begins another; of that one the number at
    the place ``view`` begins the sequence that is returned. Each step is a bijection of 64-bit words that changes half
    of the bits where one changes, so that neighbouring seeds, views and examples have nothing in common.

    Args:
        seed: Any integer; what it has beyond 64 bits does not count.
        examples: ``(B,)``, a hash of each example.
        view: Which of an example's views, from 0.
        count: How many numbers an example.

    Returns:
        ``(B, count)`` float64, >= 0 and < 1, multiples of 2⁻⁵³. The first numbers do not depend on ``count``.

    Source:
        Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", section 4.

    Example:
        >>> examples = np.array([7, 8], dtype=np.uint64)
        >>> uniform_draws(seed=0, examples=examples, view=3, count=2).shape
        torch.Size([2, 2])
    """
    own = examples ^ _nth(np.array([seed % 2**64], dtype=np.uint64), 0)
    words = _nth(_nth(own, view)[:, None], np.arange(count, dtype=np.uint64))
    return torch.from_numpy((words >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def integer_draws(state: Tensor, examples: Tensor, count: int, below: int) -> Tensor:
    """Whole numbers of each example its own, as :func:`uniform_draws` would draw, on the device where the examples are.

    Args:
        state: A whole number as a tensor, in the place of the seed. Add 1 for other numbers.
        examples: ``(B,)`` whole numbers, by which examples are known.
        count: How many numbers an example.
        below: One more than the largest, at most 2⁵³; far smaller for numbers that are equally likely.

    Returns:
        ``(B, count)`` int64, >= 0: with ``view=0`` of :func:`uniform_draws`, times 2⁵³, modulo ``below``.

    Example:
        >>> integer_draws(torch.tensor(0), torch.tensor([7, 8]), count=2, below=10).shape
        torch.Size([2, 2])
    """
    own = examples ^ _nth_tensor(state, torch.zeros_like(state))
    places = torch.arange(count, device=examples.device)
    words = _nth_tensor(_nth_tensor(own, torch.zeros_like(own))[:, None], places)
    return _shifted(words, 11).remainder(below)


def _nth_tensor(begin: Tensor, place: Tensor) -> Tensor:
    """As :func:`_nth`, in int64, which wraps round in the same way."""
    mixed = begin + (place + 1) * _signed(GOLDEN)
    mixed = (mixed ^ _shifted(mixed, 30)) * _signed(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ _shifted(mixed, 27)) * _signed(0x94D049BB133111EB)
    return mixed ^ _shifted(mixed, 31)


def _shifted(words: Tensor, bits: int) -> Tensor:
    """To the right, with zeros from the left also where the sign is negative."""
    return words.bitwise_right_shift(bits).bitwise_and(2 ** (64 - bits) - 1)


def _signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word


def _nth(begin: Words, place: int | NDArray[Any]) -> Words:
    """The number at a place, from 0, of the SplitMix64 sequence that begins in a state."""
    mixed = begin + (np.asarray(place, dtype=np.uint64) + np.uint64(1)) * np.array([GOLDEN], dtype=np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))
