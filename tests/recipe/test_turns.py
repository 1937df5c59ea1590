"""A folder is one run's at a time."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest
import tiny
from other_run import OtherRun

from hf_distill.recipe.turns import take_folder, turn


def test_a_second_run_does_not_begin_in_a_folder(tmp_path: Path) -> None:
    other = OtherRun(tmp_path)
    with pytest.raises(ValueError, match=r"Another run is at work in .* Wait until it has ended, or choose another"):
        take_folder(tiny.arguments(tmp_path))
    other.leave()
    for _ in range(2):  # the same run may
        take_folder(tiny.arguments(tmp_path))
    with turn(tiny.arguments(tmp_path)):
        pass
    with pytest.raises(BlockingIOError):
        other.take()


def test_a_training_waits_for_its_turn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other, done = OtherRun(tmp_path), []

    def end() -> None:
        done.append("other")
        other.leave()

    threading.Timer(0.2, end).start()
    with caplog.at_level(logging.INFO, "hf_distill"), turn(tiny.arguments(tmp_path)):
        assert done == ["other"]
        with pytest.raises(BlockingIOError):
            other.take()
    assert "waiting until it has ended" in caplog.text
    other.take()


def test_with_several_processes_it_waits_for_less_than_they_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = OtherRun(tmp_path)
    args = tiny.arguments(tmp_path, ddp_timeout=0.2)
    monkeypatch.setattr(type(args), "world_size", 2)
    with pytest.raises(ValueError, match="Another run is at work"), turn(args):
        pass
    monkeypatch.setattr(type(args), "process_index", 1)
    with turn(args):  # the first one asks for all
        other.leave()


def test_where_nothing_can_be_locked_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.INFO, "hf_distill"), turn(tiny.arguments(tmp_path / "file")):
        pass
    assert "cannot be locked" in caplog.text
    assert "start no second run there" in caplog.text
