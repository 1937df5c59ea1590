"""A trainer pushes for real over HTTP, against the server in ``hub_server.py``, in this process."""

from __future__ import annotations

import base64
import copy
import importlib
import logging
import re
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import huggingface_hub
import pytest
import tiny
import torch
from hub_server import HubServer
from safetensors.torch import load
from transformers import AutoModelForSequenceClassification

from hf_distill import DistillationReport, DistillationTrainer
from hf_distill.pushing import push_folder
from hf_distill.recipe import results
from hf_distill.recipe.results import report_results

TOKEN = "hf_" + "aB3" * 11 + "x"
REPO = "tester/student"
STUDENT = {"config.json", "model.safetensors", "objective.json", "README.md"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer(TOKEN, large=(".safetensors",)) as server, mock.patch("huggingface_hub.utils._http.time.sleep"):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        monkeypatch.setattr("transformers.utils.hub._hf_api", None, raising=False)  # made anew, for this address
        monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", server.url)  # transformers before that
        yield server


def trainer(folder: Path, **settings: Any) -> DistillationTrainer:
    args = tiny.arguments(folder / "student", **{"hub_token": TOKEN, "max_steps": 2, **settings})
    return DistillationTrainer(tiny.bert(), args, teacher_model=tiny.bert(seed=1), train_dataset=tiny.dataset())


def every_save(folder: Path, **settings: Any) -> DistillationTrainer:
    saving = {"push_to_hub": True, "hub_strategy": "every_save", "hub_always_push": True, "save_strategy": "steps"}
    return trainer(folder, **{**saving, "save_steps": 1, **settings})


def same(model: Any, repo: dict[str, bytes]) -> bool:
    """Whether a repository holds the weights of a model."""
    weights, ours = load(repo["model.safetensors"]), model.state_dict()
    return weights.keys() == ours.keys() and all((weights[name] == ours[name]).all() for name in ours)


def test_at_the_end_and_for_a_branch_and_in_the_background(hub: HubServer, tmp_path: Path) -> None:
    student = trainer(tmp_path, hub_private_repo=True, save_strategy="steps", save_steps=1)
    student.train()
    for name in ("_cache", "runs"):
        (tmp_path / "student" / name).mkdir()
        (tmp_path / "student" / name / "model.safetensors").write_text("not for others")

    commit = student.push_to_hub()

    assert commit.commit_url.startswith(f"{hub.url}/{REPO}/commit/")
    assert set(hub.repos[REPO]) == STUDENT
    assert hub.private == {REPO}
    assert same(student.model, hub.repos[REPO])
    assert b'model="tester/student"' in hub.repos[REPO]["README.md"]
    assert student.push_to_hub(revision="v2", blocking=False).result(timeout=30)
    assert set(hub.repos[f"{REPO}@v2"]) == STUDENT


def test_in_the_background_it_is_the_student_of_the_call(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = trainer(tmp_path)
    begun: list[Callable[[], Any]] = []
    monkeypatch.setattr(student._hub, "run_as_future", lambda run, *given: begun.append(partial(run, *given)))
    student.push_to_hub(blocking=False)
    before = copy.deepcopy(student.model)
    with torch.no_grad():
        student.model.classifier.weight.add_(1)
    student.save_model()
    student.create_model_card(model_name="another")
    begun[0]()
    assert same(before, hub.repos[REPO])
    assert b"another" not in hub.repos[REPO]["README.md"]
    assert set(hub.repos[REPO]) == STUDENT
    assert not list((tmp_path / "student").glob("_push_*"))


def test_at_every_save_it_is_the_student_of_that_save(hub: HubServer, tmp_path: Path) -> None:
    student = every_save(tmp_path)
    pushed = []

    class Watch(dict[str, bytes]):
        def __setitem__(self, name: str, content: bytes) -> None:
            super().__setitem__(name, content)
            if name == "model.safetensors":
                pushed.append(content)

    hub.repos[REPO] = Watch()
    student.train()

    saved = [(tmp_path / f"student/checkpoint-{step}/model.safetensors").read_bytes() for step in (1, 2)]
    assert pushed == saved
    assert saved[0] != saved[1]
    assert set(hub.repos[REPO]) == STUDENT - {"README.md"}
    assert not list((tmp_path / "student").glob("_*"))


def test_a_push_that_fails_at_a_save_stops_no_training_and_the_next_finishes_the_job(
    hub: HubServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    student = every_save(tmp_path)
    hub.fail(403, "/commit/", times=1)
    with caplog.at_level(logging.ERROR, "hf_distill"):
        student.train()

    assert student.state.global_step == 2
    [record] = (record for record in caplog.records if record.name.startswith("hf_distill"))  # others may warn too
    assert "training goes on, and the next save pushes again. The token may not write" in record.getMessage()
    assert hub.commits == 1
    assert same(student.model, hub.repos[REPO])


@pytest.mark.parametrize(
    ("strategy", "name", "tracker"),
    [
        ("checkpoint", "last-checkpoint", "none"),
        pytest.param("all_checkpoints", "checkpoint-1", "tensorboard", marks=pytest.mark.slow),
    ],
)
def test_with_checkpoints_it_is_trainer_that_pushes_the_whole_folder_but_no_token(
    hub: HubServer, tmp_path: Path, strategy: str, name: str, tracker: str
) -> None:
    every_save(tmp_path, hub_strategy=strategy, max_steps=1, report_to=tracker).train()
    files = hub.repos[REPO]
    expected = ("training_args.bin", *(f"{name}/{file}" for file in ("optimizer.pt", "training_args.bin")))
    assert {*expected, f"{name}/trainer_state.json"} <= set(files)
    if tracker == "tensorboard":  # its files name the machine, so the documents say
        assert [file for file in files if file.startswith("runs/") and socket.gethostname() in file]
    sent = b"\n".join(hub.uploaded)
    inside = [base64.b64decode(content) for content in re.findall(rb'"content": ?"([A-Za-z0-9+/=]*)"', sent)]
    assert files["training_args.bin"] in inside  # so the uploads are really looked into
    assert not [content for content in (sent, *inside, *files.values()) if TOKEN.encode() in content]


def test_from_a_checkpoint(hub: HubServer, tmp_path: Path) -> None:
    trainer(tmp_path, save_strategy="steps", save_steps=1).train()
    checkpoint = tmp_path / "student" / "checkpoint-1"

    resumed = trainer(tmp_path)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    resumed.push_to_hub()
    assert same(resumed.model, hub.repos[REPO])

    push_folder(checkpoint, REPO, api=huggingface_hub.HfApi(token=TOKEN))
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint)
    assert same(model, hub.repos[REPO])
    assert not same(resumed.model, hub.repos[REPO])
    assert set(hub.repos[REPO]) == STUDENT


def test_a_recipe_with_push_to_hub_publishes_report_and_card(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {"accuracy": 0.9, "macro_f1": 0.9, "ece": 0.1, "parameters": 1, "size_mb": 1.0, "per_class": {},
              "latency_ms": {"p50": 1.0, "p95": 2.0}, "throughput_per_s": 3.0}  # fmt: skip
    report = DistillationReport(
        *(scores, scores, None, 1.0, 0.1, None, 36, [0], "toy", "test"), machine={"cpu": "x"}, versions={}
    )
    monkeypatch.setattr(results, "compare", lambda *args, **settings: report)
    monkeypatch.setattr(results, "save_plots", lambda *args: None)
    student = trainer(tmp_path, max_steps=1)
    student.train()
    shared = {"evaluation": {"test": tiny.dataset()}, "collator": None, "dataset": "toy", "origin": "", "card": {}}

    report_results([student], [], SimpleNamespace(), **shared)
    assert not hub.repos
    report_results([student], [], SimpleNamespace(), **shared, push=True)

    assert set(hub.repos[REPO]) == {*STUDENT, "report.json"}
    assert b"| Accuracy | 0.900 | 0.900 |" in hub.repos[REPO]["README.md"]


STEPS = {
    "cifar10": (
        *("load_images", "as_image_classification", "check_objective", "prepare_images", "trained_image_teacher"),
        *("live_image_teacher", "named_by", "asked_once", "weights_fingerprint", "handwritten_digits"),
    ),
    "sst2": (
        *("load_splits", "as_classification", "check_names", "tokenizer_of_student", "tokenize_data", "live_teacher"),
        *("asked_once", "weights_fingerprint", "with_unlabelled", "origin_of_student", "sentiment_grammar"),
        *("load_tokenizer", "named_by", "about_start"),
    ),
}


@pytest.mark.parametrize("pushes", ["true", "false", "refused"])
@pytest.mark.parametrize("recipe", STEPS)
def test_a_recipe_pushes_where_its_flag_says_so_and_asks_the_hub_before_it_trains(
    recipe: str, pushes: str, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "recipes"))
    module = importlib.import_module(recipe)
    for step in STEPS[recipe]:
        monkeypatch.setattr(module, step, mock.MagicMock())
    monkeypatch.setattr(module, "fine_tuned_teacher", lambda *_: None, raising=False)
    trained, reported = mock.MagicMock(return_value=([], [])), mock.MagicMock(return_value=None)
    monkeypatch.setattr(module, "train_with_controls", trained)
    monkeypatch.setattr(module, "report_results", reported)
    words = ["--preset", "quick", "--output_dir", str(tmp_path / "student"), "--hub_token", TOKEN]
    words += ["--push_to_hub", str(pushes != "false"), "--eval_strategy", "no"]
    monkeypatch.setattr(sys, "argv", [f"{recipe}.py", *words])
    if pushes == "refused":
        hub.fail(401)
        with pytest.raises(PermissionError, match=r"does not accept the token \(401\)"):
            module.main()
        assert not list(tmp_path.iterdir())
        return
    module.main()
    assert trained.called
    assert reported.call_args.kwargs["push"] is (pushes == "true")
    assert set(hub.repos) == ({REPO} if pushes == "true" else set())


@pytest.mark.parametrize(
    ("status", "where", "kind", "says"),
    [
        (401, "", PermissionError, r"does not accept the token \(401\)"),
        (403, "/repos/create", PermissionError, r"may not write to student \(403\)"),
        (403, "/commit/", PermissionError, r"may not write to tester/student \(403\)"),
        (409, "/commit/", ConnectionError, r"at the same time \(409\)"),
        (429, "/commit/", ConnectionError, r"too many requests \(429\). Try again in 17 seconds"),
        (500, "/batch", ConnectionError, r"fails at the moment \(500\)"),
        (500, "/stored/", ConnectionError, r"fails at the moment \(500\)"),
        (0, "/stored/", ConnectionError, "the connection was cut"),
        (0, "/commit/", ConnectionError, "the connection was cut"),
        (None, "", ConnectionError, r"cannot be reached.*Check the network"),
    ],
)
def test_a_hub_that_fails_says_what_to_do_and_the_next_push_finishes_the_job(
    hub: HubServer, tmp_path: Path, status: int | None, where: str, kind: type[Exception], says: str
) -> None:
    student = trainer(tmp_path)  # as good as trained
    if status is None:
        hub.stop()
    else:
        hub.fail(status, where, {"Retry-After": "17"} if status == 429 else {})
    with pytest.raises(kind, match=says):
        student.push_to_hub()

    assert not hub.repos.get(REPO)  # no half of a model
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student")
    assert all((saved.state_dict()[name] == value).all() for name, value in student.model.state_dict().items())
    hub.recover()
    if status is None:
        hub.start()
    student.push_to_hub()
    assert set(hub.repos[REPO]) == STUDENT
    assert same(student.model, hub.repos[REPO])


def test_when_even_the_repository_cannot_be_made_training_does_not_begin_in_vain(
    hub: HubServer, tmp_path: Path
) -> None:
    hub.fail(401)
    with pytest.raises(PermissionError, match="hf auth login"):
        every_save(tmp_path)


def test_a_process_that_is_not_the_first_pushes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student = trainer(tmp_path, hub_strategy="every_save")
    monkeypatch.setattr(student, "is_world_process_zero", lambda: False)
    student._push_from_checkpoint(str(tmp_path / "checkpoint-1"))
    assert student.push_in_progress is None


def test_a_checkpoint_that_cannot_be_published_stops_no_training(
    hub: HubServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    student = every_save(tmp_path)
    (tmp_path / "empty").mkdir()
    student._push_from_checkpoint(str(tmp_path / "empty"))
    assert "training goes on, and the next save pushes again" in caplog.text
    assert "holds no config.json" in caplog.text
    assert not list((tmp_path / "student").glob("_push_*"))
