"""Expected values: the formulas in plain numpy, gradients by central differences of them, or by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from finite_differences import check_value_and_gradient
from numpy.typing import NDArray
from torch import Tensor

from hf_distill.fusion import ReviewFusion

Array = NDArray[np.float64]
STUDENT = [(2, 2, 3, 4), (2, 2, 2, 3), (2, 3, 1, 1)]  # of no common ratio
TEACHER = [(2, 2, 4, 4), (2, 3, 2, 3), (2, 2, 1, 1)]  # the first is resized, the others are not
WIDTH = 2


def split(flat: Any, shapes: Sequence[Sequence[int]]) -> list[Any]:
    """A flat array cut into arrays of these shapes."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes]).tolist()
    return [flat[end - int(np.prod(s)) : end].reshape(tuple(s)) for end, s in zip(ends, shapes, strict=True)]


def convolved(maps: Array, weight: Array, bias: Array | None = None) -> Array:
    margin = weight.shape[2] // 2
    padded = np.pad(maps, [(0, 0), (0, 0), (margin, margin), (margin, margin)])
    out = np.zeros((len(maps), len(weight), *maps.shape[2:]))
    for y, x in np.ndindex(*weight.shape[2:]):
        patch = padded[:, :, y : y + maps.shape[2], x : x + maps.shape[3]]
        out += np.tensordot(patch, weight[:, :, y, x], axes=([1], [1])).transpose(0, 3, 1, 2)
    return out if bias is None else out + bias[:, None, None]


def normalised(maps: Array, scale: Array, shift: Array) -> Array:
    mean, variance = maps.mean((0, 2, 3), keepdims=True), maps.var((0, 2, 3), keepdims=True)
    return (maps - mean) / np.sqrt(variance + 1e-5) * scale[:, None, None] + shift[:, None, None]


def repeated(maps: Array, size: Sequence[int]) -> Array:
    rows = [y * maps.shape[2] // size[0] for y in range(size[0])]
    columns = [x * maps.shape[3] // size[1] for x in range(size[1])]
    return maps[:, :, rows][:, :, :, columns]


def reference(maps: list[Array], weights: dict[str, Array]) -> list[Array]:
    found: list[Array] = []
    for level in (2, 1, 0):
        own = {name.split(".", 2)[2]: value for name, value in weights.items() if name.startswith(f"levels.{level}.")}
        mixed = normalised(convolved(maps[level], own["narrow.0.weight"]), own["narrow.1.weight"], own["narrow.1.bias"])
        if level < 2:
            up = repeated(below, mixed.shape[2:])  # noqa: F821
            both = np.concatenate([mixed, up], axis=1)
            shares = 1 / (1 + np.exp(-convolved(both, own["attention.weight"], own["attention.bias"])))
            mixed = mixed * shares[:, [0]] + up * shares[:, [1]]
        mixed = below = repeated(mixed, TEACHER[level][2:])  # noqa: F841
        found.insert(0, normalised(convolved(mixed, own["widen.0.weight"]), own["widen.1.weight"], own["widen.1.bias"]))
    return found


def test_values_and_gradients_of_maps_and_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    fusion = ReviewFusion(STUDENT, TEACHER, WIDTH).double()
    names, given = zip(*fusion.named_parameters(), strict=True)
    shapes = [*STUDENT, *(parameter.shape for parameter in given)]
    flat = torch.randn(sum(int(np.prod(shape)) for shape in shapes), generator=generator, dtype=torch.float64)
    goal = torch.randn(sum(int(np.prod(shape)) for shape in TEACHER), generator=generator, dtype=torch.float64)

    def ours(flat: Tensor, goal: Tensor) -> Tensor:
        parts = split(flat, shapes)
        weights = dict(zip(names, parts[3:], strict=True))
        out = torch.func.functional_call(fusion, weights, (parts[:3],))
        return torch.cat([maps.flatten() for maps in out]) * goal  # another weight for each value

    def theirs(flat: Array, goal: Array) -> Array:
        parts = split(flat, shapes)
        out = reference(parts[:3], dict(zip(names, parts[3:], strict=True)))
        return np.concatenate([maps.ravel() for maps in out]) * goal

    check_value_and_gradient(ours, theirs, flat, goal)


def test_the_shapes_are_the_teachers_and_the_width_that_of_the_deepest_map() -> None:
    fusion = ReviewFusion(STUDENT, TEACHER)
    out = fusion([torch.randn(shape) for shape in STUDENT])
    assert [maps.shape for maps in out] == TEACHER
    assert [level.narrow[0].out_channels for level in fusion.levels] == [3, 3, 3]
    assert [level.attention is None for level in fusion.levels] == [False, False, True]
    assert ReviewFusion([(1, 600, 1, 1)], [(1, 8, 1, 1)]).levels[0].narrow[0].out_channels == 512
    assert list(fusion.buffers()) == []  # nothing that could differ between processes


def test_a_map_takes_from_deeper_ones_and_from_no_shallower_one() -> None:
    fusion = ReviewFusion(STUDENT, TEACHER, WIDTH)
    for level in range(3):
        maps = [torch.randn(shape, requires_grad=True) for shape in STUDENT]
        (fusion(maps)[level] ** 3).sum().backward()
        assert [one.grad is not None for one in maps] == [source >= level for source in range(3)]


def test_without_batch_normalisation_each_example_is_for_itself() -> None:
    fusion = ReviewFusion(STUDENT, TEACHER, batch_norm=False)
    maps = [torch.randn(shape) for shape in STUDENT]
    for whole, alone in zip(fusion(maps), fusion([one[:1] for one in maps]), strict=True):
        torch.testing.assert_close(whole[:1], alone)


def test_a_last_batch_of_one_example_passes_with_its_gradients() -> None:
    """A single value has no spread. Every weight must get a gradient, or processes would wait for each other."""
    fusion = ReviewFusion(STUDENT, TEACHER)
    out = fusion([torch.randn(1, *shape[1:]) for shape in STUDENT])
    assert torch.equal(out[2], torch.zeros(1, 2, 1, 1))
    sum(maps.square().sum() for maps in out).backward()
    assert all(parameter.grad is not None for parameter in fusion.parameters())


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ([(2, 7, 3)], [(2, 4, 2, 2)], r"Only maps .* \[\(2, 7, 3\)\] and \[\(2, 4, 2, 2\)\]"),
        ([(2, 3, 4, 4)], [(2, 3)], "Only maps"),
        ([(2, 3, 4, 4)], [], "one of the student's for one of the teacher's"),
        ([], [], "Only maps"),
        (
            [(2, 3, 2, 2), (2, 3, 4, 4)],
            [(2, 3, 2, 2)] * 2,
            r"\(2, 3, 4, 4\), is larger than .* \(2, 3, 2, 2\)\. Give the pairs from the shallowest",
        ),
    ],
)
def test_what_cannot_be_mixed_is_refused(student: Any, teacher: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReviewFusion(student, teacher)
