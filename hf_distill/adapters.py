"""What makes the student's features comparable with the teacher's, where their shapes differ."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

from torch import Tensor, nn


def make_adapter(student: Sequence[int], teacher: Sequence[int], batch_norm: bool = True) -> nn.Module:
    """A trainable map from the student's shape to the teacher's, as simple as the shapes allow.

    - Equal shapes: nothing, ``nn.Identity``.
    - Vectors and tokens: a linear layer.
    - Maps of equal size: a 1x1 convolution. A larger map of the student is brought to the teacher's size by a
      convolution with that stride where it divides evenly, else by average pooling before the 1x1 convolution.
    - Tokens of the student, maps of the teacher: the tokens of the patches, without up to two before them (``[CLS]``
      and a distillation token), are laid out as a map, then as above.

    A student's map smaller than the teacher's is refused: an adapter cannot invent the detail.

    Args:
        student: The shape that the student's features had on some batch, with the batch in front.
        teacher: The teacher's on the same batch.
        batch_norm: Whether a convolution is followed by batch normalisation. It uses the statistics of each batch as
            it is computed, before gradients are accumulated, so the gradient then depends slightly on how a batch is
            split. Without it, it does not.

    Shape:
        - ``(B, d)`` vectors, ``(B, L, d)`` tokens, or ``(B, C, H, W)`` maps.

    Raises:
        ValueError: no such map joins the two shapes.

    Source:
        The linear layer is that of TinyBERT, arXiv:1909.10351; the convolution with batch normalisation is the
        regressor of FitNets, arXiv:1412.6550. We leave out its activation, since features may be negative.

    Example:
        >>> make_adapter((2, 16, 128), (2, 16, 768))
        Linear(in_features=128, out_features=768, bias=True)
        >>> make_adapter((2, 32, 8, 8), (2, 64, 4, 4), batch_norm=False)
        Conv2d(32, 64, kernel_size=(2, 2), stride=(2, 2))
    """
    student, teacher = tuple(student), tuple(teacher)
    if student == teacher:
        return nn.Identity()
    kinds = len(student), len(teacher)
    if student[0] == teacher[0]:
        if kinds == (2, 2) or (kinds == (3, 3) and student[1] == teacher[1]):
            return nn.Linear(student[-1], teacher[-1])
        if kinds == (4, 4) and _covers(student[2:], teacher[2:]):
            return _map_adapter(student, teacher, batch_norm)
        if kinds == (3, 4) and (size := _grid(student[1], teacher[2:])):
            laid_out = (student[0], student[2], *size)
            return nn.Sequential(TokensToMap(size), _map_adapter(laid_out, teacher, batch_norm))
    raise ValueError(
        f"No adapter joins student features of shape {student} and teacher features of shape {teacher}. It needs the "
        "same batch, and vectors (B, d) for vectors, tokens (B, L, d) for as many tokens, maps (B, C, H, W) for maps "
        "that are no larger, or patches for maps. Choose other modules, or pass adapt=FUNCTION that makes an adapter "
        "from the two shapes, or adapt=False for a loss that compares examples with each other."
    )


class TokensToMap(nn.Module):
    """Lay the tokens of image patches out as a map.

    Args:
        size: Height and width of the map. Tokens that stand before the patches are left out.

    Shape:
        - input: ``(B, L, C)`` with L >= H * W.
        - output: ``(B, C, H, W)``.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, tokens: Tensor) -> Tensor:
        height, width = self.size
        return tokens[:, -height * width :].transpose(1, 2).reshape(len(tokens), -1, height, width)

    def extra_repr(self) -> str:
        return f"size={self.size}"


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation by the statistics of each batch.

    Running statistics would serve evaluation, in which nothing beside the student takes part. A channel with a single
    value, of one example with a map of one cell, has no spread: what is left of it is the shift.

    Args:
        channels: How many there are.

    Shape:
        - input, output: ``(B, C, H, W)``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, track_running_stats=False)

    def forward(self, maps: Tensor) -> Tensor:
        if maps.numel() != self.num_features:
            return super().forward(maps)
        scale, shift = (parameter.reshape(1, -1, 1, 1) for parameter in (self.weight, self.bias))
        return 0.0 * maps * scale + shift


def _map_adapter(student: Sequence[int], teacher: Sequence[int], batch_norm: bool) -> nn.Module:
    if tuple(student) == tuple(teacher):
        return nn.Identity()
    size = teacher[2], teacher[3]
    even = student[2] % size[0] == 0 and student[3] % size[1] == 0
    stride = (student[2] // size[0], student[3] // size[1]) if even else (1, 1)
    layers: list[nn.Module] = [] if even else [nn.AdaptiveAvgPool2d(size)]
    layers.append(nn.Conv2d(student[1], teacher[1], kernel_size=stride, stride=stride, bias=not batch_norm))
    if batch_norm:
        layers.append(BatchNorm(teacher[1]))
    return layers[0] if len(layers) == 1 else nn.Sequential(*layers)


def _covers(student: Sequence[int], teacher: Sequence[int]) -> bool:
    return student[0] >= teacher[0] and student[1] >= teacher[1]


def _grid(tokens: int, size: Sequence[int]) -> tuple[int, int] | None:
    """How the tokens of patches lie: as the teacher's map, else as a square that covers it."""
    for extra in (0, 1, 2):
        if tokens - extra == size[0] * size[1]:
            return size[0], size[1]
    for extra in (0, 1, 2):
        side = isqrt(max(tokens - extra, 0))
        if side * side == tokens - extra and _covers((side, side), size):
            return side, side
    return None
