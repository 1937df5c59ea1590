"""Compare a student with its teacher and with a control that was trained without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from hf_distill.batches import spread_rows
from hf_distill.environment import library_versions, machine
from hf_distill.evaluation.comparable import by_split, check_counts, check_labels, labelled_splits
from hf_distill.evaluation.prediction import Collator, Predictions, predict
from hf_distill.evaluation.scores import (
    agreement,
    class_scores,
    gap_closed,
    kl_nats,
    mean_and_std,
    over_seeds,
    own_scores,
)
from hf_distill.evaluation.speed import Speed, count_parameters, measure_speed, size_mb
from hf_distill.labels import class_order, classes_of, label_names
from hf_distill.redaction import redacted
from hf_distill.report import DistillationReport
from hf_distill.tasks.names import Tasks

SPEED_EXAMPLES = 32


@dataclass(frozen=True)
class ModelResult:
    """What was found out about one model on one split.

    Args:
        predictions: Its logits, and the labels.
        parameters: Their number; ``None`` for predictions that were made elsewhere.
        size_mb: Megabytes of its weights on disk.
        speed: How fast it answers here.
    """

    predictions: Predictions
    parameters: int | None = None
    size_mb: float | None = None
    speed: Speed | None = None

    def figures(self) -> dict[str, Any]:
        """The numbers that do not depend on the split."""
        return {
            "parameters": self.parameters,
            "size_mb": self.size_mb,
            "latency_ms": self.speed.latency_ms if self.speed else None,
            "throughput_per_s": self.speed.throughput_per_s if self.speed else None,
        }


_BySplit = dict[str, ModelResult]


def evaluate_model(
    model: Any,
    dataset: Any,
    data_collator: Collator | None = None,
    batch_size: int = 64,
    device: torch.device | str | None = None,
    *,
    bf16: bool = False,
    desc: str = "Evaluating",
) -> ModelResult:
    """A model's predictions, size and speed. Arguments as in :func:`~hf_distill.evaluation.prediction.predict`.

    Speed is measured in the model's own precision on 32 rows spread evenly over the dataset.
    """
    predictions = predict(model, dataset, data_collator, batch_size, device, bf16=bf16, desc=desc)
    rows = [dataset[row] for row in spread_rows(len(dataset), SPEED_EXAMPLES)]
    speed = measure_speed(model, rows, data_collator, device)
    return ModelResult(predictions, count_parameters(model), size_mb(model), speed)


def compare(
    student: Any,
    teacher: Any,
    dataset: Any,
    control: Any = None,
    *,
    data_collator: Collator | None = None,
    teacher_dataset: Any = None,
    teacher_collator: Collator | None = None,
    seeds: Sequence[int] = (),
    dataset_name: str = "",
    split: str = "validation",
    batch_size: int = 64,
    device: torch.device | str | None = None,
    bf16: bool = False,
    command: str | None = None,
) -> DistillationReport:
    """Teacher, student and control side by side on the same rows. For single-label classification.

    Args:
        student: The distilled model, or a sequence of them, one a seed.
        teacher: The model it learned from, or :class:`Predictions` that were made elsewhere, in the student's class
            order (a dict of them by split where ``dataset`` is a dict).
        dataset: A labelled split, or a dict of splits by name, such as a ``DatasetDict``. The report is then about
            ``test`` where that is labelled, else about ``validation``; the others stand under ``other_splits``, and
            those without labels are left out.
        control: The same student trained the same way without the teacher; as many models as ``student``, seed by seed.
        data_collator: For student and control; default ``transformers.default_data_collator``.
        teacher_dataset: The same rows in the same order, prepared for the teacher; default ``dataset``.
        teacher_collator: For the teacher; default ``data_collator``.
        seeds: The seeds of the students, for the report.
        dataset_name: What the report calls the dataset.
        split: What the report calls the split where ``dataset`` is a single one.
        batch_size: Rows a batch.
        device: Where to run; default where each model is.
        bf16: Predict under bfloat16 autocast; speed is measured without.
        command: The command that led here, for the report.

    Raises:
        ValueError: the split is empty, unlabelled or of one class, the task is not single-label classification,
            the models have different classes or several tasks, or there are not as many controls or seeds as students.
    """
    students, controls = _as_list(student), _as_list(control)
    check_counts(students, controls, seeds)
    Tasks.refuse(students[0].config)
    splits = labelled_splits(dataset if isinstance(dataset, Mapping) else {split: dataset})
    main = next((name for name in ("test", "validation") if name in splits), next(iter(splits)))
    classes = classes_of(students[0].config)
    order = None if _is_predictions(teacher) else class_order(classes, classes_of(teacher.config))
    for other in (*students[1:], *controls):
        if class_order(classes, classes_of(other.config)) is not None:
            raise ValueError("Students and controls order their classes differently. Give all the same id2label.")

    def run(models: list[Any], rows: Mapping[str, Any], collator: Collator | None, role: str) -> list[_BySplit]:
        settings: dict[str, Any] = {"batch_size": batch_size, "device": device, "bf16": bf16}
        return [
            {
                name: evaluate_model(model, rows[name], collator, **settings, desc=f"{role} on {name}")
                if name == main
                else ModelResult(predict(model, rows[name], collator, **settings, desc=f"{role} on {name}"))
                for name in splits
            }
            for model in models
        ]

    of_students = run(students, splits, data_collator, "student")
    for name in splits:
        check_labels(of_students[0][name].predictions, name)
    of_controls = run(controls, splits, data_collator, "control")
    if _is_predictions(teacher):
        of_teacher = {name: ModelResult(predictions) for name, predictions in by_split(teacher, splits).items()}
    else:
        teacher_rows = splits if teacher_dataset is None else by_split(teacher_dataset, splits)
        [of_teacher] = run([teacher], teacher_rows, teacher_collator or data_collator, "teacher")
    of_teacher = {name: _aligned(of_teacher[name], of_students[0][name], order, name) for name in splits}

    results = {"teacher": [of_teacher], "student": of_students, "control": of_controls}
    figures = {role: [seed[main].figures() for seed in seeds] for role, seeds in results.items()}
    names = _class_names(students[0], teacher)
    reports = {
        name: _split_report({role: [seed[name] for seed in runs] for role, runs in results.items()}, figures, names)
        for name in splits
    }
    return DistillationReport(
        **reports.pop(main),
        split=main,
        other_splits=reports,
        seeds=list(seeds),
        dataset=redacted(dataset_name),
        machine=machine(device if device is not None else next(students[0].parameters()).device),
        versions=library_versions(),
        command=redacted(command),
    )


def _split_report(
    results: Mapping[str, Sequence[ModelResult]], figures: Mapping[str, Sequence[dict[str, Any]]], names: Sequence[str]
) -> dict[str, Any]:
    """All that is said about one split, from each role's results seed by seed."""
    predictions = {role: [result.predictions for result in seeds] for role, seeds in results.items()}
    scores = {role: [own_scores(seed) for seed in seeds] for role, seeds in predictions.items()}
    accuracy = {role: [seed["accuracy"] for seed in seeds] for role, seeds in scores.items()}
    [teacher] = predictions["teacher"]
    agreed, agreed_std = mean_and_std([agreement(student, teacher) for student in predictions["student"]])
    distance, distance_std = mean_and_std([kl_nats(student, teacher) for student in predictions["student"]])
    gap, gap_std = gap_closed(accuracy["teacher"][0], accuracy["student"], accuracy["control"])
    models = {
        role: {**over_seeds(scores[role]), **over_seeds(figures[role]), **class_scores(seeds, names)} if seeds else None
        for role, seeds in predictions.items()
    }
    return {
        **models,
        "agreement": agreed,
        "agreement_std": agreed_std,
        "kl_nats": distance,
        "kl_nats_std": distance_std,
        "gap_closed": gap,
        "gap_closed_std": gap_std,
        "examples": len(teacher.logits),
    }


