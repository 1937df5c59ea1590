"""Rows of PyTorch, ONNX and int8 hold what the export found and what a clock says, and only what compares stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import exported
import pytest
import torch
from clock import own_clock

from hf_distill import deployment
from hf_distill.deployment import deployment_rows, joined
from hf_distill.evaluation import Speed
from hf_distill.export import OnnxExport, export_folder


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> list[OnnxExport]:
    source = exported.bert().path.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_distill.export._write", lambda model, batch, path: path.write_bytes(source))
        return export_folder(
            exported.model(), tmp_path_factory.mktemp("student"), examples=exported.texts(), data_collator=exported.pad,
            int8=True, bound=0.1,
        )  # fmt: skip


def test_a_row_for_each_with_the_scores_of_the_export(exports: list[OnnxExport]) -> None:
    rows = deployment_rows(exported.model(), exports, exported.texts(), exported.pad, role="teacher", seconds=0.2)
    assert [(row["model"], row["format"]) for row in rows] == [
        ("teacher", name) for name in ("PyTorch", "ONNX", "ONNX int8")
    ]
    whole, small = exports
    weights = sum(value.nbytes for value in exported.model().state_dict().values())
    assert [row["size_bytes"] for row in rows] == [weights, *(found.path.stat().st_size for found in exports)]
    assert [row["accuracy"] for row in rows] == [whole.pytorch_accuracy, whole.accuracy, small.accuracy]
    assert [row["agreement"] for row in rows] == [None, 1.0, small.agreement]
    assert [row["max_error"] for row in rows] == [None, whole.max_error, small.max_error]
    assert [row.get("within_bound") for row in rows] == [None, None, small.within_bound]
    assert rows[2]["bound"] == 0.1


def test_speed_is_of_the_model_named_and_in_plain_float32(
    exports: list[OnnxExport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PyTorch model that takes 5 ms and an ONNX file that takes 20, by their own doing; 32 rows from everywhere."""
    model, rows, seen, clock = exported.model().bfloat16(), exported.texts(), [], own_clock(monkeypatch)
    forward = deployment.OnnxClassifier.forward

    def slow(self: Any, **inputs: Any) -> Any:
        clock.now += 0.02
        return forward(self, **inputs)

    class Slow(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.config = model, model.config

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            clock.now += 0.005
            seen.append((len(input_ids), next(self.inner.parameters()).dtype))
            return self.inner(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)

    monkeypatch.setattr(deployment.OnnxClassifier, "forward", slow)
    pytorch, onnx = deployment_rows(Slow(), exports[:1], rows, exported.pad, seconds=0.6)
    assert (pytorch["latency_ms"]["p50"], onnx["latency_ms"]["p50"]) == pytest.approx((5, 20))
    assert (pytorch["throughput_per_s"], onnx["throughput_per_s"]) == pytest.approx((32 / 0.005, 32 / 0.02))
    assert {dtype for _, dtype in seen} == {torch.float32}
    assert next(model.parameters()).dtype == torch.bfloat16, "the model itself is left as it is"
    assert {size for size, _ in seen} == {1, 32}


def test_all_take_turns_and_the_fastest_of_each_counts(
    exports: list[OnnxExport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch, ONNX, PyTorch, ONNX, ...: the second turn of the one is its fastest, and the first of the other."""
    times = iter([9.0, 3.0, 4.0, 5.0, 6.0, 4.0])

    def speed(model: Any, *_: Any, **__: Any) -> Speed:
        ms = next(times)
        return Speed({"p50": ms, "p95": 2 * ms}, 1000.0 / ms)

    monkeypatch.setattr(deployment, "measure_speed", speed)
    pytorch, onnx = deployment_rows(exported.model(), exports[:1], exported.texts(), exported.pad)
    assert (pytorch["latency_ms"], pytorch["throughput_per_s"]) == ({"p50": 4.0, "p95": 8.0}, 250.0)
    assert (onnx["latency_ms"], onnx["throughput_per_s"]) == ({"p50": 3.0, "p95": 6.0}, 1000.0 / 3.0)


def test_the_section_says_under_which_conditions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "machine", lambda device: {"cpu": "A", "gpu": None, "cores": 2, "threads": 1})
    found = deployment.deployment([{"model": "student"}], dataset="/home/anna/sst2", split="test", examples=7)
    assert set(found.pop("versions")) == {"torch", "onnx", "onnxscript", "onnxruntime"}
    assert found == {
        "dataset": "path/to/sst2",
        "split": "test",
        "examples": 7,
        "machine": {"cpu": "A", "cores": 2, "threads": 1},
        "rows": [{"model": "student"}],
    }


def section(*rows: tuple[str, str, float], **conditions: Any) -> dict[str, Any]:
    named = [{"model": model, "format": name, "accuracy": accuracy} for model, name, accuracy in rows]
    return {"split": "test", "machine": {"threads": 1}, **conditions, "rows": named}


def test_rows_of_one_file_replace_each_other_and_stand_in_order() -> None:
    before = section(("student", "PyTorch", 0.1), ("student", "ONNX int8", 0.2), ("teacher", "PyTorch", 0.3))
    now = section(("student", "ONNX", 0.4), ("student", "PyTorch", 0.5))
    students = [("student", "PyTorch", 0.5), ("student", "ONNX", 0.4), ("student", "ONNX int8", 0.2)]
    assert joined(before, now) == section(("teacher", "PyTorch", 0.3), *students)
    assert joined(None, now)["rows"] == [now["rows"][1], now["rows"][0]]


@pytest.mark.parametrize("other", [{"split": "validation"}, {"machine": {"threads": 2}}, {"examples": 5}])
def test_rows_under_other_conditions_are_dropped(other: dict[str, Any]) -> None:
    now = section(("student", "ONNX", 0.4), **other)
    assert joined(section(("teacher", "PyTorch", 0.3)), now) == now


def test_rows_are_spread_over_all_examples(exports: list[OnnxExport], monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    speed = type("Speed", (), {"latency_ms": {"p50": 1.0, "p95": 1.0}, "throughput_per_s": 1.0})
    monkeypatch.setattr(deployment, "measure_speed", lambda model, rows, *_, **__: given.append(rows) or speed)
    rows = exported.texts(63)
    deployment_rows(exported.model(), exports[:1], rows, exported.pad)
    assert given == [rows[::2]] * 6  # two contestants, three turns


def test_no_path_is_told(exports: list[OnnxExport]) -> None:
    figures = exports[0].figures_path.read_text()
    assert str(Path(exports[0].path).parent) not in figures
