"""Can the objective do with the task? Asked once, before anything is trained."""

from __future__ import annotations

import torch

from hf_distill.losses import ClassificationLoss
from hf_distill.objective import Objective
from hf_distill.views import ModelView, StepView


def check_objective(objective: Objective, classes: int, mixed_labels: bool = False) -> None:
    """Raise where a term's loss is not made for so many classes, or not for mixed labels.

    Each term is computed once on made-up logits, also one whose weight begins at 0. Terms that look inside the models
    are left out.

    Args:
        objective: What is to be minimised, with one teacher at most.
        classes: How many there are, at least 2.
        mixed_labels: Whether labels are shares of the classes, as after mixup.

    Raises:
        ValueError: a loss refuses; the message names the term and has what the loss says.

    Example:
        >>> from hf_distill import LogitTerm
        >>> from hf_distill.losses import SoftTargetLoss
        >>> check_objective(Objective(kd=LogitTerm(SoftTargetLoss())), classes=2)
    """
    shares = torch.eye(2, classes)  # one example of each of the first two classes
    view = ModelView(shares)
    labels = shares if mixed_labels else torch.arange(2)
    step = StepView(view, {"teacher": view}, labels, label_loss=ClassificationLoss())
    for name, term in objective.terms.items():
        if not term.student_layers():
            try:
                term.compute(step)
            except ValueError as error:
                raise ValueError(f"The term {name!r} does not suit this task. {error}") from error
