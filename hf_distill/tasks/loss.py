"""The labels' loss of a multi-task student."""

from __future__ import annotations

import torch
from torch import Tensor

from hf_distill.losses import LabelLoss
from hf_distill.tasks.names import Tasks


class TaskLoss(LabelLoss):
    r"""The loss of each example within the task of its label.

    .. math:: L_i = \ell(z_{i, k(i)}, y_i)

    with :math:`z_{i, k}` the outputs of task k and :math:`k(i)` the task that label :math:`y_i` belongs to. The outputs
    of other tasks get a gradient of exactly 0 from the example.

    Args:
        tasks: The tasks of the student.
        loss: What counts within a task.

    Shape:
        - logits: ``(B, C)`` with the outputs of all tasks.
        - labels: ``(B,)`` in the joint numbering, or ``-100``.
        - output: ``(B,)`` float32, 0 without a label.

    Raises:
        ValueError: labels are not one whole number an example.

    Source:
        Clark et al. 2019, arXiv:1907.04829, the part without teachers.

    Example:
        >>> from hf_distill.losses import ClassificationLoss
        >>> loss = TaskLoss(Tasks({"tone": ["bad", "good"], "topic": ["film", "music"]}), ClassificationLoss())
        >>> loss(torch.tensor([[2., 0., 9., 9.], [9., 0., 1., 1.]]), torch.tensor([0, 3]))
        tensor([0.1269, 0.6931])
    """

    def __init__(self, tasks: Tasks, loss: LabelLoss) -> None:
        super().__init__()
        self.tasks, self.loss = tasks, loss

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        parts = [self.loss(own, self.tasks.own_labels(task, labels)) for task, own in self.tasks.split(logits).items()]
        return torch.stack(parts).sum(dim=0)
