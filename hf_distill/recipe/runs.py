"""Trainings that a recipe is made of: each in a folder of its own, finished once, resumed where it was killed."""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from datasets import Dataset
from transformers import BaseImageProcessor, PreTrainedModel, PreTrainedTokenizerBase, TrainerState, set_seed
from transformers.integrations import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations

from hf_distill.epochs import EpochDataset
from hf_distill.fingerprints import rows_fingerprint
from hf_distill.image_views import Views
from hf_distill.metrics import classification_metrics
from hf_distill.objective import Objective
from hf_distill.recipe.arguments import NOT_HEEDED
from hf_distill.recipe.effort import train_measured
from hf_distill.recipe.models import NEW, WEIGHTS, split_layers
from hf_distill.recipe.turns import turn
from hf_distill.report import FILE_NAME
from hf_distill.report_page import PLOTS
from hf_distill.tasks import Tasks, task_metrics
from hf_distill.teachers import Teacher
from hf_distill.tracking import own_run
from hf_distill.trainer import DistillationTrainer
from hf_distill.training_args import DistillationTrainingArguments, about_result
from hf_distill.whole_file import whole_file

logger = logging.getLogger(__name__)

SETTINGS_FILE, FINISHED_FILE = "_settings.json", "_finished.json"
REPORT_FILES = ("README.md", FILE_NAME, "report.html", *PLOTS)
"""What is written about a model that was trained; ONNX files are the trainer's to delete."""


def check_training(args: DistillationTrainingArguments) -> None:
    """Raise, before anything takes long, where a recipe would not go by an argument, or would overwrite a model.

    Raises:
        ValueError: an argument of ``NOT_HEEDED`` is not at its default, or a tracker is not installed, or the folder
            holds a model that is not ours.
    """
    for name, cure in NOT_HEEDED.items():
        if getattr(args, name) != DistillationTrainingArguments.__dataclass_fields__[name].default:
            raise ValueError(f"--{name} has no place in a recipe: leave it out. {cure}")
    unknown = INTEGRATION_TO_CALLBACK.keys() - {*get_available_reporting_integrations()}
    if missing := sorted(unknown & {*args.report_to}):
        raise ValueError(f"--report_to {missing[0]}: it is not installed here. Install it, or leave it out.")
    check_folder(Path(args.output_dir))


def check_sources(models: Iterable[str], output: Path, shared: Path) -> None:
    """Raise where trainings would overwrite, or delete, what they start or learn from.

    Args:
        models: Teacher and student, as named.
        output: Where students are trained.
        shared: Where controls are trained.

    Raises:
        ValueError: a model is ``output`` itself, or a checkpoint or a student there, or a control in ``shared``.
    """
    ours = ((output, r"|checkpoint-\d+|_student-seed\d+"), (shared, r"_control-seed\d+"))
    for name in models:
        source = split_layers(name)[0].removeprefix(NEW)
        if source in ("", "layers"):  # the usual model, and layers of the teacher
            continue
        for folder, pattern in ours:
            if not Path(source).resolve().is_relative_to(folder.resolve()):
                continue
            below = Path(source).resolve().relative_to(folder.resolve()).parts
            if re.fullmatch(pattern, below[0] if below else ""):
                raise ValueError(
                    f"What is trained in {folder} would take the place of {name}, which would be lost. Choose another "
                    "--output_dir, and another --shared_dir if there is one, or copy the model elsewhere."
                )


