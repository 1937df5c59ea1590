"""A recipe as a program: how it ends."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from hf_distill.labels import SINGLE_LABEL
from hf_distill.recipe import run
from hf_distill.teacher_check import check_teacher


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    """What a recipe sets for its whole process."""
    logger = logging.getLogger("hf_distill")
    before = logger.level
    yield
    logger.setLevel(before)


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens, in order, in one of several processes."""
    happened: list[str] = []
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    for name in ("barrier", "destroy_process_group"):
        monkeypatch.setattr(torch.distributed, name, lambda name=name: happened.append(name))
    return happened


def test_processes_leave_together(done: list[str]) -> None:
    run(lambda: done.append("main"))
    assert done == ["main", "barrier", "destroy_process_group"]


def test_a_mistake_waits_for_nobody(done: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise ValueError("no such thing")

    with pytest.raises(SystemExit) as stop:
        run(main)
    assert (stop.value.code, done) == (2, [])
    assert capsys.readouterr().err == "error: no such thing\n"


def test_a_recipe_that_is_stopped_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        run(main)
    assert stop.value.code == 130
    assert capsys.readouterr().err.startswith("stopped: the same command goes on")


@pytest.mark.parametrize(("rank", "level"), [(None, logging.INFO), ("0", logging.INFO), ("1", logging.WARNING)])
def test_one_of_several_processes_tells_how_it_goes(
    rank: str | None, level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    run(lambda: None)
    assert logging.getLogger("hf_distill").level == level


def test_a_code_page_without_a_letter_costs_no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has cp1252 where the output goes into a file."""
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="cp1252", newline=""))
    run(lambda: print("KL(teacher‖student)", flush=True))
    assert written.getvalue().decode("utf-8") == "KL(teacher‖student)\n"


@pytest.mark.parametrize(
    ("words", "traceback"),
    [(["--output_dir", "out/debug"], False), (["--log_level", "debug"], True), (["--log-level=debug"], True)],
)
def test_a_traceback_is_for_those_who_ask_for_it(
    words: list[str], traceback: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def main() -> None:
        raise ValueError("no such thing")

    monkeypatch.setattr("sys.argv", ["recipe.py", *words])
    with pytest.raises(ValueError if traceback else SystemExit):
        run(main)


def full_disk() -> None:
    raise OSError("No space left on device")


def bad_teacher() -> None:
    check_teacher("vgg13", torch.tensor([[1.0, 0.0]] * 64), torch.tensor([0, 1] * 32), SINGLE_LABEL)


def batch_of_one() -> None:
    nn.BatchNorm2d(2)(torch.ones(1, 2, 1, 1))


@pytest.mark.parametrize(
    ("main", "cure"),
    [
        (full_disk, "Free some space and run the same command again."),
        (batch_of_one, "--dataloader_drop_last, or"),
        (bad_teacher, "--teacher_epochs"),
    ],
)
def test_errors_of_others_have_a_cure(main: Callable[[], None], cure: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(main)
    assert cure in capsys.readouterr().err
