"""The end of a recipe: compare, write everything down, show it, and push if asked to."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel

from hf_distill.card_facts import settings_of
from hf_distill.deployment import deployment, joined
from hf_distill.evaluation import compare
from hf_distill.evaluation.prediction import Collator
from hf_distill.noise import Noise
from hf_distill.onnx_classifier import ONNX_FILES
from hf_distill.plots import save_plots
from hf_distill.processes import leave_together
from hf_distill.recipe.effort import effort_of
from hf_distill.recipe.exports import export_model, export_teacher
from hf_distill.recipe.hardware import LAUNCHED
from hf_distill.redaction import public_settings
from hf_distill.report import DistillationReport
from hf_distill.tracking import track_report
from hf_distill.trainer import DistillationTrainer

logger = logging.getLogger(__name__)


def report_results(
    students: Sequence[DistillationTrainer],
    controls: Sequence[DistillationTrainer],
    teacher: PreTrainedModel,
    evaluation: Mapping[str, Dataset],
    collator: Collator,
    *,
    teacher_evaluation: Mapping[str, Dataset] | None = None,
    teacher_collator: Collator | None = None,
    dataset: str,
    origin: str,
    card: Mapping[str, Any],
    settings: Mapping[str, Any] = MappingProxyType({}),
    export: str = "none",
    push: bool = False,
) -> DistillationReport | None:
    """Compare teacher, students and controls; write report, plots and card into the first student's folder.

    The trackers of ``report_to`` get the comparison as well. Of several processes the first one does all this, and the
    others are free to go: nothing can be trained in common afterwards.

    Args:
        students: One a seed; the first is the one that is published.
        controls: The same without the teacher.
        teacher: Whom they learned from.
        evaluation: Labelled splits as the student reads them.
        collator: For student and control.
        teacher_evaluation: The same splits as the teacher reads them; default the same.
        teacher_collator: For the teacher; default the same.
        dataset: What report and card call the data.
        origin: What the student was before, in words.
        card: More for the card: arguments of ``create_model_card``.
        settings: What the recipe says of its data, beside the settings of the trainer.
        export: One of ``EXPORTS``: whether the first student becomes ONNX files too, and whether report and card say
            what it and the teacher are worth as such.
        push: Whether to push the first student in the end.

    Returns:
        The report; ``None`` on all processes but the main one.
    """
    leave_together()
    first = students[0]
    if not first.is_world_process_zero():
        return None
    folder = Path(first.args.output_dir)
    report = compare(
        [trainer.model for trainer in students],
        teacher,
        dict(evaluation),
        [trainer.model for trainer in controls],
        data_collator=collator,
        teacher_dataset=None if teacher_evaluation is None else dict(teacher_evaluation),
        teacher_collator=teacher_collator,
        seeds=[trainer.args.seed for trainer in students],
        dataset_name=dataset,
        batch_size=first.args.eval_batch_size,
        device=first.args.device,
        command=shlex.join([*(("accelerate", "launch") if LAUNCHED in os.environ else ("python",)), *sys.argv]),
    )
    report = replace(
        report,
        student={**report.student, **effort_of(students)},
        control=report.control and {**report.control, **effort_of(controls)},
        training=_training(students, controls, settings),
        deployment=_deployment_before(folder),
    )
    report.save(folder)
    plots = save_plots(
        report,
        folder,
        {"student": first.state.log_history, "control": controls[0].state.log_history if controls else []},
    )
    first.report, first.student_origin = report.to_dict(), origin
    first.create_model_card(dataset=dataset, **card)
    logger.info("Student, report, plots and model card are in %s.", folder)
    if export != "none":
        report = _exported(first, teacher, report, evaluation, collator, teacher_evaluation, teacher_collator, export)
        first.report = report.to_dict()
        first.create_model_card(dataset=dataset, **card)
    track_report(first, report, plots)
    if push:
        first.push_to_hub(dataset=dataset, **card)
    return report


def _training(
    students: Sequence[DistillationTrainer], controls: Sequence[DistillationTrainer], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """What report and card say of the trainings: of the student that is published, and how the controls were made."""
    known = public_settings({**settings_of(students[0]), **settings})
    made = _control(students, controls, known.get("of them without a label", 0))
    return {"published_seed": students[0].args.seed, **({"control": made} if made else {}), "settings": known}


def _control(
    students: Sequence[DistillationTrainer], controls: Sequence[DistillationTrainer], unlabelled: int
) -> str | None:
    """How the controls were made, in words; ``None`` where there are none, or they are others than the usual ones."""

    def alike(of: Callable[[DistillationTrainer], Any]) -> bool:
        return [of(student) for student in students] == [of(control) for control in controls]

    if not alike(lambda trainer: (trainer.args.seed, trainer.state.max_steps)):
        return None
    if controls and all(isinstance(trainer.train_dataset, Noise) for trainer in controls):
        return (
            "the same student, taught by the same teacher for the same number of steps with the same seeds, but on "
            "images of pure noise"
        )
    if alike(lambda trainer: len(trainer.train_dataset)):
        return (
            "the same student, trained on the same data for the same number of steps with the same seeds, but without "
            "the teacher"
        )
    if len(controls[0].train_dataset) == len(students[0].train_dataset) - unlabelled:
        return (
            "the same student, trained for the same number of steps with the same seeds, but without the teacher, and "
            "so on the labelled examples alone"
        )
    return None


def _deployment_before(folder: Path) -> dict[str, Any] | None:
    """What was measured of the ONNX files in the folder: a student that is trained anew leaves none of the old ones."""
    if not any((folder / name).is_file() for name in ONNX_FILES.values()):
        return None
    try:
        return DistillationReport.load(folder).deployment
    except (FileNotFoundError, ValueError):
        return None


def _exported(
    student: DistillationTrainer,
    teacher: PreTrainedModel,
    report: DistillationReport,
    evaluation: Mapping[str, Dataset],
    collator: Collator,
    teacher_evaluation: Mapping[str, Dataset] | None,
    teacher_collator: Collator | None,
    export: str,
) -> DistillationReport:
    """The report with what the ONNX files are worth; as it was, with an error in the log, if there are none."""
    folder, rows = Path(student.args.output_dir), evaluation[report.split]
    theirs = (teacher_evaluation or evaluation)[report.split], teacher_collator or collator
    try:
        ours = export_model(student.model, folder, rows, collator, export)
    except Exception as error:  # also those of ONNX Runtime, which are no common ones
        logger.error("The student could not be exported; all else is done. %s", error)
        return report
    measured = [*export_teacher(teacher, student.model, folder, *theirs, export), *ours]
    section = deployment(measured, dataset=report.dataset, split=report.split, examples=len(rows))
    report = replace(report, deployment=joined(report.deployment, section))
    report.save(folder)
    logger.info("The ONNX files are in %s.", folder / "onnx")
    return report
