"""Variational information: what the student's features say about the teacher's."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import UninitializedParameter

from hf_distill.losses.base import at_least_float32, check_whole_numbers
from hf_distill.losses.feature_base import NO_ENERGY, FeatureLoss, check_same_shape, energy, misfit, relative_to

LEAST_VARIANCE = 1e-5
START = math.log(math.expm1(1.0 - LEAST_VARIANCE))
"""What gives a variance of 1."""


class VariationalInformationLoss(FeatureLoss):
    r"""Negative log-likelihood of the teacher's features under a Gaussian around the student's (VID).

    .. math:: L_i = \operatorname*{mean}_{c,n} \left[ \frac{(f_{s,icn} - f_{t,icn})^2}{v_i \sigma_c^2} \right]
        + \operatorname*{mean}_c \log \sigma_c^2, \quad \sigma_c^2 = \mathrm{softplus}(a_c) + 10^{-5}

    with :math:`v_i` the mean square of the teacher's features of example i, and a learnable :math:`a_c` for each
    channel. Minus half of it is, up to a constant, a lower bound on the information in nats that the student's features
    hold about the teacher's, the latter at mean square 1. A channel that the student cannot follow gets a large
    variance and is let go; on the others it becomes exact. The student's features are the mean of the Gaussian: they
    should come through an adapter.

    At the start all variances are 1, and it is :class:`HintLoss`: 0 at a perfect match, 1 for a student of zeros.
    Later it falls below 0, down to :math:`\log 10^{-5} = -11.5`. An example for which the teacher is all zero only
    costs the logarithm.

    The variances are trained together with the student. ``DistillationTrainer`` sees to that, with a copy of its own:
    read them afterwards from the terms of ``trainer.distillation_objective``.

    Args:
        channels: The number of the teacher's channels: C of a map, d of tokens or vectors. Left out, it is that of the
            first features that are seen. Layers of different widths need a loss, and so a term, each.

    Shape:
        - student, teacher: ``(B, C, H, W)``, ``(B, L, d)`` or ``(B, d)``, both the same, any float dtype; computed in
          float32.
        - mask: ``(B, L)`` for tokens; those with 0 do not count.
        - output: ``(B,)`` float32, half nats for each element, >= -11.5. Gradient flows to ``student`` and to the
          variances.

    Raises:
        ValueError: ``channels`` is no whole number >= 1, the features differ in shape or have another number of
            channels, or the mask does not fit them.

    Source:
        Ahn et al. 2019, arXiv:1904.05835, section 2. The paper has half of it, and features that keep their
        scale: its weight of 1 for each layer is 1/2 of ours, in a term for each layer. Common code starts at a variance
        of 5, and the student's features pass three 1x1 convolutions with ReLU between them, where an adapter has one,
        or none between equal shapes.

    Example:
        >>> import torch
        >>> loss = VariationalInformationLoss(channels=2)
        >>> loss(torch.tensor([[3., 0.]]), torch.tensor([[3., 4.]]))
        tensor([0.6400], grad_fn=<AddBackward0>)
    """

    def __init__(self, channels: int | None = None) -> None:
        super().__init__()
        self.channels = channels
        self.raw_variance: Tensor
        if channels is None:
            self.raw_variance = UninitializedParameter()
        else:
            check_whole_numbers(channels=channels)
            self.raw_variance = nn.Parameter(torch.full((channels,), START))

    @property
    def variance(self) -> Tensor:
        r"""The variance :math:`\sigma_c^2` of each channel, as a share of the teacher's mean square."""
        return F.softplus(at_least_float32(self.raw_variance)) + LEAST_VARIANCE

    def prepare(self, teacher: Tensor) -> None:
        if isinstance(self.raw_variance, UninitializedParameter):
            dtype = at_least_float32(teacher).dtype
            self.raw_variance.materialize((teacher.shape[_channel_axis(teacher)],), teacher.device, dtype)
            nn.init.constant_(self.raw_variance, START)

    def check_shapes(self, student: Tensor, teacher: Tensor) -> None:
        check_same_shape(student, teacher)
        self.prepare(teacher)
        channels = len(self.raw_variance)
        if teacher.shape[_channel_axis(teacher)] != channels:
            raise misfit(
                student,
                teacher,
                f"must have {channels} channels",
                "Pass the teacher's number of channels to the loss, and give layers of different widths a term each.",
            )

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        axis = _channel_axis(teacher)
        variance = self.variance
        deviation = variance.sqrt().reshape([-1 if a == axis else 1 for a in range(teacher.dim())])
        error = relative_to(energy(teacher), energy((student - teacher) / deviation), NO_ENERGY)
        return error + variance.log().mean()

    def extra_repr(self) -> str:
        return "" if self.channels is None else f"channels={self.channels}"


def _channel_axis(features: Tensor) -> int:
    return 1 if features.dim() == 4 else features.dim() - 1
