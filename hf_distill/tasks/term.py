"""Terms of an objective that look at one task alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from hf_distill.losses import SoftTargetLoss
from hf_distill.objective import LabelTerm, LogitTerm, Objective, Term
from hf_distill.schedules import Schedule, as_schedule, constant
from hf_distill.tasks.loss import TaskLoss
from hf_distill.tasks.names import Tasks
from hf_distill.views import ModelView, StepView


class TaskTerm(Term):
    r"""A term that sees one task of a multi-task student as if it were the only one.

    .. math:: L_i = \ell_i \text{ of the term on the rows of task } k, \quad 0 \text{ on all others}

    The term gets the rows that the task's teacher has to judge, the task's outputs and its own labels. A teacher named
    after the task is followed without saying so, and else one that knows all tasks, under any other name; the term may
    name either. A loss that compares
    the examples of a batch compares those of the task, and its value counts once for each of them.

    Args:
        term: The term, with its weight.
        tasks: The tasks of the student.
        task: Which one.

    Raises:
        KeyError: there is no such task.
        ValueError: the term changes what flows through the student, which all tasks share.

    Example:
        >>> tasks = Tasks({"tone": ["bad", "good"], "topic": ["film", "music"]})
        >>> term = TaskTerm(LogitTerm(SoftTargetLoss(2.0), weight=0.7), tasks, "tone")
        >>> view = ModelView(torch.tensor([[0., 0., 5., 1.], [0., 0., 1., 1.]]))
        >>> teacher = ModelView(torch.tensor([[2., 0.], [0., 0.]]))
        >>> term.compute(StepView(view, {"tone": teacher}, labels=torch.tensor([1, 3])))
        tensor([0.4438, 0.0000])
    """

    def __init__(self, term: Term, tasks: Tasks, task: str) -> None:
        super().__init__(term.weight)
        tasks[task]
        if term.transforms():
            raise ValueError(
                f"{term} changes what flows through the student, for all tasks at once: put it beside the terms of the "
                "tasks, not within one."
            )
        self.term, self.tasks, self.task = term, tasks, task

    def compute(self, step: StepView) -> Tensor:
        logits = step.student.logits
        rows = self._rows(step)
        nothing = logits.new_zeros(len(logits), dtype=torch.float32)
        if not rows.any():
            # What learns beside the student has a gradient all the same, or processes would wait for each other.
            learning = [parameter.sum() for parameter in self.trained.parameters() if parameter.requires_grad]
            return nothing + 0.0 * sum([logits.float().sum(), *learning])
        part = self.term.compute(self._narrowed(step, rows))
        return nothing.masked_scatter(rows, part.float().expand(int(rows.sum())))

    def prepare(self, step: StepView) -> None:
        self.term.prepare(self._narrowed(step, torch.ones_like(self._rows(step))))  # for the shapes any row will do

    def _rows(self, step: StepView) -> Tensor:
        if step.labels is None:
            return torch.ones(len(step.student.logits), dtype=torch.bool, device=step.student.logits.device)
        return self.tasks.judged_by(self.task, step.labels)

    def _narrowed(self, step: StepView, rows: Tensor) -> StepView:
        outputs = self.tasks.outputs(self.task)

        def narrowed(view: ModelView, outputs: slice) -> ModelView:
            return ModelView(view.logits[rows, outputs], {path: value[rows] for path, value in view.features.items()})

        return replace(
            step,
            student=narrowed(step.student, outputs),
            teachers={
                name: narrowed(step.teachers[name], slice(None) if name == self.task else outputs)
                for name in self._followed(step.teachers)
            },
            labels=None if step.labels is None else self.tasks.own_labels(self.task, step.labels)[rows],
            label_loss=step.label_loss.loss if isinstance(step.label_loss, TaskLoss) else step.label_loss,
            mask=None if step.mask is None else step.mask[rows],
            example_ids=None if step.example_ids is None else step.example_ids[rows],
        )

    def _followed(self, names: Collection[str]) -> list[str]:
        """The one that the term names, the task's own teacher, or else those that know all tasks."""
        named: str | None = getattr(self.term, "teacher", None)
        if named is not None and named in names and (named == self.task or named not in self.tasks):
            return [named]
        return [self.task] if self.task in names else [name for name in names if name not in self.tasks]

    def check_teachers(self, names: Collection[str]) -> None:
        self.term.check_teachers(self._followed(names))

    def needs(self, names: Collection[str]) -> set[str]:
        return self.term.needs(self._followed(names))

    def student_layers(self) -> set[str]:
        return self.term.student_layers()

    def teacher_layers(self, name: str) -> set[str]:
        return self.term.teacher_layers(name) if name == self.task or name not in self.tasks else set()

    @property
    def loss(self) -> Any:
        """That of the term within, where it has one, for the logs and the card."""
        return getattr(self.term, "loss", None)

    @property
    def needs_example_ids(self) -> bool:
        return self.term.needs_example_ids

    @property
    def trained(self) -> nn.ModuleDict:
        return self.term.trained

    @property
    def may_train(self) -> bool:
        return self.term.may_train

    def __repr__(self) -> str:
        return f"TaskTerm({self.term}, {self.task!r})"


