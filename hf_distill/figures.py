"""A report's figures as the cells of tables: on a card, on a page, in a terminal and in trackers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from hf_distill.deployment_table import MISSING

MODELS = ("teacher", "student", "control")


SCORES = (
    ("accuracy", "accuracy", ".3f"),
    ("macro F1", "macro_f1", ".3f"),
    ("calibration error (ECE)", "ece", ".3f"),
)
OF_ALL_SPLITS = (
    ("parameters", "parameters", ",.0f"),
    ("size, MB", "size_mb", ",.1f"),
    ("latency p50, ms", "latency_ms.p50", ",.2f"),
    ("latency p95, ms", "latency_ms.p95", ",.2f"),
    ("throughput, examples/s", "throughput_per_s", ",.0f"),
    ("training, s", "training_s", ",.0f"),
    ("training energy, Wh", "training_energy_wh", ",.2f"),
)
"""These do not depend on the split and stand with the main one only."""


def measure_rows(split: Mapping[str, Any], models: Sequence[str], main: bool = True) -> list[list[str]]:
    """One line a measure: its name, then each model's figure. Measures that nobody has are left out.

    Args:
        split: What a report says of a split.
        models: Some of ``MODELS``.
        main: Whether it is the report's main split.
    """
    columns = [split.get(model) or {} for model in models]
    measures = (*SCORES, *(OF_ALL_SPLITS if main else ()))
    rows = [[label, *(figure(scores, key, spec) for scores in columns)] for label, key, spec in measures]
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
