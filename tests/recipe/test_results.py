"""The end of a recipe leaves what it found where people look: on the disk, and in their trackers."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from datasets import Dataset
from test_report import report
from transformers import default_data_collator

from hf_distill import DistillationReport, DistillationTrainer
from hf_distill.recipe import report_results, results

PLOTS = ["confusion", "models", "reliability", "training_curves"]


def test_files_and_trackers_hold_the_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    found = report()
    monkeypatch.setattr(results, "compare", lambda *args, **settings: found)
    args: dict[str, Any] = {"report_to": "tensorboard", "run_name": "try"}
    trainer = DistillationTrainer(tiny.bert(), tiny.arguments(tmp_path, **args), train_dataset=tiny.dataset())
    trainer.state.log_history = [{"loss": 0.5, "ce": 0.5, "step": 1}]
    returned = report_results(
        [trainer], [], tiny.bert(), {"test": tiny.dataset()}, default_data_collator, dataset="toy", origin="", card={}
    )
    assert returned is not None
    assert replace(returned, training=None) == found
    assert returned.training["settings"]["training examples"] == 36
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["README.md", "_tensorboard", "report.json", *(f"{name}.png" for name in PLOTS)]
    )
    tags = EventAccumulator(str(tmp_path / "_tensorboard" / "try-comparison")).Reload().Tags()
    assert sorted(tags["images"]) == [f"plots/{name}" for name in PLOTS]
    assert "test/student/accuracy" in tags["scalars"]


@pytest.mark.parametrize(("export", "kept"), [("none", [10, 20]), ("onnx", [11, 20]), (None, [])])
def test_what_was_measured_of_onnx_files_stays_with_them(
    export: str | None, kept: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The student was trained before, and so its files are still there; where they are gone, the figures go too."""

    def row(form: str, speed: int) -> dict[str, Any]:
        cells = {"model": "student", "format": form, "size_bytes": 1, "latency_ms": {"p50": 1.0, "p95": 1.0}}
        return {**cells, "throughput_per_s": speed, "accuracy": 0.5, "agreement": 1.0, "max_error": 0.0}

    rows = [row("ONNX", 10), {**row("ONNX int8", 20), "bound": 0.01, "within_bound": True}]
    before = results.deployment(rows, dataset="org/toy", split="test", examples=36)
    report(deployment=before).save(tmp_path)
    if export is not None:
        (tmp_path / "onnx").mkdir()
        (tmp_path / "onnx" / "model.onnx").touch()
    stand_ins = {
        "compare": lambda *_, **__: report(),
        "export_model": lambda *_: [row("ONNX", 11)],
        "export_teacher": lambda *_: [],
    }
    for name, value in {**stand_ins, "save_plots": lambda *_: [], "track_report": lambda *_: None}.items():
        monkeypatch.setattr(results, name, value)
    trainer = DistillationTrainer(tiny.bert(), tiny.arguments(tmp_path), train_dataset=tiny.dataset())
    report_results(
        [trainer], [], tiny.bert(), {"test": tiny.dataset()}, default_data_collator,
        dataset="toy", origin="", card={}, export=export or "none",
    )  # fmt: skip
    found = DistillationReport.load(tmp_path).deployment
    assert [one["throughput_per_s"] for one in (found or {"rows": []})["rows"]] == kept
    assert trainer.report["deployment"] == found  # and so the card has it


@pytest.mark.parametrize("first", [True, False])
def test_no_process_waits_for_the_one_that_compares(
    first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a collective operation the others would give up after a while, and end it as well."""
    happened: list[str] = []

    def stop(*args: Any, **settings: Any) -> None:
        happened.append("compare")
        raise InterruptedError

    monkeypatch.setattr(results, "leave_together", lambda: happened.append("leave"))
    monkeypatch.setattr(results, "compare", stop)
    trainer = DistillationTrainer(tiny.bert(), tiny.arguments(tmp_path), train_dataset=tiny.dataset())
    monkeypatch.setattr(trainer, "is_world_process_zero", lambda: first)
    with pytest.raises(InterruptedError) if first else nullcontext():
        report_results([trainer], [], tiny.bert(), {}, default_data_collator, dataset="toy", origin="", card={})
    assert happened == (["leave", "compare"] if first else ["leave"])


@pytest.mark.parametrize(
    ("unlabelled", "changes", "says"),
    [
        (0, {}, "Control is the same student, trained on the same data for the same number of steps with the same"),
        (12, {}, "with the same seeds, but without the teacher, and so on the labelled examples alone."),
        (12, {"examples": 20}, "seeds was not recorded."),
        (0, {"seed": 8}, "seeds was not recorded."),
        (0, {"steps": 9}, "seeds was not recorded."),
    ],
)
def test_report_and_card_say_how_the_control_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unlabelled: int, changes: dict[str, int], says: str
) -> None:
    rows = tiny.dataset().map(lambda row, i: {"labels": -100 if i < unlabelled else row["labels"]}, with_indices=True)
    labelled = rows.select(range(unlabelled, 36)).select(range(changes.get("examples", 36 - unlabelled)))

    def trained(train: Dataset, seed: int, steps: int) -> DistillationTrainer:
        trainer = DistillationTrainer(tiny.bert(), tiny.arguments(tmp_path, seed=seed), train_dataset=train)
        trainer.state.max_steps = steps
        return trainer

    found, plots = report(), {"save_plots": lambda *_: None, "track_report": lambda *_: None}
    for name, value in {"compare": lambda *_, **__: found, **plots}.items():
        monkeypatch.setattr(results, name, value)
    returned = report_results(
        [trained(rows, 7, 5)], [trained(labelled, changes.get("seed", 7), changes.get("steps", 5))], tiny.bert(),
        {"test": rows}, default_data_collator, dataset="toy", origin="", card={},
        settings={"longest text in tokens": 8, "teacher": "/home/anna/teacher", "api_token": "x"},
    )  # fmt: skip
    assert returned is not None
    training = DistillationReport.load(tmp_path).training
    assert training == returned.training
    assert training["published_seed"] == 7
    assert training["settings"]["longest text in tokens"] == 8
    assert not {"logging_steps", "save_strategy"} & set(training["settings"])  # they change no result
    assert training["settings"]["of them without a label"] == unlabelled
    assert "anna" not in str(training)
    assert "api_token" not in str(training)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert says in " ".join(text.split())
    assert "| longest text in tokens | 8 |" in text
