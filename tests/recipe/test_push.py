"""What is asked of the Hub before a training; the server is in ``hub_server.py``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import huggingface_hub
import pytest
from hub_server import HubServer

from hf_distill.recipe import check_push

TOKEN = "hf_" + "aB3" * 11 + "x"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer(TOKEN) as server, mock.patch("huggingface_hub.utils._http.time.sleep"):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        yield server


def arguments(folder: Path, **changes: Any) -> Any:
    named = {
        "push_to_hub": True,
        "hub_model_id": None,
        "hub_private_repo": None,
        "hub_token": TOKEN,
        "process_index": 0,
    }
    return SimpleNamespace(output_dir=str(folder / "student"), **{**named, **changes})


@pytest.mark.parametrize(
    ("changes", "repos", "private"),
    [
        ({}, {"tester/student"}, False),
        ({"hub_model_id": "firm/named", "hub_private_repo": True}, {"firm/named"}, True),
        ({"push_to_hub": False}, set(), False),
        ({"process_index": 1}, set(), False),
    ],
)
def test_the_repository_is_made(
    hub: HubServer, tmp_path: Path, changes: dict[str, Any], repos: set[str], private: bool
) -> None:
    for _ in range(2):  # one that exists is found
        check_push(arguments(tmp_path, **changes))
    assert set(hub.repos) == repos
    assert hub.private == (repos if private else set())


def test_what_would_go_wrong_in_the_end_goes_wrong_now(hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(PermissionError, match=r"does not accept the token \(401\).*hf auth login"):
        check_push(arguments(tmp_path, hub_token="hf_another"))
    hub.repos["tester/student"] = {}
    with pytest.raises(ValueError, match="exists and is public"):
        check_push(arguments(tmp_path, hub_private_repo=True))
    hub.stop()
    with pytest.raises(ConnectionError, match="cannot be reached"):
        check_push(arguments(tmp_path))
