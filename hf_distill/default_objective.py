"""The objective that two numbers, a temperature and a weight, stand for."""

from __future__ import annotations

from collections.abc import Sequence

from hf_distill.labels import MULTI_LABEL, REGRESSION
from hf_distill.losses import (
    ClassificationLoss,
    LabelLoss,
    MultiLabelLoss,
    MultiLabelTargetLoss,
    PairLoss,
    RegressionLoss,
    RegressionTargetLoss,
    SoftTargetLoss,
)
from hf_distill.objective import LabelTerm, LogitTerm, Objective, Term
from hf_distill.tasks.loss import TaskLoss
from hf_distill.tasks.names import Tasks
from hf_distill.tasks.term import multi_task_objective
from hf_distill.training_args import DistillationTrainingArguments


def label_loss(problem_type: str, label_smoothing: float = 0.0, tasks: Tasks | None = None) -> LabelLoss:
    """The loss against labels that a classification head of transformers would compute for this kind of task.

    With several tasks it is that of the task which the label belongs to.
    """
    if tasks is not None:
        return TaskLoss(tasks, ClassificationLoss(label_smoothing))
    if problem_type == REGRESSION:
        return RegressionLoss()
    return MultiLabelLoss() if problem_type == MULTI_LABEL else ClassificationLoss(label_smoothing)


def teacher_loss(problem_type: str, temperature: float) -> PairLoss:
    """The soft-target loss for this kind of task."""
    if problem_type == REGRESSION:
        return RegressionTargetLoss()
    return MultiLabelTargetLoss(temperature) if problem_type == MULTI_LABEL else SoftTargetLoss(temperature)


def default_objective(
    problem_type: str,
    teachers: Sequence[str],
    temperature: float,
    distillation_weight: float,
    tasks: Tasks | None = None,
) -> Objective:
    """Labels and soft targets, weighted against each other; labels alone where there is no teacher, and the reverse.

    Several teachers share the weight equally, each with a term of its own. Several tasks have terms of their own each.
    """
    if tasks is not None:
        return multi_task_objective(tasks, teachers, temperature, distillation_weight)
    if not teachers:
        return Objective(ce=LabelTerm())
    terms: dict[str, Term] = {}
    if distillation_weight < 1.0:
        terms["ce"] = LabelTerm(weight=1.0 - distillation_weight)
    for teacher in teachers:
        name = "kd" if len(teachers) == 1 else f"kd_{teacher}"
        weight = distillation_weight / len(teachers)
        terms[name] = LogitTerm(teacher_loss(problem_type, temperature), weight, teacher if len(teachers) > 1 else None)
    return Objective(**terms)


def check_settings_agree(args: DistillationTrainingArguments, objective: Objective | None) -> None:
    """Raise where an explicit objective comes together with the two numbers, of which it would know nothing.

    Raises:
        TypeError: ``args`` are plain ``TrainingArguments``.
        ValueError: both were given.
    """
    if not isinstance(args, DistillationTrainingArguments):
        raise TypeError(
            f"args must be DistillationTrainingArguments, got {type(args).__name__}: change the name, the fields stay."
        )
    fields = DistillationTrainingArguments.__dataclass_fields__
    changed = [name for name in ("temperature", "distillation_weight") if getattr(args, name) != fields[name].default]
    if objective is not None and changed:
        raise ValueError(
            f"Both an objective and {' and '.join(changed)} were given. Put the numbers into the objective's terms, as "
            "in LogitTerm(SoftTargetLoss(temperature), weight), and leave the arguments at their defaults."
        )
