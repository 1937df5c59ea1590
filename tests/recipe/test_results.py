"""The end of a recipe leaves what it found where people look: on the disk, and in their trackers."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import tiny
from test_report import report
from transformers import default_data_collator

from hf_distill import DistillationTrainer
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
    assert returned == found
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["README.md", "_tensorboard", "report.json", *(f"{name}.png" for name in PLOTS)]
    )
    tags = EventAccumulator(str(tmp_path / "_tensorboard" / "try-comparison")).Reload().Tags()
    assert sorted(tags["images"]) == [f"plots/{name}" for name in PLOTS]
    assert "test/student/accuracy" in tags["scalars"]


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
