"""``--export``: the student as ONNX files in its folder, and what these are worth, beside the teacher's."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel

from hf_distill.deployment import deployment_rows
from hf_distill.evaluation.prediction import Collator
from hf_distill.export import check_installed, export_folder, plain_copy
from hf_distill.labels import label_names
from hf_distill.redaction import first_line
from hf_distill.student import with_class_order

logger = logging.getLogger(__name__)

EXPORTS = ("none", "onnx", "int8")
"""What ``--export`` takes."""


def check_export(export: str) -> None:
    """Raise, before anything takes long, where a student could not be exported in the end.

    Raises:
        ValueError: a package is not installed.
    """
    if export != "none":
        try:
            check_installed()
        except ImportError as error:
            raise ValueError(f"--export {export}: {error}") from error


def export_model(
    model: PreTrainedModel, folder: Path, rows: Dataset, collator: Collator, export: str, role: str = "student"
) -> list[dict[str, Any]]:
    """Write a model's ONNX files into a folder, and measure them.

    Args:
        model: The model.
        folder: Its folder.
        rows: The evaluation split, to check and measure the files on.
        collator: Makes batches of it.
        export: ``"onnx"``, or ``"int8"`` for both files.
        role: ``"student"`` or ``"teacher"``.

    Returns:
        Rows of a report's ``deployment``.
    """
    exports = export_folder(model, folder, examples=rows, data_collator=collator, int8=export == "int8")
    return deployment_rows(model, exports, rows, collator, role=role)


def export_teacher(
    teacher: PreTrainedModel, student: PreTrainedModel, folder: Path, rows: Dataset, collator: Collator, export: str
) -> list[dict[str, Any]]:
    """The teacher's rows, with its classes in the student's order, in which the rows count them.

    Its files are made in a folder of their own beneath ``folder`` and are gone in the end.

    Returns:
        Rows of a report's ``deployment``; none, with a warning, where the teacher cannot be exported.
    """
    with tempfile.TemporaryDirectory(prefix="_teacher_onnx_", dir=folder) as place:
        try:
            ordered = plain_copy(teacher)
            if names := label_names(student.config):
                ordered = with_class_order(ordered, names)
            return export_model(ordered, Path(place), rows, collator, export, "teacher")
        except Exception as error:  # also those of ONNX Runtime, which are no common ones
            logger.warning("The teacher has no place in the table of ONNX files: %s", first_line(error))
            return []
