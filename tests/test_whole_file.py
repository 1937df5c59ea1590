"""A file has its name once it is complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_distill.whole_file import whole_file


def test_what_was_there_stays_until_the_new_file_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    with whole_file(path) as file:
        file.write("new ‖")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text(encoding="utf-8") == "new ‖"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")

    def half() -> None:
        with whole_file(path) as file:
            file.write("half")
            raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
