"""A comparison as pictures: training curves, the models side by side, confusion matrices, reliability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from hf_distill.figures import is_number
from hf_distill.objective import Objective
from hf_distill.report import DistillationReport

COLOURS = {"teacher": "#0072B2", "student": "#D55E00", "control": "#6E6E6E"}
COMPONENT_COLOURS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
COMPONENT_LINES = ("--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
"""Okabe and Ito's palette, told apart also without colour vision; lines differ in dashes as well."""

MOST_CLASSES_WITH_NUMBERS, MOST_CLASSES_WITH_NAMES = 10, 30

History = Sequence[Mapping[str, Any]]


def save_plots(
    report: DistillationReport, directory: str | Path, histories: Mapping[str, History] | None = None
) -> list[Path]:
    """Write all pictures of a report as PNG files.

    Args:
        report: What :func:`hf_distill.evaluation.compare` returned.
        directory: Where to; made where it is missing.
        histories: ``trainer.state.log_history`` of each run, such as ``{"student": ..., "control": ...}``, for the
            training curves.

    Returns:
        The files: ``training_curves.png`` (with ``histories``), ``models.png``, ``confusion.png`` (for up to 100
        classes) and ``reliability.png``.
    """
    figures = {"models": plot_models(report), "reliability": plot_reliability(report)}
    if report.student["confusion"] is not None:
        figures["confusion"] = plot_confusion(report)
    if histories:
        seed = f"seed {report.seeds[0]}" if report.seeds else ""
        figures["training_curves"] = plot_training_curves(histories, seed)
    Path(directory).mkdir(parents=True, exist_ok=True)
    paths = {name: Path(directory) / f"{name}.png" for name in sorted(figures)}
    for name, path in paths.items():
        figures[name].savefig(path, dpi=150)
    return list(paths.values())


def plot_training_curves(histories: Mapping[str, History], title: str = "") -> Figure:
    """The training loss with every component, and the evaluation's loss and accuracy, over the steps.

    Args:
        histories: ``trainer.state.log_history`` of each run by name.
        title: Written above, such as the seed of these runs.
    """
    panels = {"Training loss and its parts": _training_lines(histories)}
    for panel, ending in (("Evaluation loss", "_loss"), ("Evaluation accuracy", "_accuracy")):
        if lines := _evaluation_lines(histories, ending):
            panels[panel] = lines
    figure, axes = _figure(1, len(panels), height=3.8, width=4.6)
    figure.suptitle(title)
    for axis, (panel, lines) in zip(axes[0], panels.items(), strict=True):
        for label, (steps, values, style) in lines.items():
            axis.plot(steps, values, label=label, marker="o" if len(steps) < 20 else None, markersize=3, **style)
        axis.set(title=panel, xlabel="step", ylabel="accuracy" if "accuracy" in panel else "loss")
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axis.margins(y=0.08)
        if lines:
            axis.legend(frameon=False, fontsize=8)
    return figure


def plot_models(report: DistillationReport) -> Figure:
    """Accuracy, macro F1, size and latency of the models, with the spread over seeds.

    Scores are points, so that the axis need not start at 0; size and latency are bars from 0, with a line from the
    median to the 95th percentile of the latency.
    """
    figure, [axes] = _figure(1, 4, height=3.6, width=2.9)
    models = report.models()
    for axis, (title, key) in zip(axes[:2], (("Accuracy", "accuracy"), ("Macro F1", "macro_f1")), strict=True):
        for place, name in enumerate(models):
            mean, std = getattr(report, name)[key], getattr(report, name)[f"{key}_std"]
            axis.errorbar(place, mean, yerr=std, color=COLOURS[name], marker="o", markersize=8, capsize=5)
            _number(axis, place, mean + (std or 0.0), f"{mean:.3f}")
        axis.margins(x=0.3, y=0.25)
        axis.set(title=title)
        if len(report.seeds) > 1:
            axis.set_xlabel("line: standard deviation over seeds", fontsize=8)
    for axis, title, key in ((axes[2], "Size (MB)", "size_mb"), (axes[3], "Latency, one example (ms)", "latency_ms")):
        for place, name in enumerate(models):
            value = getattr(report, name)[key]
            if value is None:
                _number(axis, place, 0.0, "–")
                continue
            low, high = (value["p50"], value["p95"]) if isinstance(value, dict) else (value, value)
            axis.bar(place, low, width=0.6, color=COLOURS[name])
            if high > low:
                axis.plot([place, place], [low, high], color="black", marker="_", linewidth=1.2, markersize=9)
            _number(axis, place, high, f"{low:.1f}")
        axis.margins(x=0.1, y=0.15)
        axis.set(title=title)
    axes[3].set_xlabel("bar: median, line: up to the 95th percentile", fontsize=8)
    for axis in axes:
        axis.set_xticks(range(len(models)), models)
    figure.suptitle(report.title())
    return figure


