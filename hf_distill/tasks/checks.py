"""Do student, objective and data mean the same tasks?"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

from transformers import PreTrainedConfig

from hf_distill.labels import SINGLE_LABEL, label_names
from hf_distill.objective import Objective
from hf_distill.tasks.names import Tasks
from hf_distill.tasks.term import TaskTerm

logger = logging.getLogger(__name__)


def check_tasks(tasks: Tasks, dataset: Any, problem_type: str) -> None:
    """Raise where a training set cannot teach a student its tasks.

    Raises:
        ValueError: labels are of another kind, or a task has no row.
    """
    if problem_type != SINGLE_LABEL:
        raise ValueError(
            f"The student has the tasks {list(tasks)}, and its labels are those of {problem_type}. With several tasks "
            "each example has one class, a whole number, as joint_dataset writes it."
        )
    if idle := [task for task in tasks if tasks.rows(task, dataset) == []]:
        raise ValueError(
            f"No row of the training set is of task {idle[0]!r}; the student has the tasks {list(tasks)}. Put the data "
            "together with joint_dataset({TASK: dataset, ...}, tasks), or leave the task out."
        )


def warn_of_plain_names(config: PreTrainedConfig) -> None:
    """Warn where a student's classes are called as those of tasks are, and it is trained as a student of one."""
    names = label_names(config) or []
    groups = [name.partition("/")[0] for name in names if "/" in name]
    if len(groups) == len(names) and len(set(groups)) > 1:
        logger.warning(
            "The student's classes %s read like those of several tasks, but its config names none: they are taken for "
            "the classes of one. If they are tasks, make the student with with_tasks(model, tasks).", names,
        )  # fmt: skip


def check_terms(objective: Objective, tasks: Tasks | None, teachers: Collection[str]) -> None:
    """Raise where a term would take the outputs of several tasks for those of one, or the reverse.

    Raises:
        ValueError: a term is not within a :class:`TaskTerm` and would have to be; or is, for other tasks.
    """
    for name, term in objective.terms.items():
        if isinstance(term, TaskTerm) and term.tasks != tasks:
            raise ValueError(
                f"Term {name!r} is for {term.tasks}, and the student for {tasks or 'one task'}. Make the student for "
                "the same: with_tasks(student, tasks)."
            )
        if isinstance(term, TaskTerm) or tasks is None:
            continue
        if term.compares_classes or tasks.keys() & term.needs(teachers):
            raise ValueError(
                f"Term {name!r}, {term}, looks at all tasks of the student at once, {list(tasks)}. Say for which it "
                f"is: TaskTerm({type(term).__name__}(...), tasks, TASK), one for each."
            )
