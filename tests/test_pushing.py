"""A folder goes to the Hub for real over HTTP, against the server in ``hub_server.py``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import huggingface_hub
import pytest
import tiny
from hub_server import HubServer
from huggingface_hub import HfApi

from hf_distill.model_card import CardFacts, write_card
from hf_distill.pushing import addressed, push_folder

TOKEN = "hf_" + "aB3" * 11 + "x"
REPO = "tester/student"
CARD = (
    'classifier = pipeline("text-classification", model="local-name")  # the folder that holds these files\n'
    "docker run server --model-id your-name/local-name\n"
)
PUBLIC = {
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "README.md",
    "report.json",
    "models.png",
    "onnx/model.onnx",
    "onnx/model.onnx.json",
}
PRIVATE = ("training_args.bin", "trainer_state.json", "optimizer.pt", "_cache/model.safetensors", "notes.txt", ".env",
           "checkpoint-3/model.safetensors", "onnx/.model.onnx", "onnx/notes.json", "_model.png", "photo.png",
           "me_passport.png", "model_before_fix.safetensors", "model-00001-of-00002.safetensors", "notes.model",
           "modeling_secret_of_my_firm.py", "tokenizer_notes.json", "vocab.of_my_firm", "onnx/firm.onnx",
           "LICENSE_of_my_firm", "model.safetensors.index.json")  # fmt: skip


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with HubServer(TOKEN) as server, mock.patch("huggingface_hub.utils._http.time.sleep"):
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A student as a recipe leaves it, with all that must stay at home."""
    root = tmp_path / "student"
    tiny.bert(labels=2).save_pretrained(root)
    for name in (*PUBLIC - {"config.json", "model.safetensors"}, *PRIVATE):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("{}" if name.endswith(".json") else CARD if name == "README.md" else name)
    return root


def api(hub: HubServer, token: str | bool = TOKEN) -> HfApi:
    return HfApi(endpoint=hub.url, token=token)


