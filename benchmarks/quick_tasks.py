"""The data and models of the recipes' quick presets, with a trained teacher, for trainings of seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict
from transformers import BertForSequenceClassification, PreTrainedModel, PrinterCallback, set_seed

from hf_distill import (
    DistillationTrainer,
    DistillationTrainingArguments,
    ModelTeacher,
    Objective,
    Teacher,
    cache_teacher,
)
from hf_distill.augmentation import Augmentation
from hf_distill.metrics import ExpectedCalibrationError, classification_metrics
from hf_distill.recipe import (
    as_image_classification,
    channels_last_collator,
    load_images,
    new_image_classifier,
    padding_collator,
    prepare_images,
    tokenize,
    train_run,
    without_teacher,
)
from hf_distill.recipe.models import class_names

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))

import cifar10
import handwritten_digits
import sentiment_grammar


@dataclass(frozen=True)
class Task:
    """What there is to learn, by which student, from whom, and how."""

    rows: dict[str, Any]
    """``train``, ``validation`` and ``test``."""
    teacher: Teacher
    new_student: Callable[[int], PreTrainedModel]
    """From a seed."""
    collator: Callable[[list[Any]], dict[str, Any]]
    settings: dict[str, Any]

    def trainer(
        self, folder: Path, taught: bool, seed: int, objective: Objective | None = None, **changes: Any
    ) -> DistillationTrainer:
        """What trains a student, with the teacher or without."""
        trainer = DistillationTrainer(
            model_init=partial(self.new_student, seed),
            args=DistillationTrainingArguments(str(folder), seed=seed, **{**self.settings, **changes}),
            train_dataset=self.rows["train"],
            eval_dataset=self.rows["validation"],
            data_collator=self.collator,
            teacher_model=self.teacher if taught else None,
            objective=objective,
            compute_metrics=classification_metrics,
        )
        trainer.remove_callback(PrinterCallback)
        return trainer

    def scores(self, trainer: DistillationTrainer, split: str = "test") -> dict[str, float]:
        """Accuracy and calibration error of a student."""
        found = trainer.predict(self.rows[split])
        odds = np.exp(found.predictions - found.predictions.max(axis=-1, keepdims=True)).astype(np.float64)
        ece = ExpectedCalibrationError().compute(
            predictions=odds / odds.sum(axis=-1, keepdims=True), references=found.label_ids
        )
        return {"accuracy": found.metrics["test_accuracy"], **ece}


SGD = {name: value for name, value in cifar10.SGD.items() if name not in without_teacher()}
QUIET = {
    "use_cpu": True, "report_to": "none", "disable_tqdm": True, "save_strategy": "no", "logging_strategy": "epoch",
    "log_level": "error", "per_device_train_batch_size": 32, "per_device_eval_batch_size": 256,
}  # fmt: skip


def reviews(folder: Path, labelled: int = 8000) -> Task:
    """Film reviews from a grammar: BERT of 2 layers from one twice as wide, whose answers are kept.

    Args:
        folder: For the teacher and its answers.
        labelled: So many training reviews; about one label in eleven is wrong.
    """
    made = sentiment_grammar.make_splits(train=8000, validation=1000, test=2000)
    tokenizer = sentiment_grammar.make_tokenizer(made["train"]["text"])
    rows = {
        split: tokenize(part.rename_column("label", "labels"), tokenizer, ["text"], 64) for split, part in made.items()
    }
    collator = padding_collator(tokenizer)

    def new(width: int, seed: int) -> PreTrainedModel:
        set_seed(seed)
        config = sentiment_grammar.bert_config(2, width, len(tokenizer))
        config.update(class_names(sentiment_grammar.CLASSES))
        return BertForSequenceClassification(config)

    settings = {**QUIET, "num_train_epochs": 2, "learning_rate": 1e-3, "warmup_steps": 0.1, "weight_decay": 0.01}
    args = DistillationTrainingArguments(
        str(folder / "teacher"), **{**settings, "num_train_epochs": 5, "learning_rate": 5e-4, "logging_strategy": "no"}
    )
    teacher = train_run(
        "teacher", partial(new, 128, 0), args, rows["train"], None,
        processing_class=tokenizer, collator=collator, about={},
    ).model  # fmt: skip
    answers = cache_teacher(rows["train"], teacher, folder / "answers", data_collator=collator)
    return Task({**rows, "train": rows["train"].select(range(labelled))}, answers, partial(new, 64), collator, settings)


def digits(folder: Path, labelled: int = 1000, wrong: float = 0.0) -> Task:
    """Handwritten digits: a VGG-8 of an eighth of the width from a VGG-13 of a quarter, which saw all labels.

    Args:
        folder: For the digits and the teacher.
        labelled: So many training images.
        wrong: The share of them that has a wrong label.
    """
    splits = load_images(handwritten_digits.make(folder / "digits"))
    all_images = _prepared(splits)
    settings = {**SGD, **QUIET, "num_train_epochs": 6 * 1000 / labelled, "learning_rate": 0.05}
    args = DistillationTrainingArguments(
        str(folder / "teacher"), **{**settings, "num_train_epochs": 15, "logging_strategy": "no"}
    )

    def new(name: str, seed: int) -> PreTrainedModel:
        return new_image_classifier(name, handwritten_digits.CLASSES, 3, seed, cifar10.NEW_MODELS)

    teacher = train_run(
        "teacher", partial(new, "vgg13-quarter", 0), args, all_images.train, None,
        processing_class=all_images.processor, collator=channels_last_collator, about={},
    ).model  # fmt: skip
    few = splits["train"].select(range(labelled))
    draws = np.random.default_rng(0)
    shifts = draws.integers(1, len(handwritten_digits.CLASSES), labelled) * (draws.random(labelled) < wrong)
    labels = ((np.array(few["label"]) + shifts) % len(handwritten_digits.CLASSES)).tolist()
    noisy = Dataset.from_dict({"image": few["image"], "label": labels}, few.features)
    images = _prepared(DatasetDict({**splits, "train": noisy}))
    rows = {"train": images.train, **images.evaluation}
    return Task(rows, ModelTeacher(teacher), partial(new, "vgg8-eighth"), channels_last_collator, settings)


def _prepared(splits: DatasetDict) -> Any:
    data = as_image_classification(splits, 16)
    return prepare_images(data, Augmentation(1, False), "vgg13-quarter", "vgg8-eighth", cifar10.NEW_MODELS)
