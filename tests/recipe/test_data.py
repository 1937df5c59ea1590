"""Loading: every layout of files, and every way in which a user can miss them."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest
from datasets import Dataset, DatasetDict

from hf_distill.recipe import data as module
from hf_distill.recipe import load_splits
from hf_distill.recipe import reach as reach_module


def rows(count: int, start: int = 0) -> Dataset:
    return Dataset.from_dict(
        {"text": [f"text {start + row}" for row in range(count)], "label": [row % 2 for row in range(count)]}
    )


WRITERS: dict[str, Any] = {
    ".parquet": lambda part, path: part.to_parquet(path),
    ".csv": lambda part, path: part.to_csv(path, index=False),
    ".tsv": lambda part, path: part.to_csv(path, index=False, sep="\t"),
    ".jsonl": lambda part, path: part.to_json(path, lines=True),
    ".json": lambda part, path: part.to_json(path, lines=False),
}


def write(part: Dataset, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    WRITERS[path.suffix](part, str(path))


def sizes(splits: DatasetDict) -> dict[str, int]:
    return {name: len(part) for name, part in splits.items()}


@pytest.mark.parametrize("ending", WRITERS)
def test_a_folder_of_any_format(tmp_path: Path, ending: str) -> None:
    for name, count in {"train": 6, "validation": 4, "test": 2}.items():
        write(rows(count), tmp_path / f"{name}{ending}")
    splits = load_splits(str(tmp_path))
    assert sizes(splits) == {"train": 6, "validation": 4, "test": 2}
    assert splits["train"][5] == {"text": "text 5", "label": 1}


def test_names_are_no_patterns(tmp_path: Path) -> None:
    for name, count in {
        "[1]*/train-[a-z]?.csv": 6,
        "[1]*/train-bc.csv": 7,
        "[1]*/test.csv": 2,
        "1/train.csv": 9,
    }.items():
        write(rows(count), tmp_path / f"reviews {name}")
    assert sizes(load_splits(str(tmp_path / "reviews [1]*"))) == {"train": 13, "test": 2}


def test_formats_may_differ_between_splits_and_other_files_are_left_alone(tmp_path: Path) -> None:
    write(rows(6), tmp_path / "train.parquet")
    write(rows(4), tmp_path / "dev.csv")
    (tmp_path / "README.md").write_text("train")
    assert sizes(load_splits(str(tmp_path))) == {"train": 6, "validation": 4}


@pytest.mark.parametrize(
    ("first", "second", "held_out"),
    [
        ("train/part-0.csv", "train/part-1.csv", "valid/part-0.csv"),
        ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/dev-00000-of-00001.parquet"),
        ("train_a.jsonl", "train_b.jsonl", "VAL.jsonl"),
    ],
)
def test_a_split_may_lie_in_several_files_or_in_a_folder(
    tmp_path: Path, first: str, second: str, held_out: str
) -> None:
    write(rows(6), tmp_path / first)
    write(rows(5, start=6), tmp_path / second)
    write(rows(3), tmp_path / held_out)
    splits = load_splits(str(tmp_path))
    assert sizes(splits) == {"train": 11, "validation": 3}
    assert splits["train"]["text"][:] == [f"text {row}" for row in range(11)]


def test_files_that_name_no_split_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, count in {"train.csv": 6, "dev.csv": 4, "unsupervised.csv": 3}.items():
        write(rows(count), tmp_path / name)
    assert sizes(load_splits(str(tmp_path))) == {"train": 6, "validation": 4}
    assert "1 files are left out, as their names name no split: unsupervised.csv." in caplog.text


def test_a_file_alone_is_for_training(tmp_path: Path) -> None:
    write(rows(50), tmp_path / "reviews.csv")
    assert sizes(load_splits(str(tmp_path / "reviews.csv"))) == sizes(load_splits(str(tmp_path))) == {"train": 50}


def test_words_that_pandas_takes_for_missing_are_words(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text('text,label\nnull,0\nNA,1\nnone,0\n"a, b",1\n')
    assert load_splits(str(tmp_path / "train.csv"))["train"]["text"][:] == [
        "null",
        "NA",
        "none",
        "a, b",
    ]


def test_a_missing_path_names_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "reviews").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*reviws; near it is .*reviews\. .*--preset quick"):
        load_splits(str(tmp_path / "reviws"))
    with pytest.raises(FileNotFoundError, match=r"no file or folder nowhere/at/all\."):
        load_splits("nowhere/at/all")


def test_a_folder_without_data(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no data: looked for files ending in \.parquet"):
        load_splits(str(tmp_path))


def test_files_whose_split_cannot_be_told(tmp_path: Path) -> None:
    write(rows(3), tmp_path / "one.csv")
    write(rows(3), tmp_path / "two.csv")
    with pytest.raises(ValueError, match=r"Which file of .* is for training\?.* one\.csv, two\.csv"):
        load_splits(str(tmp_path))
    write(rows(3), tmp_path / "test.csv")
    with pytest.raises(ValueError, match="no training split, only test"):
        load_splits(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"text;label\na;0\nb;1\n", "not by `;`"), ("text,label\ncafé,0\n".encode("latin-1"), "must be UTF-8")],
)
def test_tables_of_other_kinds(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "train.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_splits(str(tmp_path))


def test_an_empty_split(tmp_path: Path) -> None:
    write(rows(3), tmp_path / "train.csv")
    (tmp_path / "validation.csv").write_text("text,label\n")
    with pytest.raises(ValueError, match=r"validation split of .* is empty"):
        load_splits(str(tmp_path))
    (tmp_path / "validation.csv").write_text("")
    with pytest.raises(ValueError, match=r"validation\.csv is empty \(0 bytes\)"):
        load_splits(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.parquet", b"PAR1 this is no parquet file PAR1"),
        ("train.jsonl", b'{"text": "a", "label": 0}\n{"text": "b", "lab'),
        ("train.csv", b'text,label\na,0\n"b,1\n'),
        ("train.csv", b"text,label\n\xff\xfe\x00,0\n"),
    ],
)
def test_a_broken_file(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"Cannot read .*{name} \(\w+: .*Is it complete"):
        load_splits(str(tmp_path / name))


def test_a_truncated_parquet_file(tmp_path: Path) -> None:
    write(rows(100), tmp_path / "whole.parquet")
    (tmp_path / "half.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:500])
    with pytest.raises(ValueError, match=r"Cannot read .*half\.parquet"):
        load_splits(str(tmp_path / "half.parquet"))


def test_a_file_of_an_unknown_kind(tmp_path: Path) -> None:
    (tmp_path / "train.xlsx").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"Cannot tell how to read train\.xlsx.*\.parquet"):
        load_splits(str(tmp_path / "train.xlsx"))


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    write(rows(20), tmp_path / "train.csv")
    assert len(load_splits(str(tmp_path))["train"]) == 20
    write(rows(30), tmp_path / "train.csv")
    assert len(load_splits(str(tmp_path))["train"]) == 30


# ---- The Hub ----


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A Hub that can be reached and holds what the test puts into it."""
    held: dict[str, Any] = {}

    def load(name: str, configuration: str | None = None) -> DatasetDict:
        if (name, configuration) not in held:
            raise datasets.exceptions.DatasetNotFoundError(f"no {name}")
        return held[name, configuration]

    monkeypatch.setattr(module, "hub_reachable", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", load)
    return held


def test_a_name_with_a_configuration(hub: dict[str, Any]) -> None:
    hub["nyu-mll/glue", "sst2"] = DatasetDict(train=rows(6), validation=rows(3), test=rows(2))
    assert sizes(load_splits("nyu-mll/glue:sst2")) == {"train": 6, "validation": 3, "test": 2}


def test_splits_of_other_names_are_taken_for_what_they_are(hub: dict[str, Any]) -> None:
    hub["a/b", None] = DatasetDict(
        train=rows(6),
        validation_matched=rows(3),
        validation_mismatched=rows(4),
        test_matched=rows(2),
        unsupervised=rows(9),
    )
    assert sizes(load_splits("a/b")) == {"train": 6, "validation": 3, "test": 2}


def test_a_name_that_the_hub_does_not_know(hub: dict[str, Any]) -> None:
    says = r"no data set stanford/sst3 on the Hub that may be read \(no stanford/sst3\), and no such .*`hf auth login`"
    with pytest.raises(FileNotFoundError, match=says):
        load_splits("stanford/sst3")


def test_a_hub_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that does not answer is played by a request that ends when the test does."""
    asked, ended = threading.Event(), threading.Event()

    class Hanging:
        def head(self, *_: Any, **__: Any) -> None:
            asked.set()
            ended.wait()

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(reach_module, "PATIENCE_SECONDS", -0.9)  # and a second
    monkeypatch.setattr(huggingface_hub, "get_session", Hanging)
    reach_module.hub_reachable.cache_clear()
    with pytest.raises(ConnectionError, match=r"cannot be reached, .*org/data.*--dataset PATH .*--preset quick"):
        load_splits("org/data")
    assert asked.is_set()
    offline = huggingface_hub.constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    assert offline == (True, True), "what follows does not knock again"
    ended.set()
    reach_module.hub_reachable.cache_clear()


def test_what_looks_like_a_path_is_never_looked_for_on_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "hub_reachable", lambda: pytest.fail("asked the Hub"))
    for name in ("./data", "data.csv", "a/b/c", str(tmp_path / "x"), "~/data", ""):
        with pytest.raises(FileNotFoundError, match="no file or folder"):
            load_splits(name)


def test_a_path_that_exists_wins_over_the_hub(
    hub: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    write(rows(6), tmp_path / "org" / "data" / "train.csv")
    monkeypatch.chdir(tmp_path)
    assert len(load_splits("org/data")["train"]) == 6
    shutil.rmtree(tmp_path / "org")
