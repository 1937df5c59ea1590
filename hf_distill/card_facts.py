"""What a trainer knows that belongs into the model card."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from huggingface_hub import try_to_load_from_cache
from torch import nn
from transformers import Trainer, TrainingArguments

from hf_distill.environment import library_versions
from hf_distill.hub_names import hub_id
from hf_distill.image_views import stored_rows
from hf_distill.labels import LABEL_COLUMNS, label_names
from hf_distill.losses import NO_LABEL
from hf_distill.model_card import TASK_NAMES, CardFacts, TeacherFacts, listed, sources
from hf_distill.report_page import PLOTS
from hf_distill.serving import onnx_file
from hf_distill.tasks.names import Tasks
from hf_distill.teachers import Teacher
from hf_distill.training_args import about_result

SAID_OTHERWISE = (
    *("per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs", "max_steps", "learning_rate"),
    *("lr_scheduler_type", "warmup_steps", "warmup_ratio", "optim", "weight_decay", "label_smoothing_factor"),
    *("bf16", "fp16", "seed", "temperature", "distillation_weight", "accelerator_config", "fsdp_config"),
)
"""Arguments that a card shows in words or within the objective, and two that are never at their defaults."""

OF_SEVERAL_TASKS = (
    "Its classes, TASK/CLASS, are those of several tasks, and `pipeline` weighs them all against each other. To ask it "
    "about one task, cut that out: `hf_distill.task_model(model, TASK)`."
)
"""What the card of a multi-task student says beside the usual limits."""


def facts_of(
    trainer: Trainer,
    language: str | Sequence[str] | None = None,
    license: str | None = None,
    tags: str | Sequence[str] | None = None,
    model_name: str | None = None,
    finetuned_from: str | None = None,
    tasks: str | Sequence[str] | None = None,
    dataset: str | Sequence[str] | None = None,
    dataset_tags: str | Sequence[str] | None = None,
) -> CardFacts:
    """The facts of a card, from a :class:`~hf_distill.DistillationTrainer` and the arguments of ``create_model_card``.

    Args:
        trainer: Before or after training.
        language: The language of the data.
        license: The Hub's identifier.
        tags: Tags beyond the usual ones.
        model_name: The card's title; the output folder's name where left out.
        finetuned_from: The Hub name of the weights that the student started from; its own where left out.
        tasks: The task, where the student's inputs do not say it.
        dataset: What the card calls the training data; ``dataset_tags`` where left out.
        dataset_tags: Hub names of the training data.
    """
    config, args = trainer.model.config, trainer.args
    teachers = [fact for teacher in trainer.teachers.values() for fact in _teachers(teacher)]
    base = finetuned_from or hub_id(getattr(config, "_name_or_path", ""))
    layers_were_taken = base in [teacher.name for teacher in teachers]
    is_image = getattr(trainer.model, "main_input_name", "") == "pixel_values"
    named_task = next((task for task in listed(tasks) if task in TASK_NAMES), None)
    given = trainer.distillation_objective.terms.values()
    terms = [getattr(term, "term", term) for term in given]  # what a TaskTerm holds
    losses = [loss for term in terms if isinstance(loss := getattr(term, "loss", None), nn.Module)]
    generating = [getattr(trainer, "generator_loss", None)]
    methods = [*trainer.teachers.values(), *generating, *terms, *(part for loss in losses for part in loss.modules())]
    return CardFacts(
        model_name=model_name or Path(args.output_dir).resolve().name,
        task=named_task or ("image-classification" if is_image else "text-classification"),
        repo_id=trainer.hub_model_id or args.hub_model_id,
        teachers=teachers,
        base_model=base,
        base_model_relation=None if layers_were_taken else "finetune",
        student_origin=trainer.student_origin,
        datasets=listed(dataset or dataset_tags),
        dataset_tags=listed(dataset_tags),
        language=language,
        license=license,
        tags=listed(tags),
        labels=label_names(config) or [],
        objective=trainer.distillation_objective.describe(),
        training=settings_of(trainer),
        versions=library_versions(),
        limits=[] if Tasks.of(config) is None else [OF_SEVERAL_TASKS],
        brings_code=getattr(trainer.model, "_auto_class", None) is not None,
        architecture=config.model_type,
        onnx_file=onnx_file(args.output_dir),
        plots={name: says for name, says in PLOTS.items() if (Path(args.output_dir) / name).is_file()},
        references=sources(methods),
    )


def _teachers(teacher: Teacher) -> Iterator[TeacherFacts]:
    """The teacher, or the members of an ensemble."""
    members = getattr(teacher, "teachers", None)
    if members:
        for member in members:
            yield from _teachers(member)
    else:
        yield TeacherFacts(teacher.name, _revision(teacher.name))


def _revision(name: str) -> str | None:
    """The commit of a Hub model in the cache; ``None`` unless there is exactly one, which then was the one used."""
    path = try_to_load_from_cache(name, "config.json") if hub_id(name) else None
    if not isinstance(path, str):
        return None
    snapshots = list(Path(path).parent.parent.iterdir())
    return snapshots[0].name if len(snapshots) == 1 else None


def settings_of(trainer: Trainer) -> dict[str, Any]:
    """How a student was trained: the usual settings in words, then all others that are not at their defaults."""
    args = trainer.args
    batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    precision = "bfloat16 autocast" if args.bf16 else "float16 autocast" if args.fp16 else "float32"
    return {
        **_examples(stored_rows(trainer.train_dataset)),
        "steps": trainer.state.global_step,
        "epochs": round(trainer.state.epoch or 0, 3),
        "examples in a step": batch,
        "learning rate": args.learning_rate,
        "schedule": getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type),
        "warm-up steps": args.get_warmup_steps(trainer.state.max_steps),
        "optimizer": getattr(args.optim, "value", args.optim),
        "weight decay": args.weight_decay,
        "label smoothing": args.label_smoothing_factor,
        "precision": precision,
        "seed": args.seed,
        **_generated(trainer),
        **_unusual(args),
    }


def _generated(trainer: Trainer) -> dict[str, str]:
    """What made the images, where there was no data."""
    loss = getattr(trainer, "generator_loss", None)
    return {} if loss is None else {"generator": repr(trainer.generator), "its loss": repr(loss)}


def _unusual(args: TrainingArguments) -> dict[str, Any]:
    """The other arguments on which the result depends; what is empty is a default that was not filled in."""
    known = about_result(args)
    found = {}
    for entry in fields(args):
        default = entry.default if entry.default_factory is MISSING else entry.default_factory()
        if entry.name not in known or entry.name in SAID_OTHERWISE:
            continue
        value = known[entry.name]
        if value != default and (value or default):
            found[entry.name] = value
    return found


def _examples(rows: Any) -> dict[str, int]:
    """How many training examples there are, and how many of them have no label, where that can be told at once."""
    if not isinstance(rows, Dataset):
        return {}
    column = next((name for name in LABEL_COLUMNS if name in rows.column_names), None)
    if column is None or not len(rows):
        return {"training examples": len(rows), "of them without a label": len(rows)}
    labels = np.asarray(rows.with_format("numpy")[column][:]).reshape(len(rows), -1)
    return {"training examples": len(rows), "of them without a label": int((labels == NO_LABEL).all(axis=1).sum())}