def state(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_what_belongs_there_goes_up_and_nothing_else(hub: HubServer, folder: Path) -> None:
    before = state(folder)
    commit = push_folder(folder, REPO, api=api(hub))
    assert set(hub.repos[REPO]) == PUBLIC
    assert commit.commit_url.startswith(f"{hub.url}/{REPO}/commit/")
    assert hub.repos[REPO]["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert not hub.private
    assert state(folder) == before


def test_the_card_leads_to_the_repository(hub: HubServer, folder: Path) -> None:
    push_folder(folder, REPO, api=api(hub))
    assert hub.repos[REPO]["README.md"].decode() == (
        'classifier = pipeline("text-classification", model="tester/student")\n'
        "docker run server --model-id tester/student\n"
    )
    assert (folder / "README.md").read_text() == CARD


@pytest.mark.parametrize("brings_code", [False, True])
@pytest.mark.parametrize("before", [None, "firm/of-before"])
def test_the_card_as_it_is_written_leads_to_another_repository(before: str | None, brings_code: bool) -> None:
    facts = CardFacts("student", "text-classification", before, architecture="bert", brings_code=brings_code)
    card = addressed(write_card(facts).text, REPO)
    assert card == write_card(replace(facts, repo_id=REPO)).text
    assert card.count(REPO) == (2 if brings_code else 3)
    mine = 'pipeline("text-classification", model="firm/teacher")\nclassifier = make(model="x")\nname, repo = 1, 2\n'
    assert addressed(mine, REPO) == mine


def test_a_private_repository(hub: HubServer, folder: Path) -> None:
    push_folder(folder, REPO, private=True, api=api(hub))
    push_folder(folder, REPO, private=True, api=api(hub))  # it exists and is private: fine
    assert hub.private == {REPO}


def test_what_is_to_be_private_does_not_go_into_a_public_repository(hub: HubServer, folder: Path) -> None:
    hub.repos[REPO] = {"README.md": b"old"}
    with pytest.raises(ValueError, match="exists and is public, so nothing was sent"):
        push_folder(folder, REPO, private=True, api=api(hub))
    assert hub.repos[REPO] == {"README.md": b"old"}


def test_a_branch_leaves_the_main_one_alone(hub: HubServer, folder: Path) -> None:
    hub.repos[REPO] = {"README.md": b"old", "other.txt": b"kept"}
    push_folder(folder, REPO, revision="v2", api=api(hub))
    push_folder(folder, REPO, revision="v2", api=api(hub))
    assert hub.repos[REPO] == {"README.md": b"old", "other.txt": b"kept"}
    assert set(hub.repos[f"{REPO}@v2"]) == {*PUBLIC, "other.txt"}


@pytest.mark.parametrize(
    ("status", "where", "kind", "says"),
    [
        (401, "", PermissionError, r"does not accept the token \(401\).*hf auth login"),
        (403, "/repos/create", PermissionError, r"may not write to tester/student \(403\)"),
        (403, "/commit/", PermissionError, r"may not write to tester/student \(403\)"),
        (409, "/commit/", ConnectionError, r"at the same time \(409\)"),
        (429, "/commit/", ConnectionError, r"too many requests \(429\). Try again in 17 seconds"),
        (500, "/preupload/", ConnectionError, r"fails at the moment \(500\)"),
        (500, "/commit/", ConnectionError, r"fails at the moment \(500\)"),
        (507, "/commit/", ConnectionError, r"fails at the moment \(507\)"),
        (0, "/commit/", ConnectionError, "the connection was cut"),
        (418, "/commit/", ConnectionError, r"refused \(418\)"),
    ],
)
def test_a_hub_that_fails_says_what_to_do_and_the_next_push_finishes_the_job(
    hub: HubServer, folder: Path, status: int, where: str, kind: type[Exception], says: str
) -> None:
    before = state(folder)
    hub.fail(status, where, {"Retry-After": "17"} if status == 429 else {})
    with pytest.raises(kind, match=says) as failure:
        push_folder(folder, REPO, api=api(hub))
    assert f"Nothing in {folder} was changed; the same command, given again, finishes the job." in str(failure.value)
    assert not hub.repos.get(REPO)  # no half of a model
    hub.recover()
    push_folder(folder, REPO, api=api(hub))
    assert set(hub.repos[REPO]) == PUBLIC
    assert state(folder) == before


def test_no_network(hub: HubServer, folder: Path) -> None:
    hub.stop()
    with pytest.raises(ConnectionError, match=r"cannot be reached.*Check the network"):
        push_folder(folder, REPO, api=api(hub))


def test_offline_by_choice(hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE is set"):
        push_folder(folder, REPO, api=api(hub))


def test_no_token(hub: HubServer, folder: Path) -> None:
    with pytest.raises(PermissionError, match=r"token.*hf auth login"):
        push_folder(folder, REPO, api=api(hub, token=False))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("report.json", '{"command": "train.py --token ' + TOKEN + '"}', "a token"),
        ("config.json", '{"_name_or_path": "%s/teacher"}', "the local path"),
        ("README.md", "made in %s/student", "the local path"),
        ("tokenizer.json", '{"model": "%s/student"}', None),
        ("special_tokens_map.json", '{"eos_token": "</s>"}', None),
        ("config.json", '{"id2label": {"0": "/m/01g317"}}', None),
    ],
)
def test_a_file_that_tells_too_much_is_not_sent(
    hub: HubServer, folder: Path, name: str, content: str, says: str | None
) -> None:
    (folder / name).write_text(content.replace("%s", str(folder.parent)))
    if says is None:
        push_folder(folder, REPO, api=api(hub))
        assert name in hub.repos[REPO]
        return
    with pytest.raises(ValueError, match=rf"{name} names {says}.* so nothing was sent"):
        push_folder(folder, REPO, api=api(hub))
    assert not hub.uploaded


def test_a_folder_without_a_model(hub: HubServer, tmp_path: Path, folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        push_folder(tmp_path, REPO, api=api(hub))
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no model\.safetensors"):
        push_folder(folder, REPO, api=api(hub))
    assert not hub.uploaded


def test_no_byte_that_is_sent_holds_the_token(hub: HubServer, folder: Path) -> None:
    push_folder(folder, REPO, api=api(hub))
    assert hub.uploaded
    assert not any(TOKEN.encode() in body for body in hub.uploaded)
