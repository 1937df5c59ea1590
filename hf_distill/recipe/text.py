"""What text recipes share: splits in tokens, and a teacher that is fine-tuned where it is not yet."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset
from transformers import DataCollatorWithPadding, PreTrainedModel, PreTrainedTokenizerBase

from hf_distill.fingerprints import tokenizer_fingerprint
from hf_distill.labels import class_order, classes_of
from hf_distill.recipe.columns import TextData
from hf_distill.recipe.models import (
    about_start,
    check_model,
    has_trained_head,
    load_tokenizer,
    new_classifier,
    split_layers,
    warn_of_unnamed_classes,
)
from hf_distill.recipe.runs import check_sources, train_run
from hf_distill.recipe.tokens import padding_collator, tokenize
from hf_distill.teachers import ModelTeacher, load_classifier, public_name
from hf_distill.training_args import DistillationTrainingArguments

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenizedData:
    """A text data set as one model reads it.

    Args:
        train: All training rows; ``labels`` is ``-100`` where there is none.
        labelled: Those of them that have a label.
        evaluation: The labelled rows of validation and test.
        tokenizer: What made the tokens.
        collator: Pads them.
    """

    train: Dataset
    labelled: Dataset
    evaluation: dict[str, Dataset]
    tokenizer: PreTrainedTokenizerBase
    collator: DataCollatorWithPadding


def tokenize_data(
    data: TextData, tokenizer: PreTrainedTokenizerBase, max_length: int, keep_text: bool = False
) -> TokenizedData:
    """Every split in one tokenizer's tokens; the training split with its text, where a teacher reads that itself."""

    def tokens(rows: Dataset, split: str, keep_text: bool = False) -> Dataset:
        return tokenize(rows, tokenizer, data.text_columns, max_length, f"Tokenizing {split}", keep_text)

    train = tokens(data.splits["train"], "train", keep_text)
    labelled = data.labelled("train")
    return TokenizedData(
        train=train,
        labelled=train if len(labelled) == len(train) else tokens(labelled, "the labelled part of train"),
        evaluation={split: tokens(rows, split) for split, rows in data.evaluation().items()},
        tokenizer=tokenizer,
        collator=padding_collator(tokenizer),
    )


def tokenizer_of_student(student: str, teacher_tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The student's own tokenizer; the teacher's where the two are the same."""
    name, _ = split_layers(student)
    if name == "layers":
        return teacher_tokenizer
    own = load_tokenizer(name)
    same = tokenizer_fingerprint(own) == tokenizer_fingerprint(teacher_tokenizer)  # its rules too: cased or uncased
    return teacher_tokenizer if same else own


def fine_tuned_teacher(
    name: str,
    data: TextData,
    tokenizer: PreTrainedTokenizerBase,
    args: DistillationTrainingArguments,
    max_length: int,
) -> PreTrainedModel:
    """A teacher with a head for the task. One without is fine-tuned first, in ``args.output_dir``.

    Args:
        name: A name on the Hub or a folder.
        data: The task.
        tokenizer: The teacher's own.
        args: For the fine-tuning.
        max_length: Longest text in tokens.

    Raises:
        ValueError: its head is for other classes.
    """
    if has_trained_head(name):
        logger.info("The teacher %s is fine-tuned already.", name)
        teacher = load_classifier(name)
        class_order(data.classes, classes_of(teacher.config))
        warn_of_unnamed_classes(name, teacher.config, data.classes)
        return teacher
    logger.info("The teacher %s has no trained head for this task: it is fine-tuned first.", name)
    check_sources([name], folder := Path(args.output_dir), folder)
    tokens = tokenize_data(data, tokenizer, max_length)
    trainer = train_run(
        "teacher",
        lambda: new_classifier(name, data.classes, args.seed),
        args,
        tokens.labelled,
        tokens.evaluation.get("validation"),
        processing_class=tokenizer,
        collator=tokens.collator,
        about={"model": name, **about_start(name)},
    )
    return trainer.model


def live_teacher(
    model: PreTrainedModel, name: str, tokenizer: PreTrainedTokenizerBase, data: TextData | None, max_length: int
) -> ModelTeacher:
    """A fine-tuned model as the teacher of a student.

    Args:
        model: The model.
        name: What logs and card call it.
        tokenizer: The model's.
        data: The task, where the student has another tokenizer: the teacher then reads its text columns itself.
        max_length: Longest text in tokens.
    """
    if data is None:
        teacher = ModelTeacher(model, processing_class=tokenizer)
    else:
        shorter = copy.deepcopy(tokenizer)
        shorter.model_max_length = min(max_length, tokenizer.model_max_length)
        teacher = ModelTeacher(model, processing_class=shorter, text_columns=data.text_columns)
    teacher.name = public_name(name)
    return teacher


def check_names(teacher: str, student: str) -> None:
    """Raise, before anything takes long, where teacher or student, or a layer of one, cannot be found."""
    check_model(teacher, "--teacher")
    name, layers = split_layers(student)
    check_model(teacher if name == "layers" else name, "--student", layers)
