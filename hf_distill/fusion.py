"""What lets a student's shallow layers learn with the deep ones: deep maps, brought up and mixed into shallow ones."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_distill.adapters import BatchNorm

WIDEST = 512
"""The paper's bound on the width in which maps are mixed."""


class ReviewFusion(nn.Module):
    r"""The maps of a student, each mixed with all deeper ones, in the shapes of the teacher's.

    .. math:: h_l = a_l \odot n_l(f_l) + b_l \odot \mathrm{up}(h_{l+1}), \quad
        (a_l, b_l) = \sigma(c_l([n_l(f_l), \mathrm{up}(h_{l+1})])), \quad g_l = w_l(h_l)

    from the deepest map, :math:`h_L = n_L(f_L)`, to the shallowest: :math:`n_l` a 1x1 convolution to a common width,
    :math:`\mathrm{up}` the repetition of cells up to the size of :math:`f_l`, :math:`c_l` a 1x1 convolution whose two
    outputs say at each position how much comes from either side, and :math:`w_l` a 3x3 convolution to the teacher's
    channels, at the teacher's size.

    Args:
        student: The shape that each of the student's maps had on some batch, from the shallowest to the deepest.
        teacher: The shapes of the teacher's on the same batch.
        width: The common width; that of the student's deepest map, at most 512, if left out.
        batch_norm: Whether :math:`n_l` and :math:`w_l` end in batch normalisation. It uses the statistics of each batch
            as it is computed, so the gradient then depends slightly on how a batch is split.

    Shape:
        - input: as many maps ``(B, C, H, W)`` as there are shapes, from the shallowest to the deepest.
        - output: maps of the teacher's shapes, in the same order.

    Raises:
        ValueError: the shapes are not maps, one for one, or a deeper map of the student is larger than one before it.

    Source:
        Chen et al. 2021 (ReviewKD), arXiv:2104.09044, section 3.3, with the order of steps in the authors' code, which
        mixes at the student's size and then resizes to the teacher's.

    Example:
        >>> fusion = ReviewFusion([(2, 8, 4, 4), (2, 16, 2, 2)], [(2, 12, 4, 4), (2, 20, 2, 2)])
        >>> [tuple(maps.shape) for maps in fusion([torch.zeros(2, 8, 4, 4), torch.zeros(2, 16, 2, 2)])]
        [(2, 12, 4, 4), (2, 20, 2, 2)]
    """

    def __init__(
        self,
        student: Sequence[Sequence[int]],
        teacher: Sequence[Sequence[int]],
        width: int | None = None,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        _check_maps(student, teacher)
        width = min(student[-1][1], WIDEST) if width is None else width
        deepest = len(student) - 1
        self.levels = nn.ModuleList(
            FusionLevel(ours[1], theirs[1:], width, mixes=level < deepest, batch_norm=batch_norm)
            for level, (ours, theirs) in enumerate(zip(student, teacher, strict=True))
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        out: list[Tensor] = []
        deeper = None
        for level, own in zip(reversed(self.levels), reversed(maps), strict=True):
            shown, deeper = level(own, deeper)
            out.insert(0, shown)
        return out


class FusionLevel(nn.Module):
    """One map of the student mixed with what comes from below it; see :class:`ReviewFusion`.

    Args:
        channels: The student's.
        teacher: Channels, height and width of the teacher's map.
        width: In which is mixed.
        mixes: Whether anything comes from below.
        batch_norm: Whether the convolutions end in batch normalisation.
    """

    def __init__(self, channels: int, teacher: Sequence[int], width: int, mixes: bool, batch_norm: bool) -> None:
        super().__init__()
        self.size = tuple(teacher[1:])
        self.narrow = _convolution(channels, width, 1, batch_norm)
        self.attention = nn.Conv2d(2 * width, 2, kernel_size=1) if mixes else None
        self.widen = _convolution(width, teacher[0], 3, batch_norm)

    def forward(self, own: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        mixed: Tensor = self.narrow(own)
        if self.attention is not None and deeper is not None:
            deeper = F.interpolate(deeper, mixed.shape[2:], mode="nearest")
            shares = self.attention(torch.cat([mixed, deeper], dim=1)).sigmoid()
            mixed = mixed * shares[:, :1] + deeper * shares[:, 1:]
        if mixed.shape[2:] != self.size:
            mixed = F.interpolate(mixed, self.size, mode="nearest")
        return self.widen(mixed), mixed


def _convolution(channels: int, width: int, kernel: int, batch_norm: bool) -> nn.Module:
    convolution = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=not batch_norm)
    return nn.Sequential(convolution, BatchNorm(width)) if batch_norm else convolution


def _check_maps(student: Sequence[Sequence[int]], teacher: Sequence[Sequence[int]]) -> None:
    shapes = [*student, *teacher]
    if not student or len(student) != len(teacher) or any(len(shape) != 4 for shape in shapes):
        raise ValueError(
            "Only maps (B, C, H, W) can be mixed with deeper ones, one of the student's for one of the teacher's; got "
            f"{[tuple(shape) for shape in student]} and {[tuple(shape) for shape in teacher]}. For tokens and vectors "
            "use FeatureTerm(HintLoss(), ...)."
        )
    for before, after in itertools.pairwise(student):
        if after[2] > before[2] or after[3] > before[3]:
            raise ValueError(
                f"A deeper map of the student, {tuple(after)}, is larger than the one before it, {tuple(before)}. Give "
                "the pairs from the shallowest to the deepest."
            )
