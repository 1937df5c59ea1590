"""Relational distillation: how far examples lie apart, and at which angles."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_distill.losses.base import check_weights
from hf_distill.losses.feature_base import ROUNDING, FeatureLoss, relative_to


class RelationalLoss(FeatureLoss):
    r"""Difference in the distances and angles between the examples of a batch (RKD).

    .. math:: L = \frac{R(\psi_s, \theta_s)}{R(1, \tfrac{1}{2})}, \quad R(\psi, \theta) =
        w_d \operatorname*{mean}_{i \ne j} h(\psi_{ij} - \psi_{t,ij})
        + w_a \operatorname*{mean}_{i \ne j \ne k} h(\theta_{ijk} - \theta_{t,ijk})

    where :math:`\psi_{ij}` is the distance of examples i and j over the mean distance in the batch,
    :math:`\theta_{ijk}` the cosine of the angle at j between i and k, and :math:`h(x) = x^2 / 2` up to 1, then
    :math:`|x| - 1/2`. Neither turning, shifting, nor scaling all of a model's features matters, and the two models may
    have any widths. A student for which all examples are equally far apart pays 1.

    It compares examples, so it needs a batch, better of 32 than of 8; a batch of fewer than three costs 0, as does one
    whose examples are all the same to the teacher. Two examples with the same features are at distance 0, see each
    other at cosine 0, and do not pull. The angles take memory with the cube of the batch: 70 MB for each intermediate
    at 256.

    Args:
        distance_weight: What distances count, :math:`w_d` >= 0. Only its ratio to ``angle_weight`` matters.
        angle_weight: What angles count, :math:`w_a` >= 0; 0 saves their memory.

    Shape:
        - student, teacher: ``(B, d)``, ``(B, L, d)`` or ``(B, C, H, W)``, each of its own, any float dtype; computed
          in float32. The paper uses the vectors in front of the last layer.
        - mask: ``(B, L)`` for tokens; those with 0 do not count.
        - output: a scalar, float32, dimensionless, >= 0. Gradient flows to ``student`` only.

    Raises:
        ValueError: a weight is negative or not finite, or both are 0; the features are of different numbers of
            examples, or the mask does not fit them.

    Source:
        Park et al. 2019, arXiv:1904.05068, section 3.2. Its weights of 25 and 50 are :math:`25 R(1, 1/2)` of ours,
        at :math:`w_d = 1` and :math:`w_a = 2`. The authors' code also averages over pairs and triplets of an example
        with itself, which are 0.

    Example:
        >>> import torch
        >>> teacher, simplex = torch.tensor([[0., 0.], [3., 0.], [0., 4.]]), torch.eye(3)
        >>> RelationalLoss()(simplex, teacher)
        tensor(1.)
    """

    needs_same_shape: ClassVar[bool] = False

    def __init__(self, distance_weight: float = 1.0, angle_weight: float = 2.0) -> None:
        super().__init__()
        check_weights(distance_weight=distance_weight, angle_weight=angle_weight)
        if distance_weight + angle_weight == 0.0:
            raise ValueError("distance_weight and angle_weight must not both be 0.")
        self.distance_weight = distance_weight
        self.angle_weight = angle_weight

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        ours, theirs = distances(student), distances(teacher)
        even = 1.0 - torch.eye(len(theirs), dtype=theirs.dtype, device=theirs.device)
        pays = self.distance_weight * _difference(ours, theirs)
        uninformed = self.distance_weight * _difference(even, theirs)
        if self.angle_weight:
            goal = cosines(theirs)
            pays = pays + self.angle_weight * _difference(cosines(ours), goal)
            uninformed = uninformed + self.angle_weight * _difference(cosines(even), goal)
        # A teacher that puts all examples in one place has no distances that the student could take over.
        return relative_to(uninformed * (theirs != 0.0).any(), pays, ROUNDING)


def distances(features: Tensor) -> Tensor:
    """Distances between all examples, ``(B, B)``, over the mean of those between two different ones."""
    rows = features.flatten(1)
    # Not by inner products: near 0 they lose all digits, and the root makes that a wrong gradient.
    distance = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    mean = distance.sum() / max(len(rows) * (len(rows) - 1), 1)
    return distance / mean.clamp(min=1e-12)


def cosines(distance: Tensor) -> Tensor:
    """Cosines at j between i and k, ``(B, B, B)`` by j, i, k, from distances; 0 where two of them are one."""
    to_i, to_k, opposite = distance.unsqueeze(2), distance.unsqueeze(1), distance.unsqueeze(0)
    sides = 2.0 * to_i * to_k
    cosine = (to_i.square() + to_k.square() - opposite.square()) / sides.masked_fill(sides == 0.0, 1.0)
    different = ~torch.eye(len(distance), dtype=torch.bool, device=distance.device).unsqueeze(0)
    return torch.where(different & (sides != 0.0), cosine, 0.0)


def _difference(ours: Tensor, theirs: Tensor) -> Tensor:
    """Mean smooth L1 difference over pairs or triplets of different examples; all other entries are 0."""
    return F.smooth_l1_loss(ours, theirs, reduction="sum") / max(math.perm(len(ours), ours.dim()), 1)
