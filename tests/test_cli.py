"""``hf-distill`` as a user types it; each mistake is one line and exit code 1."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import exported
import numpy as np
import pytest
import tiny
from datasets import Dataset
from PIL import Image
from transformers import ViTImageProcessorPil, pipeline
from transformers.utils.logging import tqdm

from hf_distill import cli, export
from hf_distill.deployment_table import deployment_lines
from hf_distill.model_card import CardFacts, write_card
from hf_distill.predictor import Predictor
from hf_distill.report import DistillationReport

TEXTS = ["w5 w6 w7", "w8\tw9", "w9 w10 w11 w12 w13 w14"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("out") / "student"
    exported.model().save_pretrained(root)
    exported.tokenizer().save_pretrained(root)
    return root


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image classifier, with pictures of several shapes below it."""
    root: Path = tmp_path_factory.mktemp("images") / "vgg"
    tiny.vgg().save_pretrained(root)
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(root)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 9, 7, 3), dtype=np.uint8)
    for image, name in zip(pixels, ("b.png", "a.png", "deep/c.JPG"), strict=True):
        (root / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / "photos" / name, "png")
    return root


@pytest.fixture(autouse=True)
def export_from_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model was exported already; doing it again would take long. No clocks."""
    source = exported.bert().path
    monkeypatch.setattr(export, "_write", lambda model, batch, path: shutil.copy(source, path))
    monkeypatch.setattr("hf_distill.evaluation.speed._timed", lambda *_, **__: [1.0])


class Run:
    """What a command printed, and how it ended."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
        self.code = cli.main([str(argument) for argument in arguments])
        self.out, self.err = capsys.readouterr()


@pytest.fixture
def expected(folder: Path) -> list[tuple[str, str]]:
    return [(answer.label, f"{answer.score:.4f}") for answer in Predictor.load(folder)(TEXTS)]


@pytest.mark.parametrize("onnx", [False, True])
def test_predict_texts_as_a_table(
    capsys: pytest.CaptureFixture[str], folder: Path, expected: list[tuple[str, str]], onnx: bool
) -> None:
    more = ["--onnx", exported.bert().path] if onnx else []
    run = Run(capsys, "predict", folder, "--text", *TEXTS, *more)
    assert run.code == 0
    head, *rows = csv.reader(io.StringIO(run.out), delimiter="\t")
    assert head == ["label", "score", "text"]
    assert [(label, score) for label, score, _ in rows] == expected
    assert [text for _, _, text in rows] == TEXTS  # the tab in one of them is quoted


def test_predict_a_file_into_a_file(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path, expected: list[tuple[str, str]]
) -> None:
    Dataset.from_dict({"review": TEXTS, "stars": [1, 2, 3]}).to_csv(str(tmp_path / "in.csv"), index=False)
    run = Run(capsys, "predict", folder, "--file", tmp_path / "in.csv", "--output", tmp_path / "out.jsonl")
    assert (run.code, run.out) == (0, "")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["review"] for row in rows] == TEXTS
    assert [(row["label"], f"{row['score']:.4f}") for row in rows] == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.jsonl"]


def test_predict_images_from_files_and_folders(capsys: pytest.CaptureFixture[str], images: Path) -> None:
    photos = [str(images / "photos" / name) for name in ("b.png", "a.png", "deep/c.JPG")]
    run = Run(capsys, "predict", images, "--image", photos[0], images / "photos")
    assert run.code == 0, run.err
    head, *rows = csv.reader(io.StringIO(run.out), delimiter="\t")
    assert head == ["label", "score", "image"]
    asked = [photos[0], photos[1], photos[0], photos[2]]  # the file as it is given, then the folder's, sorted
    expected = [pipeline("image-classification", model=str(images), device="cpu")(path)[0] for path in asked]
    assert rows == [
        [answer["label"], f"{answer['score']:.4f}", path] for answer, path in zip(expected, asked, strict=True)
    ]


