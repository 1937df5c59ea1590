"""What TensorBoard, W&B and trackio get beside the logs that ``transformers`` sends them."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

from hf_distill.deployment_table import COLUMNS, deployment_cells, deployment_notes, deployment_title
from hf_distill.figures import OF_ALL_SPLITS, SCORES
from hf_distill.redaction import first_line, public_settings
from hf_distill.report import DistillationReport

logger = logging.getLogger(__name__)

TENSORBOARD_FOLDER = "_tensorboard"
"""In the output directory of a recipe. It is not pushed: names of event files hold that of the machine."""

PART = re.compile(r"_(?:teacher|(?:student|control)-seed\d+)")
"""What a recipe calls the folders of its trainings other than the first student's."""

RELATIONS = ("agreement", "kl_nats", "gap_closed")


class ObjectiveCallback(TrainerCallback):
    """Adds the terms of the objective and the names of the teachers to what trackers keep as a run's configuration.

    ``transformers`` puts the training arguments there, which say nothing of an objective that was given as such.
    ``DistillationTrainer`` has this callback built in.

    Args:
        trainer: Whose objective it is.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write into every run that has just begun."""
        if not state.is_world_process_zero:
            return
        settings = objective_settings(self._trainer)
        for tracker in self._trainer.callback_handler.callbacks:
            with _softly(tracker, "the objective"):
                if isinstance(tracker, TensorBoardCallback) and tracker.tb_writer is not None:
                    tracker.tb_writer.add_text("objective", _table(["setting", "value"], list(settings.items())))
                elif isinstance(tracker, WandbCallback):
                    import wandb

                    if wandb.run is not None:
                        wandb.run.config.update(settings, allow_val_change=True)
                elif isinstance(tracker, TrackioCallback):
                    import trackio

                    trackio.config.update(settings, allow_val_change=True)


@contextmanager
def own_run(trainer: Trainer, title: str) -> Iterator[None]:
    """One run in each tracker for what is trained inside the block, where a process trains several models.

    By itself W&B goes on in the run that the first training has opened, trackio in the one that has the same name, and
    TensorBoard in the same folder where ``TENSORBOARD_LOGGING_DIR`` names one. A run of W&B that was open before stays
    open, and takes everything: whoever opened it wants it so.

    Args:
        trainer: What trains.
        title: What the run is called after :func:`run_name`'s beginning, such as ``student, seed 0``.
    """
    args, given = trainer.args, trainer.args.run_name
    args.run_name = run_name(args, title)
    trackers = list(trainer.callback_handler.callbacks)
    ours = [tracker for tracker in trackers if isinstance(tracker, WandbCallback) and not _wandb_is_running()]
    for tracker in trackers:
        if isinstance(tracker, TensorBoardCallback):
            tracker.logging_dir = str(tensorboard_folder(args) / args.run_name)
    exit_code = 1
    try:
        yield
        exit_code = 0
    finally:
        args.run_name = given
        for tracker in ours:
            with _softly(tracker, "the end of the run"):
                import wandb

                wandb.finish(exit_code=exit_code)
                callbacks = trainer.callback_handler.callbacks
                callbacks[callbacks.index(tracker)] = type(tracker)()  # the old one would go on with the ended run


def track_report(trainer: Trainer, report: DistillationReport, plots: Sequence[Path]) -> None:
    """Send a comparison to the trackers of a trainer, as a run of its own: plots, tables and figures.

    It is about several trainings, so it belongs to none of them. A tracker that breaks is named in a warning; call this
    on the main process only.

    Args:
        trainer: A student's. Its ``report_to`` says where to.
        report: What :func:`hf_distill.compare` found.
        plots: Image files.
    """
    name = run_name(trainer.args, "comparison")
    for tracker in list(trainer.callback_handler.callbacks):
        for kind, send in _SENDERS.items():
            if isinstance(tracker, kind):
                with _softly(tracker, "the comparison"):
                    send(name, trainer, report, plots)


def run_name(args: TrainingArguments, title: str) -> str:
    """A run's name: ``args.run_name``, or the output directory's name and the time, then the title.

    Example:
        >>> run_name(TrainingArguments("out/quick", run_name="first-try"), "student, seed 0")
        'first-try-student-seed-0'
    """
    beginning = args.run_name or f"{_home(args).resolve().name}-{time.strftime('%Y%m%d-%H%M%S')}"
    return f"{beginning}-{re.sub(r'[^a-z0-9]+', '-', title.lower())}"


def tensorboard_folder(args: TrainingArguments) -> Path:
    """Where the runs of a recipe lie: ``TENSORBOARD_LOGGING_DIR``, or ``_tensorboard`` in its output directory."""
    given = os.environ.get("TENSORBOARD_LOGGING_DIR")
    return Path(given).expanduser() if given else _home(args) / TENSORBOARD_FOLDER


def objective_settings(trainer: Trainer) -> dict[str, Any]:
    """The terms of the objective and the teachers as plain settings, without local paths.

    Args:
        trainer: Whose objective it is.

    Returns:
        ``objective/NAME`` of each term, and ``teacher/NAME`` of each teacher.
    """
    terms = {f"objective/{name}": said for name, said in trainer.distillation_objective.describe().items()}
    return public_settings({**terms, **{f"teacher/{name}": teacher.name for name, teacher in trainer.teachers.items()}})


