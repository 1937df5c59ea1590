"""The term of an objective that puts a price on what the student keeps of its input."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_distill.features import Transforms
from hf_distill.losses.base import at_least_float32
from hf_distill.objective import Term
from hf_distill.schedules import Schedule
from hf_distill.views import StepView

LEAST_DEVIATION = 1e-6


class BottleneckTerm(Term):
    r"""The variational information bottleneck (VIB): a price on what the student's representation says of its input.

    .. math:: L_i = \ell(h_i), \quad z_i = h_i + \sigma(h_i) \, \varepsilon, \quad \varepsilon \sim \mathcal{N}(0, 1)

    with h what a module of the student puts out, and the :class:`BottleneckLoss` :math:`\ell` with its learnt
    :math:`\sigma`, made from the shape of h. In training the modules behind it get z in the place of h, so that labels
    and teacher must be followed through the noise: what serves to predict is worth its price, and the rest is dropped.

    What learns here is thrown away after. In evaluation z is h, and the saved student is the plain model that it was.
    Other terms that look at the module see h. Where the weight is 0, as at one end of a schedule, there is no noise.
    The noise comes from PyTorch's global generator, as that of dropout does.

    Args:
        path: The module in front of the head, with one vector an example, such as ``bert.pooler``.
        weight: A number or a schedule: the paper's beta, where the labels have weight 1.
        deviation: The standard deviation of the noise at the start, > 0.

    Raises:
        ValueError: ``deviation`` is not a finite number > 0.

    Source:
        Alemi et al. 2017, arXiv:1612.00410.

    Example:
        >>> from hf_distill.views import ModelView
        >>> term = BottleneckTerm("bert.pooler", weight=1e-2)
        >>> view = ModelView(torch.zeros(2, 3), {"bert.pooler": torch.ones(2, 8)})
        >>> term.compute(StepView(view)).shape
        torch.Size([2])
    """

    def __init__(self, path: str, weight: float | Schedule = 1e-2, deviation: float = 0.5) -> None:
        super().__init__(weight)
        if not 0.0 < deviation < math.inf:
            raise ValueError(f"deviation, the noise at the start, must be a finite number > 0, got {deviation}.")
        self.path, self.deviation = path, deviation
        self.loss: BottleneckLoss | None = None

    def student_layers(self) -> set[str]:
        return {self.path}

    def transforms(self) -> Transforms:
        return {self.path: self._noisy}

    @property
    def may_train(self) -> bool:
        return True

    def prepare(self, step: StepView) -> None:
        """Make the loss from the shape on a batch. Without this, the first batch that is computed makes it.

        Raises:
            ValueError: the module does not put out one vector an example; the message has the shape.
        """
        self.loss = self._made(step.student.features[self.path])

    def _made(self, mean: Tensor) -> BottleneckLoss:
        if mean.dim() < 2 or mean[0].numel() != mean.shape[1]:
            raise ValueError(
                f"Module {self.path!r} puts out {tuple(mean.shape)}, and {self} needs one vector an example, (B, d) or "
                "(B, d, 1, 1). Choose a module between tokens or maps and the head, such as a pooler."
            )
        return BottleneckLoss(mean.shape[1], self.deviation).to(mean.device, at_least_float32(mean).dtype)

    def _noisy(self, mean: Tensor) -> Tensor:
        return mean if self.loss is None else self.loss.noisy(mean)

    def compute(self, step: StepView) -> Tensor:
        mean = step.student.features[self.path]
        self.loss = self._made(mean) if self.loss is None else self.loss
        value: Tensor = self.loss(mean)
        return value

    def __repr__(self) -> str:
        return f"BottleneckTerm({self.path!r}, weight={self.weight}, deviation={self.deviation})"


class BottleneckLoss(nn.Module):
    r"""How far a vector with noise on it is from noise alone.

    .. math:: L_i = \mathrm{KL}(\mathcal{N}(h_i, \sigma_i^2) ‖ \mathcal{N}(0, 1))
        = \sum_d \left[ \frac{h_{id}^2 + \sigma_{id}^2 - 1}{2} - \log \sigma_{id} \right], \quad
        \sigma_i = \mathrm{softplus}(W h_i + b) + 10^{-6}

    Its mean over examples is an upper bound on the information in nats that the noisy vector holds about the input, and
    so a sum over dimensions, whose weight keeps its meaning from one width to another. Telling C equally frequent
    classes apart takes log C nats.

    Args:
        width: How many numbers a vector has.
        deviation: The standard deviation at the start, the same for all; W begins at 0.

    Shape:
        - mean: ``(B, d)``, also with more axes of 1, any float dtype; computed in float32.
        - output: ``(B,)`` float32, nats, >= 0.

    Source:
        Alemi et al. 2017, arXiv:1612.00410, section 3. There a layer puts out mean and deviation side by side, with
        weights of their own; here the mean is a module's output as it is, so that the model stays what it was without.
        The authors' code has a weight of 0.001 for MNIST, and begins at a deviation of 0.0067, which a short training
        hardly leaves.

    Example:
        >>> loss = BottleneckLoss(width=2, deviation=0.5)
        >>> [round(nats, 4) for nats in loss(torch.tensor([[0.0, 0.0], [2.0, 0.0]])).tolist()]
        [0.6363, 2.6363]
    """

    def __init__(self, width: int, deviation: float) -> None:
        super().__init__()
        self.spread = nn.Linear(width, width)
        nn.init.zeros_(self.spread.weight)
        nn.init.constant_(self.spread.bias, deviation + math.log(-math.expm1(-deviation)))  # softplus undone

    def deviation(self, mean: Tensor) -> Tensor:
        """The standard deviation of the noise, ``(B, d)`` in float32."""
        with torch.autocast(mean.device.type, enabled=False):
            return F.softplus(self.spread(at_least_float32(mean).flatten(1))) + LEAST_DEVIATION

    def noisy(self, mean: Tensor) -> Tensor:
        """The vectors with noise on them, in their own shape and dtype."""
        deviation = self.deviation(mean)
        noise = deviation * torch.randn_like(deviation)
        return mean + noise.reshape(mean.shape).to(mean.dtype)

    def forward(self, mean: Tensor) -> Tensor:
        deviation = self.deviation(mean)
        squares = at_least_float32(mean).flatten(1).square() + deviation.square()
        return (0.5 * (squares - 1.0) - deviation.log()).sum(dim=1)