def _aligned(teacher: ModelResult, student: ModelResult, order: Sequence[int] | None, split: str) -> ModelResult:
    """The teacher's result with its logits in the student's class order, once it is sure that the rows are the same."""
    found, expected = teacher.predictions, student.predictions
    if found.logits.shape != expected.logits.shape:
        raise ValueError(
            f"On {split!r} the teacher's logits have shape {found.logits.shape} and the student's "
            f"{expected.logits.shape}. Give both the same rows and the same classes."
        )
    if found.labels is not None and expected.labels is not None and (found.labels != expected.labels).any():
        row = int(np.flatnonzero(found.labels != expected.labels)[0])
        raise ValueError(
            f"On {split!r} row {row} has label {found.labels[row]} for the teacher and {expected.labels[row]} for the "
            "student. Give both the same rows in the same order, with the same numbering of the classes."
        )
    logits = found.logits if order is None else found.logits[:, list(order)]
    return replace(teacher, predictions=Predictions(logits, expected.labels))


def _as_list(models: Any) -> list[Any]:
    if models is None:
        return []
    return list(models) if isinstance(models, Sequence) else [models]


def _is_predictions(teacher: Any) -> bool:
    return isinstance(teacher, Predictions | Mapping)


def _class_names(student: Any, teacher: Any) -> list[str]:
    """The student's class names, or else the teacher's, or else ``LABEL_0`` and so on; each occurs once."""
    names = label_names(student.config) or (None if _is_predictions(teacher) else label_names(teacher.config))
    names = names or [f"LABEL_{index}" for index in range(student.config.num_labels)]
    return [f"{name} ({index})" if names.count(name) > 1 else name for index, name in enumerate(names)]