def multi_task_objective(
    tasks: Tasks,
    teachers: Collection[str] = (),
    temperature: float | Schedule = 2.0,
    distillation_weight: float | Schedule = 0.5,
    weights: Mapping[str, float] = MappingProxyType({}),
) -> Objective:
    r"""Labels and soft targets of several tasks, each with terms ``ce_TASK`` and ``kd_TASK`` of its own.

    .. math:: L = \frac{1}{B} \sum_k w_k \sum_{i \in k} \left[(1 - d)\, \mathrm{CE}_i + d\, \mathrm{KD}_i\right]

    It is what a trainer minimises for a multi-task student if it gets no objective, then with the temperature and
    weight of its arguments and all :math:`w_k = 1`. A task without a teacher learns from its labels alone.

    Args:
        tasks: The tasks of the student.
        teachers: Under which names the trainer gets teachers: that of a task for its own, another for one that knows
            all tasks.
        temperature: Softening of both distributions.
        distillation_weight: The teachers' share d, a number or a schedule within [0, 1]; labels get the rest.
            ``linear(1.0, 0.0)`` is the teacher annealing of BAM.
        weights: The :math:`w_k` that are not 1.

    Raises:
        KeyError: a weight is for no task.
        ValueError: there are several teachers that know all tasks, of which ``EnsembleTeacher`` makes one; or one of
            them beside a teacher for each task.

    Source:
        Clark et al. 2019, arXiv:1907.04829 (BAM), where T is 1.

    Example:
        >>> tasks = Tasks({"tone": ["bad", "good"], "topic": ["film", "music"]})
        >>> objective = multi_task_objective(tasks, ["tone"], temperature=4.0, weights={"topic": 0.5})
        >>> objective.settings_at(0.0)
        {'ce_tone_weight': 0.5, 'ce_topic_weight': 0.5, 'kd_tone_weight': 0.5, 'kd_tone_temperature': 4.0}
    """
    for task in weights:
        tasks[task]
    share = as_schedule(distillation_weight)
    ce: dict[str, Term] = {}
    kd: dict[str, Term] = {}
    for task in tasks:
        factor = weights.get(task, 1.0)
        labels, soft = LabelTerm(factor), LogitTerm(SoftTargetLoss(temperature), _times(share, factor))
        taught = TaskTerm(soft, tasks, task)
        if taught.needs(teachers):
            labels = LabelTerm(_times(_rest(share), factor))
            kd[f"kd_{task}"] = taught
        if labels.weight != as_schedule(0.0):
            ce[f"ce_{task}"] = TaskTerm(labels, tasks, task)
    objective = Objective(**ce, **kd)
    objective.check_teachers(teachers)
    if idle := sorted(set(teachers) - objective.followed(teachers)):
        raise ValueError(
            f"No task follows the teacher {idle[0]!r}, for each has one of its own. Leave it out, or give it terms in "
            f"an objective: TaskTerm(LogitTerm(loss, teacher={idle[0]!r}), tasks, TASK)."
        )
    return objective


def _rest(share: Schedule) -> Schedule:
    if share.is_constant:
        return constant(1.0 - share(0.0))
    return Schedule(f"1 - {share}", lambda progress: 1.0 - share(progress))


def _times(weight: Schedule, factor: float) -> Schedule:
    if weight.is_constant or factor == 1.0:
        return constant(factor * weight(0.0)) if weight.is_constant else weight
    return Schedule(f"{factor} * ({weight})", lambda progress: factor * weight(progress))
