"""The table of PyTorch, ONNX and int8 in figures that are written out here, and its words."""

from __future__ import annotations

from typing import Any

import pytest

from hf_distill.deployment_table import COLUMNS, deployment_lines, deployment_notes, deployment_title


def row(model: str = "student", name: str = "PyTorch", **changes: Any) -> dict[str, Any]:
    figures: dict[str, Any] = {
        **{"model": model, "format": name, "size_bytes": 62_469_512, "latency_ms": {"p50": 5.104, "p95": 9.0}},
        **{"throughput_per_s": 1237.4, "accuracy": 0.8589, "agreement": None, "max_error": None},
    }
    return {**figures, **changes}


def section(**changes: Any) -> dict[str, Any]:
    small = {"size_bytes": 15_700_000, "agreement": 0.9908, "max_error": 0.4187, "bound": 0.01, "within_bound": True}
    return {
        **{"dataset": "path/to/sst2", "split": "validation", "examples": 1872},
        **{"machine": {"cpu": "A processor", "cores": 2, "threads": 1}, "versions": {"torch": "2"}},
        **{"rows": [row("teacher"), row(), row(name="ONNX int8", **small)]},
        **changes,
    }


def test_figures_stand_under_their_heads_within_100_columns() -> None:
    title, head, rule, *rest = deployment_lines(section())
    assert title == "PyTorch, ONNX and int8 on sst2 validation: 1,872 examples"
    assert max(map(len, [head, rule, *rest])) <= 100
    ends = [head.index(column) + len(column) for column in COLUMNS]
    assert [[line[:20].strip(), *(line[:end].split()[-1] for end in ends)] for line in rest[:3]] == [
        ["teacher, PyTorch", "62.5", "5.10", "1,237", "0.859", "–", "–"],
        ["student, PyTorch", "62.5", "5.10", "1,237", "0.859", "–", "–"],
        ["student, ONNX int8", "15.7", "5.10", "1,237", "0.859", "0.991", "0.42"],
    ]
    assert "A processor, cores: 2, threads: 1" in " ".join(rest)


@pytest.mark.parametrize(("within", "says"), [(True, "keeps within"), (False, "does NOT keep within")])
@pytest.mark.parametrize(("accuracy", "of"), [(0.8, "accuracy"), (None, "agreement with PyTorch")])
def test_int8_says_whether_it_keeps_within_its_bound(within: bool, says: str, accuracy: Any, of: str) -> None:
    small = row("teacher", "ONNX int8", bound=0.02, within_bound=within, accuracy=accuracy)
    notes = deployment_notes(section(rows=[row(), small]))
    assert notes[1:] == [f"The teacher's int8 {says} its bound, a loss of 0.020 of {of}."]


def test_without_a_split_the_title_has_none() -> None:
    found = section(split=None, dataset="org/" + "long " * 30)
    assert "None" not in deployment_title(found)
    assert all(len(line) <= 100 for line in deployment_lines(found))
