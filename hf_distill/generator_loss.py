"""Which images a generator shall make: judged by a teacher that has never told anyone what it learned from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_distill.losses.base import at_least_float32, check_weights, kl_divergence

PREFIX = "generator_"
"""What the names of its parts begin with in the logs."""


@dataclass
class Inside:
    """What a teacher computes inside on a batch of images.

    Args:
        activations: ``(B, d)``, what its last linear layer reads; ``None`` without such a layer.
        distances: Of each of its batch normalisations a scalar, how far the batch is from what it knows.
    """

    activations: Tensor | None = None
    distances: list[Tensor] = field(default_factory=list)


class GeneratorLoss(nn.Module):
    r"""How far images are from such as a teacher was trained on, as far as the teacher can tell.

    .. math::
        L = \frac{1}{B} \sum_i \left[ w_o \, CE(t_i, \arg\max t_i) - w_a \, \frac{1}{d} \sum_k |f_{ik}|
        - w_d \, KL(p_i \| q_i) \right] + w_i \sum_c \bar p_c \ln \bar p_c
        + w_b \sum_l \left( \|\mu_l - \hat\mu_l\| + \|\sigma_l^2 - \hat\sigma_l^2\| \right)

    with the teacher's logits t, its probabilities p and their mean over the batch :math:`\bar p`, the features f that
    its last linear layer reads, mean and variance of the batch at its batch normalisation l next to those that it
    keeps, with a hat, and the student's probabilities q. The teacher shall be sure of each image, of all classes
    equally often, and its features shall be strong; what it computes inside shall look as in its training; and student
    and teacher shall disagree.

    Args:
        one_hot: Weight :math:`w_o`.
        information: Weight :math:`w_i`.
        activation: Weight :math:`w_a`.
        batch_norm: Weight :math:`w_b`.
        adversarial: Weight :math:`w_d`.

    Shape:
        - teacher, student: ``(B, C)`` logits. Gradient flows to both, and so to the images.
        - output: each part with a weight > 0, ``(B,)`` or a scalar for the whole batch, float32.

    Raises:
        ValueError: a weight is negative or not finite.

    Source:
        The first three are of Chen et al. 2019 (DAFL), arXiv:1904.01186, with its weights for MNIST, of which the
        authors' code takes the logarithm to base 10: its 5 is 2.17 of our ``information``. Their weights for CIFAR are
        0.05, 5 and 0.01. Batch normalisation is of Yin et al. 2020 (DeepInversion), arXiv:1912.08795; the disagreement
        of Micaelli and Storkey 2019, arXiv:1905.09768.

    Example:
        >>> loss = GeneratorLoss(information=5.0, activation=0.0)
        >>> parts = loss(torch.tensor([[9.0, 0.0], [0.0, 9.0]]), Inside())
        >>> {name: round(part.mean().item(), 2) for name, part in parts.items()}
        {'generator_one_hot': 0.0, 'generator_information': -3.47}
    """

    def __init__(
        self,
        one_hot: float = 1.0,
        information: float = 5.0,
        activation: float = 0.1,
        batch_norm: float = 0.0,
        adversarial: float = 0.0,
    ) -> None:
        super().__init__()
        self.weights = {
            "one_hot": one_hot,
            "information": information,
            "activation": activation,
            "batch_norm": batch_norm,
            "adversarial": adversarial,
        }
        check_weights(**self.weights)

    def forward(self, teacher: Tensor, inside: Inside, student: Tensor | None = None) -> dict[str, Tensor]:
        """The weighted parts, under the names that logs have for them.

        Args:
            teacher: Its logits.
            inside: What it computed inside.
            student: The student's logits, for ``adversarial``.
        """
        parts: dict[str, Callable[[], Tensor]] = {
            "one_hot": lambda: F.cross_entropy(teacher, teacher.argmax(dim=-1), reduction="none"),
            "information": lambda: _negative_entropy(teacher),
            "activation": lambda: -_known(inside.activations).abs().flatten(1).mean(dim=1),
            "batch_norm": lambda: torch.stack(inside.distances).sum(),
            "adversarial": lambda: -kl_divergence(teacher.log_softmax(dim=-1), _known(student).log_softmax(dim=-1)),
        }
        teacher = at_least_float32(teacher)
        return {f"{PREFIX}{name}": self.weights[name] * part() for name, part in parts.items() if self.weights[name]}

    @contextmanager
    def watching(self, teacher: nn.Module) -> Iterator[Inside]:
        """Collect what the teacher computes inside, as far as a weight wants it, while it runs within the block."""
        seen, handles = Inside(), []

        def keep_activations(module: nn.Module, read: tuple[Any, ...]) -> None:
            seen.activations = at_least_float32(read[0])

        def keep_distance(module: nn.Module, read: tuple[Any, ...]) -> None:
            seen.distances.append(statistics_distance(module, at_least_float32(read[0])))

        if self.weights["activation"]:
            handles.append(last_linear(teacher).register_forward_pre_hook(keep_activations))
        if self.weights["batch_norm"]:
            handles += [module.register_forward_pre_hook(keep_distance) for module in batch_norms(teacher)]
        try:
            yield seen
        finally:
            for handle in handles:
                handle.remove()

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={weight}" for name, weight in self.weights.items())


def last_linear(teacher: nn.Module) -> nn.Linear:
    """The layer that puts out one number for each class.

    Raises:
        ValueError: the model has no linear layer.
    """
    found = [module for module in teacher.modules() if isinstance(module, nn.Linear)]
    if not found:
        raise ValueError(
            f"{type(teacher).__name__} has no linear layer whose inputs could be made strong: "
            "GeneratorLoss(activation=0.0)."
        )
    return found[-1]


def batch_norms(teacher: nn.Module) -> list[nn.Module]:
    """The batch normalisations that know the statistics of the images that the model was trained on.

    Raises:
        ValueError: the model has none.
    """
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    known = (module for module in teacher.modules() if isinstance(module, kinds))
    found: list[nn.Module] = [module for module in known if module.running_mean is not None]
    if not found:
        raise ValueError(
            f"{type(teacher).__name__} has no batch normalisation that knows any statistics: "
            "GeneratorLoss(batch_norm=0.0)."
        )
    return found


def statistics_distance(module: Any, maps: Tensor) -> Tensor:
    """How far the statistics of a batch, ``(B, C, ...)``, are from those that a batch normalisation keeps."""
    values = maps.transpose(0, 1).flatten(1)
    mean: Tensor = torch.linalg.vector_norm(values.mean(dim=1) - module.running_mean)
    variance: Tensor = torch.linalg.vector_norm(values.var(dim=1, unbiased=False) - module.running_var)
    return mean + variance


def _negative_entropy(logits: Tensor) -> Tensor:
    """Of the mean probabilities over a batch, from logarithms, which are finite also where a share is 0."""
    log_shares = logits.log_softmax(dim=-1).logsumexp(dim=0) - math.log(len(logits))
    return (log_shares.exp() * log_shares).sum()


def _known(value: Tensor | None) -> Tensor:
    if value is None:
        raise ValueError(
            "A part of the generator's loss has nothing to be computed from: run the teacher within watching(...), and "
            "pass the student's logits where adversarial > 0."
        )
    return at_least_float32(value)