def test_many_images_show_a_bar(
    capsys: pytest.CaptureFixture[str], images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits two seconds; not here."""
    module = sys.modules["hf_distill.evaluation.prediction"]
    monkeypatch.setattr(module, "tqdm", lambda **settings: tqdm(**{**settings, "delay": 0.0, "mininterval": 0.0}))
    photos = [images / "photos" / "a.png"] * 40
    run = Run(capsys, "predict", images, "--image", *photos, "--batch-size", "20")
    assert (run.code, run.out.count("\n")) == (0, 41)
    assert "Predicting:  50%|" in run.err
    assert "20/40" in run.err


def test_export_with_data_says_what_was_found(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    """The labels are the model's own decisions but for one of the four."""
    texts = [*TEXTS, "w20 w21"]
    labels = [answer.label for answer in Predictor.load(folder)(texts)]
    labels[0] = next(name for name in exported.CLASSES.values() if name != labels[0])
    Dataset.from_dict({"text": texts, "label": labels}).to_parquet(str(tmp_path / "data.parquet"))
    target = tmp_path / "model.onnx"
    run = Run(capsys, "export", folder, "--data", tmp_path / "data.parquet", "--output", target)
    assert run.code == 0
    assert target.is_file()
    said = {line[:33].strip(): line[33:] for line in run.out.splitlines()[1:]}
    assert said["accuracy"] == "0.7500 (PyTorch 0.7500)"
    assert said["same decision as PyTorch"] == "1.0000 of 4 examples"


def test_export_measures_a_teacher_beside_the_student(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    student = Path(shutil.copytree(folder, tmp_path / "student"))
    labels = [Predictor.load(folder)([text])[0].label for text in TEXTS]
    Dataset.from_dict({"text": TEXTS, "label": labels}).to_parquet(str(tmp_path / "data.parquet"))
    small_report().save(student)
    run = Run(capsys, "export", student, "--data", tmp_path / "data.parquet", "--teacher", folder)
    assert run.code == 0, run.err
    rows = DistillationReport.load(student).deployment["rows"]
    assert [(row["model"], row["format"], row["accuracy"]) for row in rows] == [
        (role, name, 1.0) for role in ("teacher", "student") for name in ("PyTorch", "ONNX")
    ]
    shown = [line.split("  ")[0] for line in run.out.splitlines() if line.startswith(("teacher,", "student,"))]
    assert shown == ["teacher, PyTorch", "teacher, ONNX", "student, PyTorch", "student, ONNX"]
    assert [path.name for path in student.glob("_teacher*")] == []
    refused = Run(capsys, "export", student, "--teacher", folder)
    assert (refused.code, "give --data PATH" in refused.err) == (1, True)


def test_a_teacher_that_cannot_be_compared_is_refused_before_anything_is_exported(
    capsys: pytest.CaptureFixture[str], folder: Path, images: Path, tmp_path: Path
) -> None:
    for name in ("student", "other"):
        shutil.copytree(folder, tmp_path / name, ignore=shutil.ignore_patterns("onnx"))
    config = tmp_path / "other" / "config.json"
    config.write_text(config.read_text().replace('"bad"', '"cat"'))
    Dataset.from_dict({"text": TEXTS, "label": ["bad"] * 3}).to_parquet(str(tmp_path / "data.parquet"))
    for teacher, says in ((tmp_path / "other", "not the same classes"), (images, "images, and the student texts")):
        run = Run(capsys, "export", tmp_path / "student", "--data", tmp_path / "data.parquet", "--teacher", teacher)
        assert (run.code, run.out) == (1, "")
        assert says in run.err
    assert not (tmp_path / "student" / "onnx").exists()


def test_a_report_that_cannot_take_what_was_measured_is_named(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    student = Path(shutil.copytree(folder, tmp_path / "student"))
    (student / "report.json").write_text('{"teacher": ')
    Dataset.from_dict({"text": TEXTS, "label": ["bad"] * 3}).to_parquet(str(tmp_path / "data.parquet"))
    run = Run(capsys, "export", student, "--data", tmp_path / "data.parquet")
    assert (run.code, f"The report.json of {student} is no JSON" in run.err) == (1, True)
    assert "ONNX" in run.out, "the table is not lost"


@pytest.mark.parametrize("int8", [False, True])
def test_export_writes_what_it_measured_into_report_and_card(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, folder: Path, tmp_path: Path, int8: bool
) -> None:
    """The teacher's rows, of other data, go; and what is exported in vain is written nowhere."""
    student = Path(shutil.copytree(folder, tmp_path / "student"))
    Dataset.from_dict({"text": TEXTS, "label": ["bad"] * 3}).to_parquet(str(tmp_path / "data.parquet"))
    before = {"rows": [{"model": "teacher", "format": "ONNX"}], "examples": 99}
    replace(small_report(), deployment=before).save(student)
    write_card(CardFacts("student", "text-classification"), small_report().to_dict()).save(student / "README.md")
    run = Run(capsys, "export", student, "--data", tmp_path / "data.parquet", *(["--int8"] if int8 else []))
    assert run.code == 0, run.err
    assert f"Written into report.json and README.md of {student}." in caplog.messages
    found = DistillationReport.load(student).deployment
    assert (found["dataset"], found["split"], found["examples"]) == ("path/to/data.parquet", "train", 3)
    formats = ["PyTorch", "ONNX", "ONNX int8"][: 3 if int8 else 2]
    assert [(row["model"], row["format"]) for row in found["rows"]] == [("student", name) for name in formats]
    assert "\n".join(deployment_lines(found)) in run.out
    assert "| Student, ONNX | " in (student / "README.md").read_text()
    assert 'InferenceSession("onnx/model.onnx")' in (student / "README.md").read_text()
    report, card = (student / "report.json").read_bytes(), (student / "README.md").read_bytes()
    assert Run(capsys, "export", student).code == 0
    assert Run(capsys, "export", student, "--data", tmp_path / "data.parquet", "--output", tmp_path / "x").code == 0
    assert ((student / "report.json").read_bytes(), (student / "README.md").read_bytes()) == (report, card)


def test_export_goes_where_the_hub_looks_for_it(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    run = Run(capsys, "export", folder)
    assert run.code == 0
    assert (folder / "onnx" / "model.onnx").is_file()
    assert "0.0000" not in run.out
    assert "64 examples" in run.out
    assert Run(capsys, "predict", folder, "--text", "w5", "--onnx").code == 0


def test_int8_asks_for_real_inputs(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    run = Run(capsys, "export", folder, "--int8")
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith("error: int8 changes decisions")
    assert "--data PATH" in run.err


def small_report() -> DistillationReport:
    figures = {
        **{"accuracy": 0.8, "macro_f1": 0.8, "ece": 0.1, "parameters": 10, "size_mb": 1.0},
        **{"latency_ms": {"p50": 1.0, "p95": 2.0}, "throughput_per_s": 9.0, "per_class": {}},
    }
    return DistillationReport(
        teacher=figures, student=figures, control=None, agreement=1.0, kl_nats=0.0, gap_closed=None, examples=5,
        seeds=[0], dataset="toy", split="test", machine={"cpu": "one"}, versions={},
    )  # fmt: skip


def test_report_as_table_and_as_page(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_report().save(tmp_path)
    run = Run(capsys, "report", tmp_path)
    assert (run.code, run.out) == (0, small_report().to_table() + "\n")
    written = io.BytesIO()
    with monkeypatch.context() as patch:  # as Windows has it where the output goes into a file
        patch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="cp1252", newline=""))
        assert cli.main(["report", str(tmp_path)]) == 0
        assert written.getvalue().decode("utf-8") == run.out
    run = Run(capsys, "report", tmp_path, "--html", tmp_path / "page.html")
    assert (run.code, run.out) == (0, "")
    assert "<h1>toy test: 5 examples</h1>" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_push_passes_on_what_was_asked(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    class Hub:
        def create_repo(self, repo: str, **settings: Any) -> Any:
            asked["create"] = (repo, settings)
            return SimpleNamespace(repo_id=repo)

        def repo_info(self, repo: str) -> Any:
            return SimpleNamespace(private=True)

        def create_branch(self, repo: str, **settings: Any) -> None:
            asked["branch"] = settings

        def create_commit(self, repo: str, operations: Any, **settings: Any) -> Any:
            asked["commit"] = settings
            return SimpleNamespace(commit_url="https://hub/me/it/commit/1")

    monkeypatch.setattr("hf_distill.pushing.HfApi", Hub)
    run = Run(capsys, "push", folder, "me/it", "--private", "--revision", "v2", "--message", "hello")
    assert (run.code, run.out) == (0, "https://hub/me/it/commit/1\n"), run.err
    assert asked == {
        "create": ("me/it", {"private": True, "exist_ok": True}),
        "branch": {"branch": "v2", "exist_ok": True},
        "commit": {"commit_message": "hello", "revision": "v2"},
    }


MISTAKES = {
    "no folder": (["predict", "{folder}x", "--text", "a"], r"There is no file or folder .*studentx; near it is"),
    "parent folder": (["predict", "{folder}/..", "--text", "a"], r"no config\.json\. There are models in it: student"),
    "no image in a folder": (["predict", "{folder}", "--image", "{folder}"], "holds no image"),
    "images to a text model": (
        ["predict", "{folder}", "--image", "{images}/photos/a.png"],
        "student classifies texts: give it some with --text or --file",
    ),
    "texts to an image model": (
        ["predict", "{images}", "--text", "a"], "vgg classifies images: give it some with --image"
    ),
    "no report": (["report", "{folder}"], "holds no report.json"),
    "no ONNX yet": (["predict", "{folder}", "--text", "a", "--onnx", "no.onnx"], "Make one with `hf-distill export"),
    "no folder to write to": (
        ["predict", "{folder}", "--text", "a", "--output", "{folder}/no/out.tsv"], "There is no folder"
    ),
    "no data": (["export", "{folder}", "--data", "{folder}/no.csv"], "There is no file or folder"),
    "no model to push": (["push", "{folder}/..", "me/it"], "it has no config.json"),
    "too strict": (["export", "{folder}", "--tolerance", "0"], "Nothing was written"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str], folder: Path, images: Path, name: str) -> None:
    arguments, says = MISTAKES[name]
    run = Run(capsys, *(part.format(folder=folder, images=images) for part in arguments))
    assert (run.code, run.out) == (1, "")
    [line] = [line for line in run.err.splitlines() if not line.startswith("Checked on")]
    assert line.startswith("error: ")
    assert re.search(says, line)


def test_debug_shows_where_it_came_from(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        cli.main(["report", str(folder), "--debug"])


def test_an_answer_that_is_cut_off_leaves_no_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: Any) -> Iterator[None]:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_write_tsv", stop)
    run = Run(capsys, "predict", folder, "--text", "a", "--output", tmp_path / "out.tsv")
    assert (run.code, run.err.splitlines()[-1]) == (130, "stopped")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["report", "export", "predict", "push"])
def test_each_command_explains_itself(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    said = capsys.readouterr().out
    assert stop.value.code == 0
    assert f"hf-distill {command} out/sst2" in said
    assert np.max([len(line) for line in said.splitlines()]) < 120
