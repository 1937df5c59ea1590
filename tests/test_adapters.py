"""Each adapter gives the teacher's shape, learns, and does what an independent calculation does."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hf_distill.adapters import TokensToMap, make_adapter

JOINED = [
    ((2, 5), (2, 7), "Linear"),
    ((2, 4, 5), (2, 4, 7), "Linear"),
    ((2, 3, 4, 4), (2, 5, 4, 4), "Sequential"),  # 1x1
    ((2, 3, 8, 8), (2, 5, 4, 4), "Sequential"),  # stride 2
    ((2, 3, 8, 8), (2, 3, 4, 4), "Sequential"),
    ((2, 3, 9, 4), (2, 5, 3, 2), "Sequential"),  # stride 3 down, 2 across
    ((2, 3, 7, 7), (2, 5, 4, 4), "Sequential"),  # pooled
    ((2, 6, 3), (2, 5, 2, 3), "Sequential"),  # as many tokens as cells
    ((2, 17, 3), (2, 5, 4, 4), "Sequential"),  # [CLS] before the patches
    ((2, 18, 3), (2, 5, 2, 2), "Sequential"),  # two tokens before them, and a smaller map
    ((2, 5, 3), (2, 3, 2, 2), "Sequential"),  # nothing but laying out
]


@pytest.mark.parametrize(("student", "teacher", "kind"), JOINED)
@pytest.mark.parametrize("batch_norm", [True, False])
def test_the_students_shape_becomes_the_teachers(
    student: tuple[int, ...], teacher: tuple[int, ...], kind: str, batch_norm: bool
) -> None:
    adapter = make_adapter(student, teacher, batch_norm)
    features = torch.randn(student, requires_grad=True)
    adapted = adapter(features)
    assert adapted.shape == teacher
    assert type(adapter).__name__ == kind or not batch_norm
    adapted.square().sum().backward()
    assert features.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in adapter.parameters())
    assert any(isinstance(module, nn.BatchNorm2d) for module in adapter.modules()) == (
        batch_norm and any(isinstance(module, nn.Conv2d) for module in adapter.modules())
    )
    assert list(adapter.buffers()) == []  # nothing that could differ between processes


@pytest.mark.parametrize("shape", [(2, 5), (2, 4, 5), (2, 3, 4, 4)])
def test_equal_shapes_need_none(shape: tuple[int, ...]) -> None:
    assert isinstance(make_adapter(shape, shape), nn.Identity)


def test_a_stride_uses_every_cell_once() -> None:
    adapter = make_adapter((2, 3, 6, 4), (2, 5, 2, 2), batch_norm=False).double()
    features = torch.randn(2, 3, 6, 4, dtype=torch.float64)
    patches = features.reshape(2, 3, 2, 3, 2, 2).permute(0, 2, 4, 1, 3, 5).flatten(3)  # by hand: 3x2 patches
    expected = patches @ adapter.weight.flatten(1).T + adapter.bias
    torch.testing.assert_close(adapter(features), expected.permute(0, 3, 1, 2))


def test_an_uneven_map_is_pooled_then_weighted() -> None:
    adapter = make_adapter((2, 3, 5, 5), (2, 4, 2, 2), batch_norm=False).double()
    features = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    # By hand: PyTorch's adaptive pooling of 5 cells into 2 takes cells 0 to 2 and 2 to 4.
    corners = [[features[:, :, y : y + 3, x : x + 3].mean((2, 3)) for x in (0, 2)] for y in (0, 2)]
    pooled = torch.stack([torch.stack(row, -1) for row in corners], -2)
    expected = torch.einsum("oc,bcyx->boyx", adapter[1].weight[:, :, 0, 0], pooled) + adapter[1].bias[:, None, None]
    torch.testing.assert_close(adapter(features), expected)


def test_batch_normalisation_is_that_of_the_batch_in_training_and_evaluation() -> None:
    adapter = make_adapter((6, 3, 2, 2), (6, 4, 2, 2)).double()
    features = torch.randn(6, 3, 2, 2, dtype=torch.float64)
    flat = F.conv2d(features, adapter[0].weight)
    mean, variance = flat.mean((0, 2, 3), keepdim=True), flat.var((0, 2, 3), keepdim=True, correction=0)
    expected = (flat - mean) / (variance + 1e-5).sqrt()
    torch.testing.assert_close(adapter.train()(features), expected)
    torch.testing.assert_close(adapter.eval()(features), expected)


def test_tokens_are_laid_out_row_by_row() -> None:
    tokens = torch.arange(14.0).reshape(1, 7, 2)  # one before 2 x 3 patches, two channels
    expected = torch.tensor([[[[2.0, 4, 6], [8, 10, 12]], [[3, 5, 7], [9, 11, 13]]]])
    assert torch.equal(TokensToMap((2, 3))(tokens), expected)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ((2, 5), (2, 4, 5)),
        ((2, 4, 5), (2, 6, 5)),  # other tokens
        ((2, 4, 5), (2, 5)),
        ((2, 3, 4, 4), (2, 3, 8, 8)),  # a smaller map
        ((2, 3, 8, 2), (2, 3, 4, 4)),
        ((2, 3, 4, 4), (2, 16, 3)),
        ((2, 12, 3), (2, 3, 4, 4)),  # fewer tokens than cells
        ((8, 5), (2, 7)),  # windows folded into the batch
        ((2,), (2, 3)),
    ],
)
def test_shapes_that_nothing_joins_are_refused_with_both(student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="No adapter joins") as error:
        make_adapter(student, teacher)
    assert str(student) in str(error.value)
    assert str(teacher) in str(error.value)
