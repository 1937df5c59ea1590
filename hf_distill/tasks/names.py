"""Which tasks there are, and which of the student's outputs are whose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedConfig

from hf_distill.labels import label_column
from hf_distill.losses import NO_LABEL

FIELD = "classification_tasks"
"""In the config of a multi-task student: the names of its tasks, in their order."""


class Tasks(Mapping[str, tuple[str, ...]]):
    """Tasks by name, each with the names of its classes, in the order of the student's outputs.

    The classes of all tasks are numbered through: a label of the second task is moved behind the classes of the first.
    A labelled example belongs to the task of its label. One without a label, ``-100``, belongs to no task, and is for
    the teachers of all of them to judge.

    Args:
        classes: For each task its class names, in the order in which its data counts them.

    Raises:
        ValueError: there is no task, a name cannot be told from a class, or a task has fewer than two classes or one
            of them twice.

    Example:
        >>> tasks = Tasks({"sst2": ["negative", "positive"], "cola": ["unacceptable", "acceptable"]})
        >>> tasks.joint
        ('sst2/negative', 'sst2/positive', 'cola/unacceptable', 'cola/acceptable')
        >>> tasks.own_labels("cola", torch.tensor([1, 3, -100]))
        tensor([-100,    1, -100])
        >>> tasks.judged_by("cola", torch.tensor([1, 3, -100]))
        tensor([False,  True,  True])
    """

    def __init__(self, classes: Mapping[str, Sequence[str]]) -> None:
        if not classes:
            raise ValueError('Tasks needs at least one task: Tasks({"NAME": ["CLASS", "CLASS"]}).')
        for task, names in classes.items():
            if not task or "/" in task:
                raise ValueError(f"A task cannot be called {task!r}: in TASK/CLASS the slash ends its name. Rename it.")
            if isinstance(names, str) or len(names) < 2 or len(set(names)) < len(names):
                raise ValueError(f"Task {task!r} needs two or more classes with different names, got {names!r}.")
        self._classes = {task: tuple(map(str, names)) for task, names in classes.items()}
        ends = list(accumulate(map(len, self._classes.values())))
        self._outputs = {
            task: slice(end - len(names), end) for (task, names), end in zip(self._classes.items(), ends, strict=True)
        }

    @classmethod
    def of(cls, config: PreTrainedConfig) -> Tasks | None:
        """The tasks of a multi-task student, from its config; ``None`` where it is a student of one task.

        Raises:
            ValueError: the names of its classes are not those of its tasks.
        """
        names = getattr(config, FIELD, None)
        if names is None:
            return None
        classes = [str(config.id2label[index]) for index in range(config.num_labels)]
        grouped = {task: [one.partition("/")[2] for one in classes if one.partition("/")[0] == task] for task in names}
        if [f"{task}/{one}" for task, its in grouped.items() for one in its] != classes:
            raise ValueError(
                f"The config has the tasks {list(names)} and the classes {classes}, which are not theirs, TASK/CLASS. "
                f"Make the student anew, with_tasks(model, tasks), or take {FIELD} out of the config."
            )
        return cls(grouped)

    @classmethod
    def refuse(cls, config: PreTrainedConfig) -> None:
        """Raise where a model has several tasks, whose classes would be weighed against each other.

        Raises:
            ValueError: it has; the message says how to get at one of them.
        """
        if (tasks := cls.of(config)) is not None:
            raise ValueError(
                f"This model has the tasks {list(tasks)}, and a choice among all their classes at once means nothing. "
                f"Cut the classifier of one out: task_model(model, {next(iter(tasks))!r})."
            )

    def __getitem__(self, task: str) -> tuple[str, ...]:
        if task not in self._classes:
            raise KeyError(f"There is no task {task!r}; there are {list(self._classes)}.")
        return self._classes[task]

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)

    def __contains__(self, task: object) -> bool:
        return task in self._classes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tasks) and list(self.items()) == list(other.items())  # the order counts

    def __hash__(self) -> int:
        return hash(tuple(self.items()))

    def __repr__(self) -> str:
        return f"Tasks({ {task: list(names) for task, names in self.items()} })"

    @property
    def joint(self) -> tuple[str, ...]:
        """The classes of all tasks as the student names them, ``TASK/CLASS``, in the order of its outputs."""
        return tuple(f"{task}/{name}" for task, names in self.items() for name in names)

    def outputs(self, task: str) -> slice:
        """Which of the student's outputs are a task's: ``logits[:, tasks.outputs(task)]``."""
        self[task]
        return self._outputs[task]

    def split(self, logits: Tensor) -> dict[str, Tensor]:
        """A multi-task model's logits, ``(B, C)``, by task."""
        return {task: logits[:, self.outputs(task)] for task in self}

    def own_labels(self, task: str, labels: Tensor) -> Tensor:
        """Labels as a task counts them itself, and ``-100`` for examples of other tasks.

        Raises:
            ValueError: labels are not one whole number an example.
        """
        if labels.is_floating_point() or (labels.dim() > 1 and labels.shape[1:] != (1,)):
            raise ValueError(
                f"Labels of shape {tuple(labels.shape)} and type {labels.dtype} do not say of which task an example "
                "is. With several tasks each example has one class, a whole number, and images are not mixed."
            )
        outputs = self.outputs(task)
        own = (labels >= outputs.start) & (labels < outputs.stop)
        found: Tensor = (labels - outputs.start).masked_fill(~own, NO_LABEL).reshape(-1)
        return found

    def judged_by(self, task: str, labels: Tensor) -> Tensor:
        """``(B,)``, which examples the teacher of a task has to judge: those of the task and those without a label."""
        own = torch.ne(self.own_labels(task, labels), NO_LABEL)
        return own | torch.eq(labels, NO_LABEL).reshape(-1)

    def rows(self, task: str, dataset: Any) -> list[int] | None:
        """Which rows of a data set the teacher of a task has to judge; ``None`` where its labels cannot be read."""
        column = label_column(dataset)
        if column is None:
            return None
        labels = torch.from_numpy(np.array(dataset.with_format("numpy")[column][:]))
        found: list[int] = self.judged_by(task, labels).nonzero().flatten().tolist()
        return found
