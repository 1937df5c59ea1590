"""What ``--export`` leaves in the student's folder, and that the teacher's rows are about the teacher."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import exported
import pytest
import tiny
from datasets import Dataset

from hf_distill import DistillationReport, DistillationTrainer, export
from hf_distill.evaluation import predict
from hf_distill.recipe import check_export, report_results, results, runs
from hf_distill.recipe.exports import export_model, export_teacher


@pytest.fixture(autouse=True)
def ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the file that was exported already; a model with other logits does not get past its check. No clocks."""
    source = exported.bert().path
    monkeypatch.setattr(export, "_write", lambda model, batch, path: shutil.copy(source, path))
    monkeypatch.setattr("hf_distill.evaluation.speed._timed", lambda *_, **__: [1.0])
    monkeypatch.setattr("hf_distill.recipe.results.save_plots", lambda *_: None)


def teacher() -> Any:
    """The same model with its classes in another order: index i of the student's is its index i - 1."""
    model = exported.model()
    for parameter in model.classifier.parameters():
        parameter.data = parameter.data[[1, 2, 0]]
    model.config.id2label = {index: exported.CLASSES[(index + 1) % 3].upper() for index in range(3)}
    return model


def test_the_teachers_classes_are_put_into_the_students_order(tmp_path: Path) -> None:
    """Its accuracy on labels that the student counts is then the student's, since it is the same model."""
    model, rows = teacher(), exported.texts()
    before = model.state_dict()["classifier.bias"].clone()
    found = export_teacher(model, exported.model(), tmp_path, rows, exported.pad, "int8")
    assert [(row["model"], row["format"]) for row in found] == [
        ("teacher", name) for name in ("PyTorch", "ONNX", "ONNX int8")
    ]
    predictions = predict(exported.model(), rows, exported.pad)
    assert found[0]["accuracy"] == (predictions.classes == predictions.labels).mean()
    assert not list(tmp_path.iterdir()), "its files are gone"
    assert (model.state_dict()["classifier.bias"] == before).all()


def test_a_teacher_that_cannot_be_exported_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = tiny.bert(labels=3, seed=5)
    with caplog.at_level(logging.WARNING):
        assert export_teacher(other, exported.model(), tmp_path, exported.texts(), exported.pad, "onnx") == []
    assert "The teacher has no place in the table of ONNX files: As ONNX the model answers differently" in caplog.text
    with pytest.raises(ValueError, match="answers differently"):
        export_model(other, tmp_path, exported.texts(), exported.pad, "onnx")


def test_a_teacher_for_other_classes_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = teacher()
    other.config.id2label = {0: "cat", 1: "dog", 2: "cow"}
    assert export_teacher(other, exported.model(), tmp_path, exported.texts(), exported.pad, "onnx") == []
    assert "The teacher has no place in the table of ONNX files: The student's labels" in caplog.text


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_package_that_is_missing_is_missed_at_once(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    check_export("int8")
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ValueError, match=rf"--export int8: .*{package}: .*-e '\.\[onnx\]'"):
        check_export("int8")
    check_export("none")


def finished(folder: Path, effort: dict[str, Any]) -> DistillationTrainer:
    trainer = DistillationTrainer(
        exported.model(), tiny.arguments(folder, eval_strategy="no"), train_dataset=tiny.dataset(),
        data_collator=exported.pad, processing_class=exported.tokenizer(),
    )  # fmt: skip
    trainer.state.log_history = [{"loss": 1.0, "step": 1}, effort]
    trainer.save_model()
    return trainer


@pytest.mark.parametrize("choice", ["none", "int8"])
def test_report_and_card_say_what_the_files_are_worth(tmp_path: Path, choice: str) -> None:
    rows = Dataset.from_list(exported.texts())
    student = finished(tmp_path / "student", {"training_s": 12.25})
    control = finished(tmp_path / "control", {"training_s": 9.0})
    report = report_results(
        [student], [control], teacher(), {"validation": rows.select(range(20)), "test": rows}, exported.pad,
        dataset="org/toy", origin="", card={}, export=choice,
    )  # fmt: skip
    assert report is not None
    folder = tmp_path / "student"
    assert DistillationReport.load(folder) == report
    assert student.report == report.to_dict()
    card, table = (folder / "README.md").read_text(), report.to_table()
    assert (report.student["training_s"], report.control["training_s"]) == (12.25, 9.0)
    assert "| Training, s | – | 12 | 9 |" in card
    assert "Its energy was not measured" in " ".join(card.split())
    files = {path.name for path in folder.glob("onnx/*.onnx")}
    assert not list(folder.glob("_teacher_onnx_*"))
    if choice == "none":
        assert (report.deployment, files) == (None, set())
        assert "ONNX" not in card + table
        return
    assert files == {"model.onnx", "model_int8.onnx"}
    assert (report.deployment["dataset"], report.deployment["split"]) == ("org/toy", "test")
    assert [row["model"] for row in report.deployment["rows"]] == ["teacher"] * 3 + ["student"] * 3
    assert report.deployment["rows"][3]["accuracy"] == pytest.approx(report.student["accuracy"])
    assert "| Student, ONNX int8 | " in card
    assert "student, ONNX int8" in table


def test_a_student_that_is_trained_anew_loses_the_files_of_the_old_one(tmp_path: Path) -> None:
    def train(**settings: Any) -> None:
        runs.train_run(
            "student", tiny.bert, tiny.arguments(tmp_path, max_steps=1, **settings), tiny.dataset(), None,
            processing_class=exported.tokenizer(), collator=exported.pad, about={},
        )  # fmt: skip

    train()
    (tmp_path / "onnx").mkdir()
    for name in ("model.onnx", "model_int8.onnx.json", "of_yours.onnx"):
        (tmp_path / "onnx" / name).write_text(json.dumps({}))
    train()  # taken up, not trained
    assert len(list((tmp_path / "onnx").iterdir())) == 3
    train(learning_rate=1e-3)
    assert [path.name for path in (tmp_path / "onnx").iterdir()] == ["of_yours.onnx"]


def test_a_student_that_cannot_be_exported_is_published_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no such operator")

    told: list[Any] = []
    monkeypatch.setattr(results, "export_model", fail)
    monkeypatch.setattr(results, "track_report", lambda *given: told.append(given[1]))
    rows = Dataset.from_list(exported.texts())
    report = results.report_results(
        [finished(tmp_path, {})], [], exported.model(), {"test": rows}, exported.pad,
        dataset="toy", origin="", card={}, export="onnx",
    )  # fmt: skip
    assert "The student could not be exported; all else is done. no such operator" in caplog.text
    assert report is not None
    assert told == [report]
    assert report.deployment is None
