"""The recipe in this process on next to nothing; its quick preset as a user calls it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from recipe_calls import call, last_line

from hf_distill import DataFreeTrainer, Noise
from hf_distill.recipe.results import _control

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))

import data_free


def test_nobody_but_teacher_and_evaluation_sees_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--preset", "quick", "--max_steps", "1", "--teacher_epochs", "0.1", "--seeds", "3", "--adversarial", "1"]
    monkeypatch.setattr(sys, "argv", ["data_free.py", *words, "--output_dir", str(tmp_path), "--disable_tqdm", "true"])
    reported: dict[str, Any] = {}

    def report(students: Any, controls: Any, teacher: Any, evaluation: Any, collator: Any, **known: Any) -> None:
        reported.update(students=students, controls=controls, teacher=teacher, evaluation=evaluation, **known)

    monkeypatch.setattr(data_free, "report_results", report)
    data_free.main()
    [student], [control] = reported["students"], reported["controls"]
    assert isinstance(student, DataFreeTrainer)
    assert student.train_dataset.describe() == Noise((100,), 10_000, seed=3).describe()
    assert control.train_dataset.describe() == Noise((1, 16, 16), 10_000, "pixel_values", seed=3).describe()
    assert control.distillation_objective.describe() == student.distillation_objective.describe()
    assert student.generator_loss.weights["adversarial"] == 1.0
    assert len(reported["evaluation"]["test"]) == 597
    assert "images of pure noise" in _control([student], [control], 0)
    assert reported["settings"]["generator"] == repr(student.generator)
    assert reported["settings"]["the same student on real images"].endswith("± 0.000")
    with Image.open(tmp_path / "generated.png") as picture:
        assert picture.size == (8 * 65 + 1, 8 * 65 + 1)
    assert student.state.global_step == control.state.global_step == 1
    (tmp_path / "generated.png").unlink()
    data_free.main()
    assert not (tmp_path / "generated.png").exists(), "a student that was finished before has no generator"


@pytest.mark.slow
def test_the_quick_preset_from_end_to_end(tmp_path: Path) -> None:
    result = call("data_free.py", "--preset", "quick", "--output_dir", str(tmp_path), timeout=900)
    assert result.returncode == 0, result.stderr[-3000:]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["student"]["accuracy"] > report["control"]["accuracy"] + 0.2
    assert "on images of pure noise" in report["training"]["control"]
    card = (tmp_path / "README.md").read_text()
    assert "What the student has more than the control is what the generator brought." in card
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {
        "_made", "_teacher", *(f"_student-seed{seed}" for seed in (1, 2)),
        *(f"_{kind}-seed{seed}" for kind in ("control", "real") for seed in (0, 1, 2)),
    }  # fmt: skip


@pytest.mark.slow
def test_a_share_of_labels_is_refused(tmp_path: Path) -> None:
    result = call("data_free.py", "--preset", "quick", "--distillation_weight", "0.5", "--output_dir", str(tmp_path))
    assert result.returncode == 2, result.stderr
    assert "without data there are none: leave it out" in last_line(result)


@pytest.mark.slow
def test_a_size_that_no_generator_has_is_said_before_any_training(tmp_path: Path) -> None:
    result = call("data_free.py", "--preset", "quick", "--image_size", "15", "--output_dir", str(tmp_path))
    assert result.returncode == 2, result.stderr
    assert "divisible by 4, got 15: resize the images to 16 pixels" in last_line(result)
