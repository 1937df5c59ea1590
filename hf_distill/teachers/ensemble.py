"""Several teachers as one."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from hf_distill.labels import class_order
from hf_distill.teachers.base import Teacher
from hf_distill.teachers.model import as_teacher
from hf_distill.views import ModelView

MEMBERS = "members"
"""Where an ensemble finds what each of its teachers made for itself, by number."""


class EnsembleTeacher(Teacher):
    """Several teachers that answer as one, by the weighted mean of their logits.

    The mean of logits is the renormalised geometric mean of the softened distributions, at every temperature.

    Args:
        teachers: Models, names or teachers.
        weights: One number > 0 a teacher; equal where left out. They are normalised to a sum of 1.

    Raises:
        ValueError: there is no teacher, or the weights do not fit, or the teachers have different classes.

    Source:
        Hinton, Vinyals, Dean 2015, arXiv:1503.02531: "the ensemble" as one teacher by a geometric mean.
    """

    def __init__(
        self, teachers: Sequence[PreTrainedModel | str | Path | Teacher], weights: Sequence[float] | None = None
    ) -> None:
        if not teachers:
            raise ValueError("EnsembleTeacher needs at least one teacher.")
        weights = [1.0] * len(teachers) if weights is None else list(weights)
        if len(weights) != len(teachers) or min(weights) <= 0:
            raise ValueError(f"{len(teachers)} teachers need as many weights > 0, got {weights}.")
        self.teachers = [as_teacher(teacher) for teacher in teachers]
        if any(teacher.follows_student for teacher in self.teachers):
            raise ValueError(
                "A teacher that follows the student is no part of an ensemble: pass both under names, teacher_model="
                '{"average": MovingAverageTeacher(), "other": ...}, and give each a term.'
            )
        self.weights = [weight / sum(weights) for weight in weights]
        self.name = " + ".join(teacher.name for teacher in self.teachers)
        self._align()
        self.shared_columns = frozenset().union(*(teacher.shared_columns for teacher in self.teachers))
        self.raw_columns = frozenset().union(*(teacher.raw_columns for teacher in self.teachers))
        self.own_tokens = any(teacher.own_tokens for teacher in self.teachers)

    def _align(self) -> None:
        """Take the class order of the first teacher that has names, and put the others' answers into it."""
        known = [teacher.classes for teacher in self.teachers if teacher.classes is not None]
        self.classes = next((classes for classes in known if not isinstance(classes, int)), known[0] if known else None)
        self._orders = [
            None if self.classes is None or teacher.classes is None else class_order(self.classes, teacher.classes)
            for teacher in self.teachers
        ]

    def __call__(self, inputs: Mapping[str, Any]) -> ModelView:
        shared = {name: value for name, value in inputs.items() if name != MEMBERS}
        own = inputs.get(MEMBERS, {})
        answers = [teacher({**shared, **own.get(index, {})}).logits for index, teacher in enumerate(self.teachers)]
        ordered = [
            logits if order is None else logits[:, order] for logits, order in zip(answers, self._orders, strict=True)
        ]
        weighted = [weight * logits.float() for weight, logits in zip(self.weights, ordered, strict=True)]
        return ModelView(logits=torch.stack(weighted).sum(dim=0))

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What each teacher makes for itself; nothing where one of them cannot, as in an evaluation set."""
        made = {index: teacher.collate(rows) for index, teacher in enumerate(self.teachers) if teacher.raw_columns}
        return {MEMBERS: made} if made and all(made.values()) else {}

    def for_worker(self) -> EnsembleTeacher:
        twin = copy.copy(self)
        twin.teachers = [teacher.for_worker() for teacher in self.teachers]
        return twin

    def fingerprint(self) -> dict[str, str]:
        members = {
            f"{index} {name}": value
            for index, teacher in enumerate(self.teachers)
            for name, value in teacher.fingerprint().items()
        }
        # Only where some differ, so that answers that were kept before stay those of the same teacher.
        orders = {"class orders": str(self._orders)} if any(self._orders) else {}
        return {**members, "weights of teachers": str(self.weights), **orders}

    def models(self) -> list[nn.Module]:
        return [model for teacher in self.teachers for model in teacher.models()]

    def parameters(self) -> Iterator[nn.Parameter]:
        return chain.from_iterable(teacher.parameters() for teacher in self.teachers)

    def to(self, device: torch.device) -> None:
        for teacher in self.teachers:
            teacher.to(device)

    def vocabulary(self) -> dict[str, Any]:
        """What all its teachers know of the tokens that they share.

        Raises:
            ValueError: two of them know different ones.
        """
        known = [found for teacher in self.teachers if (found := teacher.vocabulary())]
        words = [found for found in known if found["words"] is not None]
        if any(found["size"] != known[0]["size"] for found in known) or any(
            found["words"] != words[0]["words"] for found in words
        ):
            raise ValueError(
                f"The teachers of {self.name!r} have different tokenizers and would read the same token ids. Let those "
                "that differ from the student tokenize the text again: ModelTeacher(model, processing_class=TOKENIZER, "
                "text_columns=[...])."
            )
        return next(iter([*words, *known]), {})

    def images(self) -> list[dict[str, Any]]:
        return [known for teacher in self.teachers for known in teacher.images()]

    def check_student(self, config: PreTrainedConfig, processing_class: object) -> None:
        for teacher in self.teachers:
            teacher.check_student(config, processing_class)

    def check_dataset(self, dataset: object) -> None:
        for teacher in self.teachers:
            teacher.check_dataset(dataset)
        self._align()  # a column may have said its class names only now

    def check_images(self, shape: Sequence[int]) -> None:
        for teacher in self.teachers:
            teacher.check_images(shape)
