"""What a report says about PyTorch, ONNX and int8, as the cells of a table and in words."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = ("size, MB", "latency p50, ms", "examples/s", "accuracy", "as PyTorch", "largest error")
WIDTHS = (20, 9, 17, 12, 10, 12, 15)
MISSING = "–"


def deployment_cells(deployment: Mapping[str, Any]) -> list[list[str]]:
    """The name of each row, such as ``student, ONNX int8``, and a cell for each of ``COLUMNS``.

    Example:
        >>> row = {"model": "student", "format": "ONNX", "size_bytes": 62_500_000, "latency_ms": {"p50": 2.6}}
        >>> more = {"throughput_per_s": 256.2, "accuracy": 0.859, "agreement": 1.0, "max_error": 2.4e-6}
        >>> deployment_cells({"rows": [{**row, **more}]})
        [['student, ONNX', '62.5', '2.60', '256', '0.859', '1.000', '2.4e-06']]
    """
    return [
        [
            f"{row['model']}, {row['format']}",
            f"{row['size_bytes'] / 1e6:,.1f}",
            f"{row['latency_ms']['p50']:,.2f}",
            f"{row['throughput_per_s']:,.0f}",
            _cell(row["accuracy"], ".3f"),
            _cell(row["agreement"], ".3f"),
            _cell(row["max_error"], ".2g"),
        ]
        for row in deployment["rows"]
    ]


def deployment_notes(deployment: Mapping[str, Any]) -> list[str]:
    """What must be said beside the table: what was measured where, and whether int8 kept within its bound."""
    machine = deployment["machine"]
    notes = [
        f"In float32, and in int8 where that is said, on the CPU: {machine.get('cpu')}, cores: {machine.get('cores')}, "
        f"threads: {machine.get('threads')}. Latency is the median call with one example; examples/s are of batches "
        "of 32; both are the best of three turns. As PyTorch: the share of decisions that are the same. Largest error: "
        "of a logit."
    ]
    for row in deployment["rows"]:
        if row.get("within_bound") is not None:
            what = "accuracy" if row["accuracy"] is not None else "agreement with PyTorch"
            does = "keeps within" if row["within_bound"] else "does NOT keep within"
            notes.append(f"The {row['model']}'s int8 {does} its bound, a loss of {row['bound']:.3f} of {what}.")
    return notes


def deployment_title(deployment: Mapping[str, Any]) -> str:
    """One line that says what the table is about."""
    name = f"{deployment['dataset'].removeprefix('path/to/')} {deployment['split'] or ''}".strip()
    return f"PyTorch, ONNX and int8 on {name}: {deployment['examples']:,} examples"


def deployment_lines(deployment: Mapping[str, Any]) -> list[str]:
    """Title, table and notes for a terminal, at most 100 columns wide."""
    head, *lines = map(_line, [["", *COLUMNS], *deployment_cells(deployment)])
    notes = [line for note in deployment_notes(deployment) for line in textwrap.wrap(note, 100)]
    return [*textwrap.wrap(deployment_title(deployment), 100), head, "-" * sum(WIDTHS), *lines, *notes]


def _line(row: Sequence[str]) -> str:
    return "".join(f"{cell:{way}{width}}" for cell, way, width in zip(row, "<>>>>>>", WIDTHS, strict=True))


def _cell(value: float | None, form: str) -> str:
    return MISSING if value is None else format(value, form)
