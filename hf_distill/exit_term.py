"""The term of an objective in which a student is its own teacher: its depth teaches its shallow layers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hf_distill.losses import MultiLabelLoss, RegressionLoss, SoftTargetLoss
from hf_distill.losses.base import at_least_float32
from hf_distill.losses.feature_base import without_padding
from hf_distill.objective import Term
from hf_distill.schedules import Schedule
from hf_distill.views import StepView


class ExitTerm(Term):
    r"""Early exits of the student, each taught by the labels and by the student's own answer (be your own teacher).

    .. math:: L = \frac{1}{E} \sum_{e=1}^{E} (1 - \alpha) \, \ell_{label}(g_e(f_e), y)
        + \alpha \, \ell(g_e(f_e), \mathrm{sg}(z_s))

    with the outputs :math:`f_e` of E modules of the student, a classifier :math:`g_e` behind each, the student's logits
    :math:`z_s` without gradient (sg), and a loss :math:`\ell` between logits. So shallow layers learn early what is to
    be told apart. There is no teacher; the labels' own :class:`~hf_distill.LabelTerm` stands beside it, for the exits
    train the student only up to their layer. The classifiers learn beside the student and are thrown away after: what
    is saved is the student as it was. In evaluation the term is left out.

    Args:
        *paths: Modules of the student, such as ``"vgg.blocks.2"`` or ``"bert.encoder.layer.0"``, at least one.
        loss: A :class:`~hf_distill.losses.PairLoss` between logits; ``SoftTargetLoss(3.0)`` if left out.
        distillation_weight: The student's own share of what an exit learns, :math:`\alpha`, in [0, 1]; the labels get
            one minus it. Without labels only this part is left.
        weight: A number or a schedule.

    A classifier averages a map over its positions, or tokens over those that the mask counts; behind that is a hidden
    layer as wide as the average, ReLU, and one output for each class.

    Raises:
        ValueError: there is no path, ``distillation_weight`` is not in [0, 1], a module puts out neither vectors nor
            tokens nor maps, or the loss is left out and an example has not one class.

    Source:
        Zhang et al. 2019, arXiv:1905.08094, with shares of 0.7 and 0.3. Their classifiers are convolutional blocks, and
        a third loss, with a weight of 0.03, draws each exit's features to the deepest ones; here there is none.

    Example:
        >>> from hf_distill.losses import ClassificationLoss
        >>> from hf_distill.views import ModelView
        >>> student = ModelView(torch.zeros(2, 3), {"vgg.blocks.0": torch.ones(2, 4, 8, 8)})
        >>> term = ExitTerm("vgg.blocks.0")
        >>> term.compute(StepView(student, labels=torch.tensor([0, 2]), label_loss=ClassificationLoss())).shape
        torch.Size([2])
    """

    def __init__(
        self,
        *paths: str,
        loss: Callable[..., Tensor] | None = None,
        distillation_weight: float = 0.3,
        weight: float | Schedule = 1.0,
    ) -> None:
        super().__init__(weight)
        if not paths or not all(isinstance(path, str) for path in paths):
            raise ValueError('ExitTerm needs paths of modules of the student: ExitTerm("vgg.blocks.1", "vgg.blocks.2")')
        if not 0.0 <= distillation_weight <= 1.0:
            raise ValueError(f"distillation_weight must be between 0 and 1, got {distillation_weight}.")
        self.paths = paths
        self._usual = loss is None
        self.loss = SoftTargetLoss(3.0) if loss is None else loss
        self.distillation_weight = distillation_weight
        self.exits = nn.ModuleList()

    def student_layers(self) -> set[str]:
        return set(self.paths)

    @property
    def compares_classes(self) -> bool:
        return True

    @property
    def may_train(self) -> bool:
        return True

    def prepare(self, step: StepView) -> None:
        """Make the classifiers from a batch; without this, from the first that is computed.

        Raises:
            ValueError: the usual loss between logits does not suit the labels' own.
        """
        if self._usual and isinstance(step.label_loss, MultiLabelLoss | RegressionLoss):
            raise ValueError(
                f"The usual loss of an ExitTerm is for one class an example, and the labels' is {step.label_loss}. "
                "Pass loss=MultiLabelTargetLoss(3.0) where several may be true, and RegressionTargetLoss() for numbers."
            )
        logits = step.student.logits
        self.exits = nn.ModuleList(
            _classifier(_averaged(path, step.student.features[path], step.mask).shape[-1], logits.shape[-1])
            for path in self.paths
        ).to(logits.device, at_least_float32(logits).dtype)

    def compute(self, step: StepView) -> Tensor:
        if not self.exits:
            self.prepare(step)
        answers = [
            self._answer(step, path, classifier) for path, classifier in zip(self.paths, self.exits, strict=True)
        ]
        return torch.stack([self._taught(step, logits) for logits in answers]).mean(dim=0)

    def _answer(self, step: StepView, path: str, classifier: nn.Module) -> Tensor:
        averaged = _averaged(path, step.student.features[path], step.mask)
        with step.autocast():
            logits: Tensor = classifier(averaged)
        return logits

    def _taught(self, step: StepView, logits: Tensor) -> Tensor:
        goal, share = step.student.logits.detach(), self.distillation_weight
        loss = share * self.loss(logits, goal, labels=step.labels, progress=step.progress)
        if step.labels is not None and step.label_loss is not None:
            loss = loss + (1 - share) * step.label_loss(logits, step.labels)
        return loss

    def __repr__(self) -> str:
        paths = ", ".join(map(repr, self.paths))
        return (
            f"ExitTerm({paths}, loss={self.loss}, distillation_weight={self.distillation_weight}, weight={self.weight})"
        )


def _averaged(path: str, feature: Tensor, mask: Tensor | None) -> Tensor:
    """One vector an example, ``(B, d)``, in float32.

    Raises:
        ValueError: the feature is neither vectors nor tokens nor maps.
    """
    feature = at_least_float32(feature)
    if feature.dim() == 2:
        return feature
    if feature.dim() == 4:
        return feature.mean(dim=(2, 3))
    if feature.dim() != 3:
        raise ValueError(
            f"Module {path!r} puts out shape {tuple(feature.shape)}, and an exit reads vectors (B, d), tokens "
            "(B, L, d) or maps (B, C, H, W). Choose another module."
        )
    if mask is None:
        return feature.mean(dim=1)
    return without_padding(feature, mask).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp_min(1)


def _classifier(width: int, classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes))
