"""The recipe for several tasks."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from unittest import mock

import pytest
import recipe_calls
from transformers import pipeline

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))

import multi_task

call = partial(recipe_calls.call, "multi_task.py")


def test_values_by_task() -> None:
    assert multi_task.by_task("--tasks", "a=path/to/a, b=org/name:config") == {"a": "path/to/a", "b": "org/name:config"}
    assert multi_task.by_task("--teacher", "org/name", ["a", "b"]) == {"a": "org/name", "b": "org/name"}
    assert multi_task.by_task("--teacher", "b=y,a=x", ["a", "b"]) == {"b": "y", "a": "x"}


@pytest.mark.parametrize("words", ["path", "a=x,a=y", "a=x,b", "a=,b=y", ""])
def test_tasks_of_another_form_are_refused(words: str) -> None:
    with pytest.raises(ValueError, match="write NAME=VALUE with commas between them, each task once"):
        multi_task.by_task("--tasks", words)


@pytest.mark.parametrize("words", ["a=x", "a=x,b=y,c=z", "a=x,c=z"])
def test_a_teacher_is_for_each_task(words: str) -> None:
    with pytest.raises(ValueError, match="one for each of a, b"):
        multi_task.by_task("--teacher", words, ["a", "b"])


def test_data_that_is_not_clear_is_of_a_task(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sentence,topic\ngood,film\nbad,music\n")
    with pytest.raises(KeyError, match=r"Task tone, .*a\.csv: Which column .*Call the columns `text` and `label`\."):
        multi_task.task_data("tone", str(tmp_path / "a.csv"))
    with pytest.raises(FileNotFoundError, match=r"--tasks NAME=PATH takes a local file"):
        multi_task.task_data("tone", str(tmp_path / "b.csv"))


def test_nothing_is_pushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multi_task, "take_folder", mock.MagicMock(side_effect=InterruptedError))
    words = ["--preset", "quick", "--push_to_hub", "true", "--output_dir", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["multi_task.py", *words])
    with pytest.raises(ValueError, match="Push the folder of a task"):
        multi_task.main()


@pytest.mark.slow
def test_the_quick_preset_from_end_to_end(tmp_path: Path) -> None:
    result = call("--preset", "quick", "--output_dir", str(tmp_path), timeout=1800)
    assert result.returncode == 0, result.stderr[-3000:]
    classes = {"sentiment": {"negative", "positive"}, "strength": {"mild", "strong"}}
    for task, names in classes.items():
        report = json.loads((tmp_path / task / "report.json").read_text())
        alone = json.loads((tmp_path / f"_{task}-seed0" / "report.json").read_text())
        scores = [found[name]["accuracy"] for found in (report, alone) for name in ("teacher", "student")]
        assert min(scores) > 0.7, "well above chance, for two balanced classes"
        assert set(report["student"]["per_class"]) == names
        assert report["student"]["parameters"] == alone["student"]["parameters"]
        assert f"{task}: the student of all tasks" in result.stdout
        assert pipeline("text-classification", model=str(tmp_path / task))("a plot .")[0]["label"] in names
    assert json.loads((tmp_path / "config.json").read_text())["classification_tasks"] == list(classes)
    again = call("--preset", "quick", "--output_dir", str(tmp_path), timeout=900)
    assert again.returncode == 0, again.stderr[-3000:]
    assert "finished already" in again.stderr