def check_folder(folder: Path) -> None:
    """Raise where a training in this folder would overwrite a model, or checkpoints, that no recipe left there."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, and a folder is needed. Choose another --output_dir.")
    if _read(folder / SETTINGS_FILE) is None:
        for pattern in ("checkpoint-*", "config.json", "adapter_config.json", *WEIGHTS):
            if any(folder.glob(pattern)):
                held = "checkpoints of another training" if pattern == "checkpoint-*" else "a model that is not ours"
                raise ValueError(
                    f"{folder} holds {held}, which would be lost. Choose another --output_dir, or move it away."
                )


class Run:
    """A piece of work in a folder, done once for its settings.

    The settings are written when the work begins and again when it has ended, so that a killed run is neither taken
    for a finished one nor mixed up with one of other settings.

    Args:
        folder: Where the work and its two small settings files go.
        settings: Plain data; everything that the result depends on.
        main_process: Whether this process writes.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], main_process: bool = True) -> None:
        self.folder, self.main_process = folder, main_process
        self.settings = json.loads(json.dumps(settings, default=str))

    @property
    def finished(self) -> bool:
        """Whether the work was finished with these settings."""
        return bool(_read(self.folder / FINISHED_FILE) == self.settings)

    def begin(self) -> str | None:
        """Note the settings; return the checkpoint to go on from, if a run with these settings was cut off.

        A checkpoint counts once its last file is there: a full disk leaves half of one. Where the model of other
        settings makes room, what was written about it goes as well.

        Raises:
            ValueError: there is a model, or a checkpoint, that no run of ours has left there.
        """
        check_folder(self.folder)
        before = _read(self.folder / SETTINGS_FILE)
        if before == self.settings:
            whole = [path.parent for path in self.folder.glob("checkpoint-*/trainer_state.json") if _read(path)]
            return str(max(whole, key=lambda path: int(path.name.split("-")[1]))) if whole else None
        if self.main_process:
            if before is not None:
                logger.warning(
                    "%s was made with other settings and is made anew: %s.", self.folder, self._changes(before)
                )
                for name in REPORT_FILES:
                    (self.folder / name).unlink(missing_ok=True)
            for checkpoint in self.folder.glob("checkpoint-*"):
                shutil.rmtree(checkpoint)
            (self.folder / FINISHED_FILE).unlink(missing_ok=True)
            self._write(SETTINGS_FILE)
        return None

    def _changes(self, before: Mapping[str, Any]) -> str:
        old, new = ({**found, **found.get("arguments", {})} for found in (before, self.settings))
        names = [name for name in {**old, **new} if name != "arguments" and old.get(name) != new.get(name)]
        return ", ".join(f"{name} was {old.get(name)!r} and is {new.get(name)!r}" for name in names)

    def end(self) -> None:
        """Note that the work is finished."""
        if self.main_process:
            self._write(FINISHED_FILE)

    def _write(self, name: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with whole_file(self.folder / name) as file:
            file.write(json.dumps(self.settings, indent=2) + "\n")


def train_run(
    title: str,
    build: Callable[[], PreTrainedModel],
    args: DistillationTrainingArguments,
    rows: Dataset | EpochDataset,
    evaluation: Dataset | None,
    *,
    processing_class: PreTrainedTokenizerBase | BaseImageProcessor,
    collator: Callable[[list[Any]], dict[str, Any]],
    teacher: Teacher | Mapping[str, Teacher] | None = None,
    objective: Objective | None = None,
    about: Mapping[str, Any],
    trainer_class: Callable[..., DistillationTrainer] = DistillationTrainer,
) -> DistillationTrainer:
    """Train a model in ``args.output_dir``, or take up the one that was trained there with the same settings.

    Where another process trains there, wait for it.

    Args:
        title: What the log and the trackers call it.
        build: Makes the model; called after the seed is set.
        args: The settings; nothing is pushed.
        rows: The training set; noise, and random views without a fixed number, get their seed from ``args``.
        evaluation: Evaluated as ``args`` say.
        processing_class: The tokenizer or image processor, saved with the model.
        collator: Makes batches.
        teacher: ``None`` for a training without one; several under names, as in the trainer.
        objective: As in the trainer.
        about: What else the result depends on, such as the names of models and data.
        trainer_class: Makes the trainer, where it is another one; what it is given besides belongs into ``about``.

    Returns:
        The trainer, with the trained model in it.
    """
    given = teacher.values() if isinstance(teacher, Mapping) else [teacher]
    if any(one is not None and one.follows_student for one in given):
        raise ValueError("What follows the student is not kept with a finished run: train with DistillationTrainer.")
    args = changed(args, push_to_hub=False)
    rows = rows.for_training(args.seed) if isinstance(rows, EpochDataset) else rows
    settings = {
        **about,
        "arguments": about_result(args),
        **shared_out(args),
        "rows": rows_fingerprint(rows),
        "objective": objective and {name: repr(term) for name, term in objective.terms.items()},
    }
    run = Run(Path(args.output_dir), settings, args.process_index == 0)
    with turn(args):
        finished = run.finished
        set_seed(args.seed)
        model = build()
        if finished:
            origin, model = model.config._name_or_path, type(model).from_pretrained(args.output_dir)
            model.config._name_or_path = origin  # for the card: where the student came from, not where it lies
        tasks = Tasks.of(model.config)
        trainer = trainer_class(
            model,
            args,
            teacher_model=teacher,
            objective=objective,
            train_dataset=rows,
            eval_dataset=evaluation,
            data_collator=collator,
            processing_class=processing_class,
            compute_metrics=classification_metrics if tasks is None else task_metrics(tasks),
        )
        if finished:
            logger.info("%s: finished already, taken from %s.", title, args.output_dir)
            trainer.state = TrainerState.load_from_json(str(run.folder / "trainer_state.json"))
            return trainer
        logger.info("%s: %d examples, in %s.", title, len(rows), args.output_dir)
        trainer.accelerator.wait_for_everyone()
        checkpoint = run.begin()
        if checkpoint is not None:
            logger.info("%s: resumed from %s.", title, checkpoint)
        trainer.accelerator.wait_for_everyone()
        with own_run(trainer, title):
            train_measured(trainer, checkpoint)
        trainer.save_model()
        trainer.save_state()
        run.end()
        return trainer


def train_with_controls(
    build: Callable[[int], PreTrainedModel],
    args: DistillationTrainingArguments,
    rows: Dataset | Views,
    labelled: Dataset | Views,
    evaluation: Dataset | None,
    *,
    teacher: Teacher | Mapping[str, Teacher],
    objective: Objective | None,
    seeds: Sequence[int],
    processing_class: PreTrainedTokenizerBase | BaseImageProcessor,
    collator: Callable[[list[Any]], dict[str, Any]],
    about: Mapping[str, Any],
    about_teacher: Mapping[str, Any] = MappingProxyType({}),
    control_folder: Path | None = None,
) -> tuple[list[DistillationTrainer], list[DistillationTrainer]]:
    """For each seed a student, and its control: the same start, the same number of steps, the labels, no teacher.

    The first student is trained in ``args.output_dir`` itself, the others in folders beneath it that are not published.

    Args:
        build: Makes the student for a seed.
        args: For student and control alike.
        rows: What the student learns from.
        labelled: The part of it that has labels, for the control.
        evaluation: Evaluated as ``args`` say.
        teacher: Whom the students learn from.
        objective: The students'; that of ``args`` if left out.
        seeds: One training each.
        processing_class: The tokenizer or image processor, saved with the models.
        collator: Makes batches.
        about: What else the results of student and control depend on.
        about_teacher: What else those of the students depend on.
        control_folder: Where the controls are kept, ``args.output_dir`` if left out. Runs that differ in what only the
            teacher's part depends on can share theirs.

    Returns:
        Students and controls, seed by seed.
    """
    students, controls = [], []
    output = Path(args.output_dir)
    shared: dict[str, Any] = {"processing_class": processing_class, "collator": collator}
    taught = {**about, **about_teacher}
    for seed in seeds:
        folder = output if seed == seeds[0] else output / f"_student-seed{seed}"
        ours = changed(args, output_dir=str(folder), seed=seed)
        start = functools.partial(build, seed)
        student = train_run(
            f"student, seed {seed}", start, ours, rows, evaluation,
            teacher=teacher, objective=objective, about=taught, **shared,
        )  # fmt: skip
        alone = changed(
            args,
            output_dir=str((control_folder or output) / f"_control-seed{seed}"),
            seed=seed,
            max_steps=student.state.max_steps,
            **without_teacher(),
        )
        students.append(student)
        controls.append(train_run(f"control, seed {seed}", start, alone, labelled, evaluation, about=about, **shared))
    return students, controls


def changed(args: DistillationTrainingArguments, **changes: Any) -> DistillationTrainingArguments:
    """A copy of the arguments with some of them changed."""
    untyped: Any = args  # transformers' own fields are not known to a type checker
    copy: DistillationTrainingArguments = dataclasses.replace(untyped, **changes)
    return copy


def without_teacher() -> dict[str, Any]:
    """The arguments that only a training with a teacher depends on, at their defaults: two without are the same."""
    fields = DistillationTrainingArguments.__dataclass_fields__
    return {name: fields[name].default for name in ("temperature", "distillation_weight")}


def shared_out(args: DistillationTrainingArguments) -> dict[str, int]:
    """How many examples all processes and devices take at once, where that is not what one device takes.

    ``about_result`` knows one device's number alone.
    """
    together = args.train_batch_size * args.world_size
    return {} if together == args.per_device_train_batch_size else {"examples_at_once": together}


def _read(path: Path) -> Any:
    """The content of a JSON file; ``None`` where there is none, or only a part of one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
