"""Random numbers that are a function: against SplitMix64 on Python's integers, and by chi-square tests."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import chi2_contingency, chisquare

from hf_distill.draws import integer_draws, uniform_draws


class SplitMix64:
    """The generator with its state, as its authors wrote it."""

    def __init__(self, state: int) -> None:
        self.state = state

    def next(self) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2**64
        z = self.state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)


def expected(seed: int, example: int, view: int, count: int) -> list[float]:
    views = SplitMix64(SplitMix64(seed % 2**64).next() ^ example)
    for _ in range(view):
        views.next()
    draws = SplitMix64(views.next())
    return [(draws.next() >> 11) / 2**53 for _ in range(count)]


def examples(count: int, begin: int = 0) -> NDArray[np.uint64]:
    """Neighbours, which is harder than hashes."""
    return np.arange(begin, begin + count, dtype=np.uint64)


def test_the_independent_generator_gives_the_published_numbers() -> None:
    published = SplitMix64(1234567)  # Rosetta Code, "Pseudo-random numbers/Splitmix64"
    assert [published.next() for _ in range(5)] == [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821
    ]  # fmt: skip


@pytest.mark.parametrize(("seed", "view"), [(0, 0), (3, 1), (2**64 - 1, 5), (-1, 5), (2**70 + 7, 300)])
def test_draws_are_those_of_the_generator(seed: int, view: int) -> None:
    hashes = [0, 1, 2**63, 2**64 - 1, 0x123456789ABCDEF0]
    found = uniform_draws(seed, np.array(hashes, dtype=np.uint64), view, 4)
    assert found.tolist() == [expected(seed, example, view, 4) for example in hashes]
    assert found.tolist()[2:3] == uniform_draws(seed, np.array(hashes[2:3], dtype=np.uint64), view, 4).tolist()
    assert found[:, :2].tolist() == uniform_draws(seed, np.array(hashes, dtype=np.uint64), view, 2).tolist()


@pytest.mark.parametrize("one", ["seed", "view", "example", "place"])
def test_draws_are_uniform_along_each_argument(one: str) -> None:
    if one == "seed":
        found = np.concatenate([uniform_draws(seed, examples(1), 0, 1).numpy() for seed in range(10_000)])
    elif one == "view":
        found = np.concatenate([uniform_draws(0, examples(1), view, 1).numpy() for view in range(10_000)])
    elif one == "example":
        found = uniform_draws(0, examples(10_000), 0, 1).numpy()
    else:
        found = uniform_draws(0, examples(1), 0, 10_000).numpy()
    assert found.min() >= 0
    assert found.max() < 1
    assert chisquare(np.histogram(found, bins=100, range=(0, 1))[0]).pvalue > 0.001
    low = (found * 2**53).astype(np.int64) % 64  # the lowest of the 53 bits
    assert chisquare(np.bincount(low.ravel(), minlength=64)).pvalue > 0.001


def test_neighbours_are_independent() -> None:
    """Neighbouring seeds, views, examples and places: no pair of them says anything about the other."""
    count = 10_000
    streams = {
        "here": uniform_draws(0, examples(count), 0, 2)[:, 0],
        "next place": uniform_draws(0, examples(count), 0, 2)[:, 1],
        "next view": uniform_draws(0, examples(count), 1, 1)[:, 0],
        "next seed": uniform_draws(1, examples(count), 0, 1)[:, 0],
        "next example": uniform_draws(0, examples(count, begin=1), 0, 1)[:, 0],
    }
    for one, other in itertools.combinations(streams, 2):
        table = np.histogram2d(streams[one], streams[other], bins=10, range=[(0, 1), (0, 1)])[0]
        assert chi2_contingency(table).pvalue > 0.001, (one, other)


@pytest.mark.parametrize("state", [0, 1, 2**62 - 1, -5])
def test_whole_numbers_are_those_of_the_same_generator(state: int) -> None:
    ids = [0, 1, 49_999, 2**40, -3]
    for below in (2**53, 49_999):
        found = integer_draws(torch.tensor(state), torch.tensor(ids), count=6, below=below)
        assert found.tolist() == [
            [int(draw * 2**53) % below for draw in expected(state, example % 2**64, view=0, count=6)] for example in ids
        ]
