"""Hints: the student's features become the teacher's."""

from __future__ import annotations

from torch import Tensor

from hf_distill.losses.feature_base import NO_ENERGY, FeatureLoss, check_same_shape, energy, relative_to


class HintLoss(FeatureLoss):
    r"""Squared error between the features of student and teacher, relative to the teacher's (FitNets).

    .. math:: L_i = \frac{\| f_{s,i} - f_{t,i} \|^2}{\| f_{t,i} \|^2}

    It asks for everything that the teacher's layer holds, which is the most information and the hardest to give: use
    it where the student is wide enough, in a layer that is not too early. A student of zeros pays 1. An example for
    which the teacher is all zero costs nothing.

    Shape:
        - student, teacher: ``(B, C, H, W)``, ``(B, L, d)`` or ``(B, d)``, both the same, any float dtype; computed in
          float32. An adapter brings the student's features to the teacher's shape.
        - mask: ``(B, L)`` for tokens; those with 0 do not count.
        - output: ``(B,)`` float32, dimensionless, >= 0. Gradient flows to ``student`` only.

    Raises:
        ValueError: the features differ in shape, or the mask does not fit them.

    Source:
        Romero et al. 2015 (FitNets), arXiv:1412.6550, equation 3, half the squared error of a stage of its own before
        the other training. Common code takes the mean squared error, with weight 100, at once with the other losses:
        that weight is ours divided by the mean square of the teacher's features. Dividing example by example keeps
        the loss independent of how a batch is split.

    Example:
        >>> import torch
        >>> HintLoss()(torch.tensor([[3., 0.], [3., 4.]]), torch.tensor([[3., 4.], [3., 4.]]))
        tensor([0.6400, 0.0000])
    """

    def check_shapes(self, student: Tensor, teacher: Tensor) -> None:
        check_same_shape(student, teacher)

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return relative_to(energy(teacher), energy(student - teacher), NO_ENERGY)
