"""Asking the teachers: what they may read, in which order their classes are, and whether they are worth following."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from accelerate.utils import send_to_device
from datasets import Dataset
from torch import nn
from transformers.trainer_utils import has_length

from hf_distill.batches import COUNTS, TEACHER_INPUTS, TeacherCollator, spread_rows, with_labels
from hf_distill.example_ids import EXAMPLE_ID, count_of_examples
from hf_distill.features import check_no_class_scores, tapped
from hf_distill.image_check import check_student_reads, holds_images
from hf_distill.image_views import stored_rows
from hf_distill.labels import class_order, classes_of, names_in
from hf_distill.publishing import PublishingTrainer
from hf_distill.randomness import isolated_randomness
from hf_distill.tasks.asked import put_back, taken
from hf_distill.tasks.checks import check_terms
from hf_distill.tasks.names import Tasks
from hf_distill.teacher_check import check_teacher
from hf_distill.teachers.model import read_by
from hf_distill.views import ModelView

logger = logging.getLogger(__name__)


class AskingTrainer(PublishingTrainer):
    """The part of :class:`~hf_distill.DistillationTrainer` that asks the teachers.

    ``Trainer`` drops every column that the student does not read, and takes the order of its classes for granted. A
    teacher gets its own inputs beside the student's, and its answers are put into the student's order.

    Attributes:
        problem_type: The kind of task, as in :func:`hf_distill.labels.problem_type`.
        examples: How many the training set has, where the objective keeps something about each; else ``None``.
        tasks: Those of the student, where it has several.
    """

    problem_type: str
    examples: int | None
    tasks: Tasks | None
    data_collator: Callable[[list[Any]], dict[str, Any]]
    _signature_columns: list[str] | None

    def prepare_teachers(self) -> None:
        """Check that the teachers fit the objective, the student and the data, and let them have their inputs.

        Raises:
            ValueError: a teacher does not fit, or examples have wrong numbers; the message names the cure.
            KeyError: the objective names a teacher, or a teacher a column, that does not exist; or the objective needs
                to know which example is which, and the training set does not say.
        """
        check_terms(self.distillation_objective, self.tasks, self.teachers)
        self.distillation_objective.check_teachers(self.teachers)
        if idle := sorted(self.teachers.keys() - self.distillation_objective.followed(self.teachers)):
            logger.warning("No term of the objective follows the teacher %s: it teaches nothing.", ", ".join(idle))
        for teacher in self.teachers.values():
            teacher.begin(self.model)
        own = {parameter.data_ptr() for parameter in self.model.parameters() if parameter.numel()}
        self._class_orders: dict[str, list[int] | None] = {}
        for name, teacher in self.teachers.items():
            if own & {parameter.data_ptr() for parameter in teacher.parameters()}:
                raise ValueError(f"Teacher {teacher.name!r} and the student share weights: pass copy.deepcopy(model).")
            teacher.check_student(self.model.config, self.processing_class)
            rows = self._rows_of(name)
            teacher.check_dataset(self.train_dataset if rows is None else self.train_dataset.select(rows))
            if teacher.classes is not None:
                self._class_orders[name] = self._class_order(name, teacher.classes)
            teacher.to(self.args.device)
        known = read_by(self.model)
        shared = frozenset().union(*(teacher.shared_columns for teacher in self.teachers.values()))
        self._hidden_from_student = (shared - known) | {"labels", TEACHER_INPUTS, COUNTS, EXAMPLE_ID}
        numbered = self.distillation_objective.needs_example_ids
        self.examples = count_of_examples(self.train_dataset) if numbered and self.train_dataset is not None else None
        if numbered or any(teacher.raw_columns for teacher in self.teachers.values()):
            self.data_collator = TeacherCollator(self.data_collator, self.teachers, known, numbered, self.tasks)
        self._check_images()

    def _rows_of(self, name: str) -> list[int] | None:
        """Which rows of the training set a teacher is for: those of its task; ``None`` for all, or if unknown."""
        if self.tasks is None or name not in self.tasks:
            return None
        return self.tasks.rows(name, self.train_dataset)

    def first_rows(self, count: int) -> list[int]:
        """The first rows of the training set, and with several tasks the first that each of their teachers judges."""
        firsts = [(self._rows_of(task) or [0])[0] for task in self.tasks or ()]
        return sorted({*range(count), *firsts})

    def _class_order(self, name: str, teacher: Sequence[str] | int) -> list[int] | None:
        """Where the student has no names for its classes those of the data count, if they are the teacher's.

        A teacher with the name of a task is for that one, and any other for all.
        """
        if self.tasks is not None:
            try:
                return class_order(self.tasks.get(name, self.tasks.joint), teacher)
            except ValueError as error:
                raise ValueError(
                    f"Teacher {name!r}: {error} The teacher of one task is named after it, one of {list(self.tasks)}: "
                    "teacher_model={TASK: ...}; one that knows all of them has the student's classes, TASK/CLASS."
                ) from error
        student, data = classes_of(self.model.config), names_in(stored_rows(self.train_dataset))
        order = class_order(student, teacher)
        if isinstance(student, int) and data is not None:
            with suppress(ValueError):  # other words may mean the same
                order = class_order(data, teacher)
        return order

    def _check_images(self) -> None:
        """See that student and teachers can read the images as the collator gives them, which may resize."""
        shape = self.image_shape()
        if shape is None:
            return
        if getattr(self.model, "main_input_name", None) == "pixel_values":
            check_student_reads(self.model, shape)
        for teacher in self.teachers.values():
            if "pixel_values" in teacher.shared_columns:
                teacher.check_images(shape)

    def image_shape(self) -> tuple[int, ...] | None:
        """Channels, height and width of the images of the training; ``None`` where there are none."""
        if not holds_images(self.train_dataset):
            return None
        with isolated_randomness():
            batch = next(self.collated(range(2)))  # two, for those who mix images
        return tuple(batch["pixel_values"].shape[1:])

    # ---- What is read ----

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            super()._set_signature_columns_if_needed()
            read = [teacher.shared_columns | teacher.raw_columns for teacher in self.teachers.values()]
            read.append(read_by(self.model) | {"labels"})  # which the loss reads, whether or not the student does
            if self.distillation_objective.needs_example_ids:
                read.append(frozenset({EXAMPLE_ID}))
            known: list[str] = self._signature_columns or []
            self._signature_columns = known + sorted(frozenset().union(*read).difference(known))

    def inputs_of_student(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """A batch without what only teachers and the loss look at."""
        return {key: value for key, value in inputs.items() if key not in self._hidden_from_student}

    def collated(self, rows: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Batches made of these rows of the training set, as far as there are so many."""
        dataset, collator = self.train_dataset, self.data_collator
        if not has_length(dataset):
            dataset = list(islice(dataset, rows[-1] + 1))
        rows = [row for row in rows if row < len(dataset)]
        if isinstance(dataset, Dataset):
            dataset = self._remove_unused_columns(dataset)
        else:
            collator = self._get_collator_with_removed_columns(collator)
        for start in range(0, len(rows), self.args.eval_batch_size):
            yield with_labels(collator([dataset[row] for row in rows[start : start + self.args.eval_batch_size]]))

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """As in ``Trainer``, but DeepSpeed's precision is for the student: what teachers are given stays as it is."""
        own = inputs.get(TEACHER_INPUTS)
        prepared: dict[str, Any] = super()._prepare_inputs(
            {key: value for key, value in inputs.items() if key != TEACHER_INPUTS}
        )
        return prepared if own is None else {**prepared, TEACHER_INPUTS: send_to_device(own, self.args.device)}

    # ---- What is answered ----

    def ask(self, name: str, inputs: Mapping[str, Any], features: bool = False, gradient: bool = False) -> ModelView:
        """A teacher's answer to a batch, in the student's class order, with the features of its layers if wanted.

        The teacher of one of several tasks is asked about the examples that it has to judge, and the others have 0.

        Args:
            name: The teacher's.
            inputs: The batch.
            features: Whether the features are wanted.
            gradient: Whether answer and features shall carry the gradient to images that have one.

        Raises:
            ValueError: the order differs and a feature lies in it, so that it would have to be reordered too.
        """
        labels = inputs.get("labels")
        if self.tasks is None or name not in self.tasks or labels is None:
            return self._answer(name, inputs, features, gradient)
        rows = self.tasks.judged_by(name, labels)
        if not rows.any():
            if self.teachers[name].raw_columns:  # of which it could make nothing
                return ModelView(torch.zeros(len(rows), len(self.tasks[name]), device=rows.device))
            rows[0] = True  # its features have a shape, which an adapter may need to know
        view = self._answer(name, taken(inputs, rows), features, gradient)
        features_of_all = {path: put_back(seen, rows) for path, seen in view.features.items()}
        return ModelView(put_back(view.logits, rows), features_of_all)

    def _answer(self, name: str, inputs: Mapping[str, Any], features: bool, gradient: bool) -> ModelView:
        teacher, own = self.teachers[name], inputs.get(TEACHER_INPUTS, {}).get(name, {})
        layers = self.distillation_objective.teacher_layers(name) if features else ()
        model = nn.Identity() if teacher.live_model is None else teacher.live_model
        alive = layers if teacher.live_model is not None else ()
        wanted = gradient and torch.is_grad_enabled()
        with torch.set_grad_enabled(wanted), self.accelerator.autocast(), tapped(model, alive) as seen:
            view = teacher({**inputs, **own})
        shown = seen or {path: view.features[path] for path in layers}
        order = self._class_orders.get(name)
        if order is None:
            return replace(view, features=shown)
        check_no_class_scores(teacher.name, shown, len(order))
        return replace(view, logits=view.logits[:, order], features=shown)

    def able_to_answer(self, inputs: Mapping[str, Any]) -> set[str]:
        """All teachers; none where one lacks its columns, as in an evaluation set, or where they follow the student."""
        if all(teacher.follows_student for teacher in self.teachers.values()):
            return set()
        made = inputs.get(TEACHER_INPUTS, {})
        able = {name for name, teacher in self.teachers.items() if not teacher.raw_columns or name in made}
        return able if len(able) == len(self.teachers) else set()

    def score_teachers(self) -> dict[str, float]:
        """Score each teacher on ``args.teacher_score_examples`` examples, spread evenly over the training set.

        Returns:
            The score under each teacher's name: balanced accuracy, or R² for regression. A teacher that cannot be
            scored, for want of labels, is left out, as is one that knows nothing yet because it follows the student.
            The teacher of a task is scored on examples of the task, and one that knows several under ``TEACHER/TASK``
            for each.

        Raises:
            ValueError: a teacher is near chance, or answers NaN.
        """
        wanted = self.args.teacher_score_examples
        if not self.teachers or not wanted or self.train_dataset is None or not has_length(self.train_dataset):
            return {}
        experienced = [name for name, teacher in self.teachers.items() if not teacher.follows_student]
        if not experienced:
            return {}
        if self.tasks is None:
            batches = self._batches_of(range(len(self.train_dataset)), wanted)
            scores = {name: self._score(name, batches) for name in experienced}
        else:
            scores = {}
            for task in self.tasks:
                batches = self._batches_of(self._rows_of(task) or range(len(self.train_dataset)), wanted)
                for name in experienced:
                    if name == task or name not in self.tasks:
                        scores[name if name == task else f"{name}/{task}"] = self._score(name, batches, task)
        return {name: score for name, score in scores.items() if score is not None}

    def _batches_of(self, rows: Sequence[int], wanted: int) -> list[dict[str, Any]]:
        with isolated_randomness():
            return list(self.collated([rows[place] for place in spread_rows(len(rows), wanted)]))

    def _score(self, name: str, batches: list[dict[str, Any]], task: str | None = None) -> float | None:
        logits = torch.cat([self.ask(name, self._prepare_inputs(batch)).logits.float().cpu() for batch in batches])
        labels = torch.cat([batch["labels"] for batch in batches]) if "labels" in batches[0] else None
        if self.tasks is not None and task is not None:
            labels = None if labels is None else self.tasks.own_labels(task, labels)
            logits = logits if name == task else logits[:, self.tasks.outputs(task)]
        title = self.teachers[name].name + ("" if task is None else f", asked about {task}")
        score = check_teacher(title, logits, labels, self.problem_type)
        if score is not None:
            logger.info("Teacher %r scores %.3f on %d training examples.", title, score, len(logits))
        return score
