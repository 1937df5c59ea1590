"""A report's figures as the cells of a model card's tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from hf_distill.deployment_table import MISSING

MODELS = ("teacher", "student", "control")


def measure_rows(report: Mapping[str, Any], models: Sequence[str]) -> list[list[str]]:
    """One line a measure: its name, then each model's figure. Measures that nobody has are left out."""
    columns = [report.get(model) or {} for model in models]
    measures = (
        ("Accuracy", "accuracy", ".3f"),
        ("Macro F1", "macro_f1", ".3f"),
        ("Calibration error (ECE)", "ece", ".3f"),
        ("Parameters", "parameters", ",.0f"),
        ("Size, MB", "size_mb", ",.1f"),
        ("Latency p50, ms", "latency_ms.p50", ",.2f"),
        ("Latency p95, ms", "latency_ms.p95", ",.2f"),
        ("Throughput, examples/s", "throughput_per_s", ",.0f"),
        ("Training, s", "training_s", ",.0f"),
        ("Training energy, Wh", "training_energy_wh", ",.2f"),
    )
    rows = [[title, *(figure(scores, key, spec) for scores in columns)] for title, key, spec in measures]
    return [row for row in rows if any(cell != MISSING for cell in row[1:])]


def class_rows(report: Mapping[str, Any], compared: Sequence[str]) -> list[list[str]]:
    """One line a class: the student's precision, recall and F1, the others' F1, and how many examples there were."""
    classes = {model: _with_spread(report.get(model) or {}) for model in MODELS}
    return [
        [
            label,
            *(figure(scores, key, ".3f") for key in ("precision", "recall", "f1")),
            *(figure(classes[model].get(label) or {}, "f1", ".3f") for model in compared),
            figure(scores, "support", ",.0f"),
        ]
        for label, scores in classes["student"].items()
    ]


def _with_spread(scores: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures of each class with their deviations, which the report keeps apart, beside them."""
    spreads = scores.get("per_class_std") or {}
    return {
        label: {**figures, **{f"{key}_std": value for key, value in (spreads.get(label) or {}).items()}}
        for label, figures in (scores.get("per_class") or {}).items()
    }


def figure(scores: Mapping[str, Any], key: str, spec: str) -> str:
    """A figure with its standard deviation where there is one; ``latency_ms.p50`` looks into ``latency_ms``."""
    outer, _, inner = key.partition(".")
    mean, spread = (scores.get(name) for name in (outer, f"{outer}_std"))
    if inner:
        mean, spread = ((value or {}).get(inner) for value in (mean, spread))
    if not is_number(mean):
        return MISSING
    return f"{mean:{spec}} ± {spread:{spec}}" if is_number(spread) and spread > 0 else f"{mean:{spec}}"


def is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
