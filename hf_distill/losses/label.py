"""Losses against true labels, one value per example; an example without a label costs nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch.nn import functional as F

from hf_distill.losses.base import at_least_float32, check_label_smoothing, check_several_classes

NO_LABEL = -100
"""The value that stands for a missing label."""


class LabelLoss(nn.Module, ABC):
    """A distance from the student's logits to the true labels.

    Subclasses compute in float32, whatever comes in. An example without a label, marked ``-100``, costs exactly 0 and
    gets a gradient of exactly 0.

    Shape:
        - logits: ``(B, C)``.
        - labels: see the subclass.
        - output: ``(B,)``, one value per example.
    """

    @abstractmethod
    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each example, ``(B,)``; see the class for the formula.

        Args:
            logits: What the student showed.
            labels: What is true; ``-100`` where nobody knows.
        """


class ClassificationLoss(LabelLoss):
    r"""Cross-entropy between the student's class probabilities and the true class.

    .. math:: L_i = - \sum_c y_{ic} \log q_{ic}, \quad y_{ic} = (1 - \epsilon) [c = y_i] + \epsilon / C

    with :math:`q = \mathrm{softmax}(z)`. Averaged over a labelled batch it is the ``loss`` of a sequence
    classification model, and with smoothing that of ``Trainer`` with ``label_smoothing_factor``. Images that were mixed
    have a share of two classes: for them :math:`[c = y_i]` is the share of class c.

    Args:
        label_smoothing: Share :math:`\epsilon` of the target spread evenly over all classes, in [0, 1).

    Shape:
        - logits: ``(B, C)``, C >= 2, any float dtype; computed in float32.
        - labels: ``(B,)`` or ``(B, 1)`` whole numbers from 0 to C - 1, or ``-100``; or ``(B, C)`` shares of the classes
          that add up to 1 in each row, or a row of ``-100``.
        - output: ``(B,)`` float32, nats, >= 0; 0 without a label.

    Raises:
        ValueError: ``label_smoothing`` is not in [0, 1), the shapes do not fit, there is only one class, or the
            labels are neither whole numbers nor shares that add up to 1.

    Source:
        Label smoothing as in Szegedy et al. 2016, arXiv:1512.00567, section 7, over all classes, the true one
        included, as ``torch.nn.CrossEntropyLoss`` and transformers have it.

    Example:
        >>> import torch
        >>> ClassificationLoss()(torch.tensor([[2., 0.], [2., 0.]]), torch.tensor([0, -100]))
        tensor([0.1269, 0.0000])
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        check_label_smoothing(label_smoothing)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        if labels.is_floating_point() and labels.shape == logits.shape and logits.dim() == 2 and logits.shape[1] > 1:
            return self._mixed(at_least_float32(logits), labels)
        check_label_shape(logits, labels, (len(logits),), (len(logits), 1))
        check_several_classes(logits)
        if labels.is_floating_point():
            raise ValueError(
                f"Class labels must be whole numbers, got {labels.dtype}. Convert them with labels.long(), or use "
                "MultiLabelLoss or RegressionLoss if they are not classes."
            )
        return F.cross_entropy(
            at_least_float32(logits),
            labels.reshape(-1).long(),
            ignore_index=NO_LABEL,
            reduction="none",
            label_smoothing=self.label_smoothing,
        )

    def _mixed(self, logits: Tensor, shares: Tensor) -> Tensor:
        known = (shares != NO_LABEL).all(dim=-1)
        shares = shares.to(logits.dtype).masked_fill(~known.unsqueeze(-1), 1 / logits.shape[1])
        if not ((shares >= 0).all() and ((shares.sum(dim=-1) - 1).abs() < 1e-3).all()):
            raise ValueError(
                f"Labels of shape {tuple(shares.shape)} do not fit a task with one class an example: as shares of "
                "the classes they must be >= 0 and add up to 1 in each row. For several classes at once use "
                'MultiLabelLoss, or problem_type="multi_label_classification" in the config of the student.'
            )
        loss = F.cross_entropy(logits, shares, reduction="none", label_smoothing=self.label_smoothing)
        return loss.masked_fill(~known, 0.0)

    def extra_repr(self) -> str:
        return f"label_smoothing={self.label_smoothing}"


class MultiLabelLoss(LabelLoss):
    r"""Binary cross-entropy of each class as a yes-or-no question, averaged over the classes that have a label.

    .. math:: L_i = - \frac{1}{|K_i|} \sum_{c \in K_i}
        \left[ y_{ic} \log \sigma(z_{ic}) + (1 - y_{ic}) \log (1 - \sigma(z_{ic})) \right]

    with :math:`K_i` the labelled classes of the example. Averaged over a fully labelled batch it is the ``loss`` of a
    sequence classification model with ``problem_type="multi_label_classification"``.

    Shape:
        - logits: ``(B, C)``, any float dtype; computed in float32.
        - labels: ``(B, C)``, 0 or 1 or a probability, of any dtype; ``-100`` in single cells or whole rows.
        - output: ``(B,)`` float32, nats per labelled class, >= 0; 0 for a row without labels.

    Raises:
        ValueError: labels and logits differ in shape.

    Source:
        ``torch.nn.BCEWithLogitsLoss``, to which we add missing labels.

    Example:
        >>> import torch
        >>> MultiLabelLoss()(torch.tensor([[0., 2.], [0., 2.]]), torch.tensor([[1, 1], [1, -100]]))
        tensor([0.4100, 0.6931])
    """

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        check_label_shape(logits, labels, tuple(logits.shape))
        logits, known = at_least_float32(logits), labels != NO_LABEL
        targets = labels.to(logits.dtype).masked_fill(~known, 0.0)
        return mean_of_known(F.binary_cross_entropy_with_logits(logits, targets, reduction="none"), known)


class RegressionLoss(LabelLoss):
    r"""Mean squared error, averaged over the outputs that have a label.

    .. math:: L_i = \frac{1}{|K_i|} \sum_{c \in K_i} (z_{ic} - y_{ic})^2

    with :math:`K_i` the labelled outputs of the example. Averaged over a fully labelled batch it is the ``loss`` of a
    sequence classification model with ``problem_type="regression"``. A true value of exactly -100 cannot be told from
    a missing one: if yours has such values, rescale the labels, which regression likes anyway.

    Shape:
        - logits: ``(B, C)`` predictions, any float dtype; computed in float32.
        - labels: ``(B, C)`` numbers of any dtype, or ``(B,)`` where C is 1; ``-100`` in single cells or whole rows.
        - output: ``(B,)`` float32, squared units of the label, >= 0; 0 for a row without labels.

    Raises:
        ValueError: labels and predictions differ in shape.

    Source:
        ``torch.nn.MSELoss``, to which we add missing labels. ``(B, 1)`` predictions against ``(B,)`` labels, which
        would broadcast to ``(B, B)`` there, are paired row by row.

    Example:
        >>> import torch
        >>> RegressionLoss()(torch.tensor([[1.], [2.]]), torch.tensor([4.0, -100.0]))
        tensor([9., 0.])
    """

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        if logits.dim() == 2 and logits.shape[1] == 1 and labels.dim() == 1:
            labels = labels.unsqueeze(1)
        check_label_shape(logits, labels, tuple(logits.shape))
        logits, known = at_least_float32(logits), labels != NO_LABEL
        targets = labels.to(logits.dtype).masked_fill(~known, 0.0)
        return mean_of_known((logits - targets).square(), known)


def mean_of_known(values: Tensor, known: Tensor) -> Tensor:
    """The mean of each row over its known cells; 0 for a row that has none."""
    return values.masked_fill(~known, 0.0).sum(dim=-1) / known.sum(dim=-1).clamp(min=1)


def check_label_shape(logits: Tensor, labels: Tensor, *allowed: tuple[int, ...]) -> None:
    """Refuse logits that are not ``(B, C)``, and labels that do not go with them.

    Raises:
        ValueError: either is so.
    """
    if logits.dim() != 2 or tuple(labels.shape) not in allowed:
        several = labels.shape == logits.shape and not labels.is_floating_point()
        cure = ' For several classes at once: problem_type="multi_label_classification" in the student\'s config.'
        raise ValueError(
            f"Labels of shape {tuple(labels.shape)} do not fit logits of shape {tuple(logits.shape)}. Logits must be "
            f"(batch, classes); these would need labels of shape {' or '.join(str(shape) for shape in allowed)}."
            f"{cure if several else ''}"
        )