def plot_confusion(report: DistillationReport) -> Figure:
    """A confusion matrix for each model: of the examples of a true class, the share that it put into each class.

    Raises:
        ValueError: the report has no confusion matrices, because there are more than 100 classes.
    """
    models = report.models()
    if report.student["confusion"] is None:
        raise ValueError("The report has no confusion matrices: it keeps them for up to 100 classes only.")
    count = len(report.student["confusion"])
    names = [str(name) for name in report.student["per_class"]]
    names = names if len(names) == count else [str(index) for index in range(count)]
    figure, [axes] = _figure(1, len(models), height=min(4.2, 2.6 + 0.3 * count), width=min(4.2, 2.6 + 0.3 * count))
    for axis, model in zip(axes, models, strict=True):
        counts = np.asarray(getattr(report, model)["confusion"])
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        image = axis.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
        if count <= MOST_CLASSES_WITH_NUMBERS:
            _write_cells(axis, shares, counts if count <= MOST_CLASSES_WITH_NUMBERS // 2 else None)
        shown = list(range(count)) if count <= MOST_CLASSES_WITH_NAMES else []
        labels = [name if len(name) <= 14 else name[:13] + "…" for name in (names[index] for index in shown)]
        axis.set_xticks(shown, labels, rotation=0 if count <= 3 else 90)
        axis.set_yticks(shown, labels if axis is axes[0] else [], rotation=0 if count > 3 else 90, va="center")
        axis.set(title=model, xlabel="predicted class", ylabel="true class" if axis is axes[0] else "")
        axis.spines[:].set_visible(False)
        axis.grid(visible=False)
        axis.tick_params(length=0)
    bar = figure.colorbar(image, ax=list(axes), shrink=0.8, format=PercentFormatter(1.0, symbol=""))
    bar.set_label("share of the true class, %")
    bar.outline.set_visible(False)
    figure.suptitle(report.title())
    return figure


def plot_reliability(report: DistillationReport) -> Figure:
    """Accuracy against confidence for each model, and below it how often the model is how confident.

    Bars below the diagonal mean overconfidence, bars above it the opposite.
    """
    models = report.models()
    figure, axes = _figure(2, len(models), height=2.3, width=3.5, sharex=True, sharey="row", height_ratios=[3, 1])
    for column, name in enumerate(models):
        scores = getattr(report, name)
        accuracy, count = (np.asarray(scores["reliability"][key]) for key in ("accuracy", "count"))
        width = 1.0 / len(count)
        middle, used = (np.arange(len(count)) + 0.5) * width, count > 0
        top, bottom = axes[0][column], axes[1][column]
        top.bar(middle[used], accuracy[used], width=0.92 * width, color=COLOURS[name])
        top.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1, label="perfectly calibrated")
        top.set(title=f"{name}: ECE {scores['ece']:.3f}", xlim=(0, 1), ylim=(0, 1))
        bottom.bar(middle, count / count.sum(), width=0.92 * width, color=COLOURS[name])
        bottom.set_xlabel("confidence (probability of the predicted class)", fontsize=9)
        bottom.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes[0][0].set_ylabel("accuracy")
    axes[1][0].set_ylabel("examples")
    axes[0][0].legend(frameon=False, fontsize=8, loc="upper left")
    figure.suptitle(report.title())
    return figure


def _training_lines(histories: Mapping[str, History]) -> dict[str, Any]:
    """Label to steps, values and style: the loss of each run, and its components where there are several."""
    lines: dict[str, Any] = {}
    for name, history in histories.items():
        logs = [entry for entry in history if "loss" in entry]
        style = {"color": COLOURS.get(name, "black"), "linewidth": 2.0, "linestyle": "-"}
        lines[f"{name}: loss"] = (*_series(logs, "loss"), style)
        parts = sorted({key for log in logs for key, value in log.items() if _is_component(key, value, log)})
        for number, key in enumerate(parts if len(parts) > 1 else []):
            colour, dashes = (choice[number % len(choice)] for choice in (COMPONENT_COLOURS, COMPONENT_LINES))
            lines[f"{name}: {key}"] = (*_series(logs, key), {"color": colour, "linewidth": 1.4, "linestyle": dashes})
    return {label: line for label, line in lines.items() if line[0]}


def _evaluation_lines(histories: Mapping[str, History], ending: str) -> dict[str, Any]:
    """The same for what evaluation logged: ``eval_loss``, or ``eval_<name>_loss`` for several evaluation sets."""
    lines: dict[str, Any] = {}
    for name, history in histories.items():
        keys = dict.fromkeys(key for log in history for key in log if key.startswith("eval_") and key.endswith(ending))
        for number, key in enumerate(keys):
            dataset = key.removeprefix("eval").removesuffix(ending).strip("_")
            style = {"color": COLOURS.get(name, "black"), "linestyle": ("-", *COMPONENT_LINES)[number % 6]}
            lines[f"{name} {dataset}".strip()] = (*_series(history, key), style)
    return lines


def _series(history: History, key: str) -> tuple[list[int], list[float]]:
    logs = [log for log in history if key in log and "step" in log]
    return [int(log["step"]) for log in logs], [float(log[key]) for log in logs]


def _is_component(key: str, value: Any, log: Mapping[str, Any]) -> bool:
    """Whether a log entry is a part of the loss: not one of the Trainer's own, nor ``kd_weight`` beside ``kd``."""
    is_setting = any(key.removesuffix(f"_{setting}") in log.keys() - {key} for setting in Objective.SETTINGS)
    return is_number(value) and not is_setting and key not in Objective.RESERVED


def _figure(rows: int, columns: int, *, height: float, width: float, **layout: Any) -> tuple[Figure, Any]:
    """A figure with its own canvas, untouched by pyplot's global state, and its axes ``(rows, columns)``."""
    ratios = {"height_ratios": layout.pop("height_ratios")} if "height_ratios" in layout else {}
    figure = Figure(figsize=(columns * width, rows * height))
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.08)
    axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw=ratios, **layout)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#DDDDDD", linewidth=0.8)
        axis.set_axisbelow(True)
    return figure, axes


def _number(axis: Any, x: float, y: float, text: str) -> None:
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    axis.annotate(text, (x, y), xytext=(0, 9), textcoords="offset points", ha="center", fontsize=9, bbox=box)


def _write_cells(axis: Any, shares: Any, counts: Any) -> None:
    for (row, column), share in np.ndenumerate(shares):
        text = f"{100 * share:.0f}" if counts is None else f"{share:.1%}\n{counts[row, column]:,.0f}"
        axis.text(column, row, text, ha="center", va="center", fontsize=9, color="white" if share > 0.55 else "black")
