"""Uniform pairs against the layer maps that the TinyBERT paper and DistilBERT use, and by hand where those end."""

from __future__ import annotations

import pytest

from hf_distill import Pair, uniform_pairs


@pytest.mark.parametrize(
    ("student", "teacher", "layers"),
    [
        (4, 12, [2, 5, 8, 11]),  # TinyBERT-4: g(k) = 3 k, counted from 1
        (6, 12, [1, 3, 5, 7, 9, 11]),  # TinyBERT-6: g(k) = 2 k
        (3, 3, [0, 1, 2]),
        (4, 6, [1, 2, 4, 5]),  # by hand: 1.5, 3, 4.5, 6, rounded up
        (6, 4, [0, 1, 1, 2, 3, 3]),  # by hand: 0.67, 1.33, 2, 2.67, 3.33, 4, rounded up
        (1, 12, [11]),
    ],
)
def test_layers_are_spread_evenly_and_the_last_meet(student: int, teacher: int, layers: list[int]) -> None:
    pairs = uniform_pairs("s.{}", "t.{}.out", student, teacher)
    assert pairs == [Pair(f"s.{k}", f"t.{layer}.out") for k, layer in enumerate(layers)]


@pytest.mark.parametrize("path", ["bert.encoder.layer", "a.{}.b.{}"])
def test_a_path_needs_one_place_for_the_number(path: str) -> None:
    with pytest.raises(ValueError, match=r"needs one \{\}"):
        uniform_pairs(path, "t.{}", 2, 4)
    with pytest.raises(ValueError, match=r"needs one \{\}"):
        uniform_pairs("s.{}", path, 2, 4)


def test_both_need_layers() -> None:
    with pytest.raises(ValueError, match="at least 1 layer, got 2 and 0"):
        uniform_pairs("s.{}", "t.{}", 2, 0)
