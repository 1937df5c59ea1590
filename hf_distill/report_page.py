"""A report as one HTML page that needs nothing beside it: tables, plots and what was run."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_distill.deployment_table import COLUMNS, deployment_cells, deployment_notes, deployment_title
from hf_distill.report import DistillationReport, flag_by_flag
from hf_distill.templating import template

PLOTS = {
    "models.png": "Teacher, student and control side by side: accuracy, size and speed.",
    "training_curves.png": "Losses and accuracy over the training steps.",
    "confusion.png": "Which class was taken for which.",
    "reliability.png": "How often an answer is right that is given with so much confidence.",
}
"""The files that ``save_plots`` writes, with what they show."""


def report_page(report: DistillationReport, plots: str | Path | None = None) -> str:
    """The page.

    Args:
        report: What :func:`~hf_distill.compare` found.
        plots: The folder of the pictures that :func:`~hf_distill.plots.save_plots` wrote; those there are go into the
            page.

    Returns:
        HTML. Nothing in it is loaded from elsewhere.
    """
    pictures = [
        {"data": base64.b64encode((Path(plots) / name).read_bytes()).decode(), "says": says}
        for name, says in PLOTS.items()
        if plots is not None and (Path(plots) / name).is_file()
    ]
    splits = [report.split, *report.other_splits]
    page: str = template("report.html", {"flag_by_flag": flag_by_flag}).render(
        report=report,
        title=report.title(),
        headlines=_headlines(report),
        tables=[
            {"title": report.title(split), "models": report.models(split), "rows": report.rows(split),
             "notes": report.notes(split)}
            for split in splits
        ],
        deployed=_deployed(report.deployment),
        classes=_classes(report),
        seeds=report.seeds,
        pictures=pictures,
        facts=_facts(report),
    )  # fmt: skip
    return page


def _headlines(report: DistillationReport) -> list[tuple[str, str]]:
    """The few numbers that one looks for first; what is not known is left out."""
    student, teacher, control = report.student, report.teacher, report.control
    found: list[tuple[str, str]] = [("accuracy of the student", f"{student['accuracy']:.1%}")]
    found.append(("of the teacher", f"{teacher['accuracy']:.1%}"))
    if control is not None:
        found.append(("of the control", f"{control['accuracy']:.1%}"))
    if report.gap_closed is not None:
        spread = f" (± {report.gap_closed_std:.0%} over seeds)" if report.gap_closed_std else ""
        found.append((f"of the gap closed{spread}", f"{report.gap_closed:.0%}"))
    for key, words, inverse in (
        ("size_mb", "of the teacher's size", False),
        ("throughput_per_s", "the teacher's speed", True),
    ):
        ours, theirs = student.get(key), teacher.get(key)
        if ours and theirs:
            found.append((words, f"{ours / theirs:.1f}×" if inverse else f"{ours / theirs:.0%}"))
    return found


def _deployed(deployment: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The table of PyTorch, ONNX and int8."""
    if deployment is None:
        return None
    return {
        "title": deployment_title(deployment),
        "columns": COLUMNS,
        "rows": deployment_cells(deployment),
        "notes": deployment_notes(deployment),
        "versions": _titled(deployment["versions"]),
    }


def _classes(report: DistillationReport) -> list[list[str]]:
    """Precision, recall, F1 and support of the student, class by class."""
    return [
        [name, *(f"{figures[key]:.3f}" for key in ("precision", "recall", "f1")), f"{figures['support']:,}"]
        for name, figures in (report.student.get("per_class") or {}).items()
    ]


def _facts(report: DistillationReport) -> list[tuple[str, str]]:
    facts: list[tuple[str, Any]] = [
        ("Processor", report.machine.get("gpu") or report.machine.get("cpu")),
        ("Cores", report.machine.get("cores")),
        ("Threads", report.machine.get("threads")),
        *_titled(report.versions),
    ]
    return [(name, str(value)) for name, value in facts if value not in (None, "")]


def _titled(versions: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name.replace("_", "-"), version) for name, version in versions.items()]
