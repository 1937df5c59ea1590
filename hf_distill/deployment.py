"""A model as PyTorch, as ONNX and as int8: size, speed and accuracy of each, for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from hf_distill.batches import spread_rows
from hf_distill.environment import deployment_versions, machine
from hf_distill.evaluation import Speed, measure_speed
from hf_distill.evaluation.compare import SPEED_EXAMPLES
from hf_distill.evaluation.prediction import Collator
from hf_distill.export import OnnxExport, plain_copy
from hf_distill.onnx_classifier import OnnxClassifier
from hf_distill.redaction import redacted

PYTORCH, ONNX, INT8 = "PyTorch", "ONNX", "ONNX int8"
COMPARED = ("agreement", "max_error")
"""What an ONNX file has and PyTorch has not, because it is about the two."""

TURNS = 3


def deployment_rows(
    model: nn.Module,
    exports: Sequence[OnnxExport],
    examples: Any,
    data_collator: Collator | None = None,
    *,
    role: str = "student",
    seconds: float = 5.0,
) -> list[dict[str, Any]]:
    """A row for the model in PyTorch and one for each of its ONNX files, all in float32 or int8 on the CPU.

    Scores are those that the export found. Speed is measured here as :func:`~hf_distill.evaluation.measure_speed` does
    it, on 32 rows spread evenly over the examples, with as many threads for everyone as PyTorch has. All take three
    turns, one after the other, and each counts with its fastest, since what else the machine does only slows.

    Args:
        model: What was exported.
        exports: What :func:`~hf_distill.export.export_folder` returned for it, one file or two.
        examples: The rows that the export was checked on.
        data_collator: Makes batches.
        role: ``"student"`` or ``"teacher"``.
        seconds: Longest time for each row in all, apart from the warm-up.

    Returns:
        Dicts of ``model`` (the role), ``format``, ``size_bytes``, ``latency_ms`` (``p50``, ``p95``),
        ``throughput_per_s``, ``accuracy``, ``agreement`` (share of decisions that are PyTorch's) and ``max_error`` (of
        a logit), both ``None`` for PyTorch itself; for int8 ``bound`` and ``within_bound``.
    """
    some = [examples[row] for row in spread_rows(len(examples), SPEED_EXAMPLES)]
    first = exports[0]
    contestants: dict[str, nn.Module] = {PYTORCH: plain_copy(model)}
    found: dict[str, dict[str, Any]] = {
        PYTORCH: {"size_mb": first.pytorch_size_mb, "accuracy": first.pytorch_accuracy, **dict.fromkeys(COMPARED)}
    }
    for export in exports:
        name = INT8 if export.int8 else ONNX
        contestants[name] = OnnxClassifier(export.path)
        found[name] = {key: getattr(export, key) for key in ("size_mb", "accuracy", *COMPARED)}
        if export.int8:
            found[name] |= {"bound": export.bound, "within_bound": export.within_bound}
    turns: list[dict[str, Speed]] = [
        {name: measure_speed(one, some, data_collator, seconds=seconds / TURNS) for name, one in contestants.items()}
        for _ in range(TURNS)
    ]
    return [
        {
            "model": role,
            "format": name,
            "size_bytes": round(scores.pop("size_mb") * 1e6),
            "latency_ms": min((turn[name].latency_ms for turn in turns), key=lambda latency: latency["p50"]),
            "throughput_per_s": max(turn[name].throughput_per_s for turn in turns),
            **scores,
        }
        for name, scores in found.items()
    ]


def deployment(rows: Sequence[Mapping[str, Any]], *, dataset: str, split: str | None, examples: int) -> dict[str, Any]:
    """The section of a report: the rows, and under which conditions they were measured.

    Args:
        rows: From :func:`deployment_rows`, of one model or several.
        dataset: What the report calls the data that accuracy is about.
        split: Of the data.
        examples: How many rows it has.
    """
    here = {name: value for name, value in machine("cpu").items() if name != "gpu"}
    conditions = {"dataset": redacted(dataset), "split": split, "examples": examples, "machine": here}
    return {**conditions, "versions": deployment_versions(), "rows": [dict(row) for row in rows]}


def joined(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> dict[str, Any]:
    """What a report holds already, with the rows that were measured now.

    Rows of other files stay where they were measured under the same conditions; those that no longer compare go.

    Example:
        >>> before = {"examples": 9, "rows": [{"model": "teacher", "format": "ONNX"}]}
        >>> now = {"examples": 9, "rows": [{"model": "student", "format": "ONNX"}]}
        >>> [row["model"] for row in joined(before, now)["rows"]]
        ['teacher', 'student']
        >>> [row["model"] for row in joined(before, now | {"examples": 8})["rows"]]
        ['student']
    """
    conditions = [{key: value for key, value in (section or {}).items() if key != "rows"} for section in (before, now)]
    kept = before["rows"] if before is not None and conditions[0] == conditions[1] else []
    rows = {(row["model"], row["format"]): row for row in (*kept, *now["rows"])}
    roles, formats = ("teacher", "student"), (PYTORCH, ONNX, INT8)
    order = sorted(rows, key=lambda key: (roles.index(key[0]), formats.index(key[1])))
    return {**now, "rows": [rows[key] for key in order]}