def figures(report: DistillationReport) -> dict[str, float]:
    """The numbers of a report as ``SPLIT/MODEL/MEASURE``, and as ``SPLIT/RELATION`` those between the models.

    So ``test/student/accuracy``, ``test/student/latency_ms_p50`` and ``test/gap_closed``, and with several seeds their
    standard deviation, ``test/student/accuracy_std``. Size, speed, and time and energy of the training stand with the
    main split only.

    Args:
        report: What :func:`hf_distill.compare` found.
    """
    found: dict[str, float | None] = {}
    for split in _splits(report):
        chosen = report.of_split(split)
        measures = (*SCORES, *OF_ALL_SPLITS) if split == report.split else SCORES
        for ending in ("", "_std"):
            found.update({f"{split}/{key}{ending}": chosen[key + ending] for key in RELATIONS})
            for model in report.models(split):
                for _, key, _ in measures:
                    outer, _, inner = key.partition(".")
                    value = chosen[model].get(outer + ending)
                    name = f"{split}/{model}/{key.replace('.', '_')}{ending}"
                    found[name] = (value or {}).get(inner) if inner else value
    return {name: value for name, value in found.items() if value is not None}


def _settings(trainer: Trainer, report: DistillationReport) -> dict[str, Any]:
    """What was compared, for a tracker's table of runs."""
    args = trainer.args
    said = {"dataset": report.dataset, "seeds": ", ".join(map(str, report.seeds)), "command": report.command or ""}
    chosen = ("learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size")
    return public_settings({**said, **objective_settings(trainer), **{key: getattr(args, key) for key in chosen}})


def _to_tensorboard(name: str, trainer: Trainer, report: DistillationReport, plots: Sequence[Path]) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tensorboard_folder(trainer.args) / name)) as writer:
        for split in _splits(report):
            table = _table(["measure", *report.models(split)], [(label, *cells) for label, cells in report.rows(split)])
            writer.add_text(f"comparison/{split}", "\n\n".join([report.title(split), table, *report.notes(split)]))
        if report.deployment is not None:
            table = _table(["model", *COLUMNS], deployment_cells(report.deployment))
            notes = deployment_notes(report.deployment)
            writer.add_text("deployment", "\n\n".join([deployment_title(report.deployment), table, *notes]))
        for plot in plots:
            with Image.open(plot) as image:
                writer.add_image(f"plots/{plot.stem}", np.asarray(image.convert("RGB")), dataformats="HWC")
        # "." is this run: without it the figures would be a second one beside the tables.
        writer.add_hparams(_settings(trainer, report), figures(report), run_name=".")


def _to_wandb(name: str, trainer: Trainer, report: DistillationReport, plots: Sequence[Path]) -> None:
    import wandb

    running = wandb.run
    run = running or wandb.init(project=os.environ.get("WANDB_PROJECT", "huggingface"), name=name)
    run.config.update(_settings(trainer, report), allow_val_change=True)
    run.log(_media(wandb, report, plots))
    run.summary.update(figures(report))
    if running is None:
        run.finish()


def _to_trackio(name: str, trainer: Trainer, report: DistillationReport, plots: Sequence[Path]) -> None:
    import trackio

    args = trainer.args
    where = {"space_id": args.trackio_space_id, "private": args.hub_private_repo}
    run = trackio.init(project=args.project, name=name, config=_settings(trainer, report), **where)
    run.log({**_media(trackio, report, plots), **figures(report)})
    trackio.finish()


def _media(tracker: Any, report: DistillationReport, plots: Sequence[Path]) -> dict[str, Any]:
    """Tables and plots in the types of W&B, which trackio has as well."""
    tables = {
        f"comparison/{split}": tracker.Table(
            columns=["measure", *report.models(split)], data=[[label, *cells] for label, cells in report.rows(split)]
        )
        for split in _splits(report)
    }
    if report.deployment is not None:
        rows = deployment_cells(report.deployment)
        tables["deployment"] = tracker.Table(columns=["model", *COLUMNS], data=rows)
    return {**tables, **{f"plots/{plot.stem}": tracker.Image(str(plot)) for plot in plots}}


_SENDERS: Mapping[type[TrainerCallback], Callable[..., None]] = {
    TensorBoardCallback: _to_tensorboard,
    WandbCallback: _to_wandb,
    TrackioCallback: _to_trackio,
}


@contextmanager
def _softly(tracker: TrainerCallback, what: str) -> Iterator[None]:
    """Turn what goes wrong into a warning: a tracker must not cost a training or a report."""
    try:
        yield
    except Exception as error:  # each library has its own kinds
        name = type(tracker).__name__.removesuffix("Callback")
        logger.warning("%s did not take %s: %s. Nothing else is lost.", name, what, first_line(error))


def _wandb_is_running() -> bool:
    import wandb

    return wandb.run is not None


def _home(args: TrainingArguments) -> Path:
    """The folder of the recipe, output or shared, also for what it trains in ``_teacher`` or ``_control-seed0``."""
    folder = Path(args.output_dir)
    return folder.parent if PART.fullmatch(folder.name) else folder


def _splits(report: DistillationReport) -> list[str]:
    return [report.split, *report.other_splits]


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Markdown, which TensorBoard shows."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
