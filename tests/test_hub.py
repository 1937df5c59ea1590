"""Pushing to the Hub and pulling from it, for real over HTTP, against the server in ``hub_server.py``."""

from __future__ import annotations

import base64
import json
import os
import pickle
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import hub_images
import hub_sessions
import numpy as np
import pytest
from hub_server import HubServer
from hub_sessions import REPO, TOKEN
from huggingface_hub import ModelCard

from hf_distill import DistillationTrainingArguments

FAULTS = ["server error", "bad token", "refused", "full", "server error at upload"]
STUDENT_FILES = {
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "README.md",
    "objective.json",
}


def run(function: str, folder: Path, sessions: ModuleType = hub_sessions) -> dict[str, Any]:
    """One of the sessions, in a fresh process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(str(sessions.__file__))), function, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-4000:]
    result: dict[str, Any] = json.loads((folder / f"{function}.json").read_text())
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def pushed(folder: Path) -> dict[str, Any]:
    return run("push", folder)


@pytest.fixture(scope="module")
def repo(pushed: dict[str, Any], folder: Path) -> dict[str, bytes]:
    return HubServer.saved(folder / "hub", REPO)


def test_the_repository_holds_the_student_and_nothing_else(repo: dict[str, bytes]) -> None:
    assert set(repo) == STUDENT_FILES


def test_no_byte_of_an_upload_holds_the_token(pushed: dict[str, Any], repo: dict[str, bytes], folder: Path) -> None:
    uploaded = (folder / "uploaded.bin").read_bytes()
    inside = [base64.b64decode(content) for content in re.findall(rb'"content": ?"([A-Za-z0-9+/=]*)"', uploaded)]

    assert repo["model.safetensors"] in inside  # so the uploads are really looked into
    for content in [uploaded, *inside, *repo.values()]:
        assert TOKEN.encode() not in content


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_settings_hold_no_token(tmp_path: Path, protocol: int) -> None:
    args = DistillationTrainingArguments(str(tmp_path), hub_token=TOKEN, use_cpu=True)

    assert TOKEN.encode() not in pickle.dumps(args, protocol)
    assert args.hub_token == TOKEN


def test_nothing_names_the_folder_or_the_host(repo: dict[str, bytes], folder: Path) -> None:
    for told in (str(folder), socket.gethostname()):
        assert not [name for name, content in repo.items() if told.encode() in content]


def test_the_teacher_is_not_in_the_student(repo: dict[str, bytes], folder: Path) -> None:
    student, teacher = (folder / name / "model.safetensors" for name in ("base", "my-teacher"))

    assert abs(len(repo["model.safetensors"]) - student.stat().st_size) < 100  # of other names in the header
    assert student.stat().st_size + 1000 < teacher.stat().st_size


def test_the_card_is_ours_and_leads_to_the_repository(repo: dict[str, bytes]) -> None:
    card = ModelCard(repo["README.md"].decode())

    assert card.data.tags[:2] == ["knowledge-distillation", "hf-distill"]
    assert card.data.pipeline_tag == "text-classification"
    assert "base_model" not in card.data.to_dict()  # it was loaded from a folder
    assert f'model="{REPO}"' in card.text
    assert "distilled from my-teacher with" in card.text
    assert "SoftTargetLoss(temperature=2.0)" in card.text
    assert "arxiv.org/abs/1503.02531" in card.text
    assert "No results were recorded" in card.text


def test_a_fresh_process_loads_the_same_student(pushed: dict[str, Any], repo: dict[str, bytes], folder: Path) -> None:
    pulled = run("pull", folder)

    assert pulled["logits"] == pushed["logits"]
    expected = ["LABEL_0" if first > second else "LABEL_1" for first, second in pushed["logits"]]
    assert [answer["label"] for answer in pulled["answers"]] == expected
    assert pulled["digests"] == pushed["digests"]
    assert pulled["digests"].keys() == repo.keys()
    assert pulled["logits of v2"] == pushed["logits of v2"] != pushed["logits"]
    assert "tester/student is not a local folder" in pulled["without_a_token"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_hub_that_fails_loses_nothing(pushed: dict[str, Any], fault: str) -> None:
    attempt = pushed["attempts"][fault]

    assert set(attempt["files"]) >= STUDENT_FILES
    assert attempt["loads"]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("server error", "ConnectionError: The Hub fails at the moment (500)"),
        ("bad token", "PermissionError: The Hub does not accept the token (401)"),
        ("refused", "ConnectionError: The Hub cannot be reached"),
        ("full", "ConnectionError: The Hub fails at the moment (507)"),
        ("server error at upload", "ConnectionError: The Hub fails at the moment (500)"),
    ],
)
def test_a_hub_that_fails_says_so_in_reasonable_time(
    pushed: dict[str, Any], folder: Path, fault: str, expected: str
) -> None:
    attempt = pushed["attempts"][fault]

    assert expected in attempt["error"]
    assert attempt["seconds"] < 60  # with the waiting between the Hub library's own retries
    assert len(attempt["log"]) == 1
    assert f"saved in {folder / 'student'}" in attempt["log"][0]
    assert "trainer.push_to_hub()" in attempt["log"][0]


def test_the_next_push_finishes_the_job(pushed: dict[str, Any]) -> None:
    assert pushed["attempts"]["works again"]["error"] is None
    assert pushed["attempts"]["works again"]["log"] == []


@pytest.mark.slow
def test_an_image_model_with_code_of_its_own_answers_the_same_where_this_package_is_not(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pushed, pulled = (run(function, tmp_path, hub_images) for function in ("push", "pull"))

    assert pushed["codes"] == [0, 0]
    assert pulled["digests"] == pushed["digests"]
    assert set(pulled["digests"]) == {
        *("config.json", "model.safetensors", "preprocessor_config.json", "configuration_vgg.py", "modeling_vgg.py"),
        *("onnx/model.onnx", "onnx/model.onnx.json"),
    }
    assert pulled["class"].startswith("transformers_modules.")
    assert pulled["logits"] == pushed["logits"]
    np.testing.assert_allclose(pulled["ONNX"], pushed["logits"], atol=1e-4)
    probabilities = np.exp(pulled["logits"][0]) / np.exp(pulled["logits"][0]).sum()
    answers = {answer["label"]: answer["score"] for answer in pulled["answers"]}
    np.testing.assert_allclose([answers[f"LABEL_{index}"] for index in range(3)], probabilities, atol=1e-5)
