"""Where a recipe keeps a teacher's answers."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest
import tiny
from transformers import default_data_collator

from hf_distill import CachedTeacher, ModelTeacher, Teacher
from hf_distill.recipe import asked_once


def ask(folder: Path, cache: str, seed: int = 1, features: Collection[str] = (), **settings: bool) -> Teacher:
    return asked_once(
        ModelTeacher(tiny.bert(seed=seed)), tiny.dataset(), tiny.arguments(folder / "out", **settings),
        collator=default_data_collator, cache=cache, folder=folder / "kept", features=features,
    )  # fmt: skip


def test_each_teacher_and_precision_has_a_folder(tmp_path: Path) -> None:
    teachers = [
        ask(tmp_path, "auto"),
        ask(tmp_path, "auto"),
        ask(tmp_path, "auto", 2),
        ask(tmp_path, "auto", bf16=True),
    ]
    folders = [teacher.store.folder for teacher in teachers if isinstance(teacher, CachedTeacher)]
    assert len(folders) == 4
    assert folders[0] == folders[1]
    assert len(set(folders)) == 3 == len(list((tmp_path / "kept").iterdir()))


def test_a_folder_may_be_given_and_is_for_one_teacher(tmp_path: Path) -> None:
    given = ask(tmp_path, str(tmp_path / "mine"))
    assert isinstance(given, CachedTeacher)
    assert given.store.folder == tmp_path / "mine"
    with pytest.raises(ValueError, match="weights"):
        ask(tmp_path, str(tmp_path / "mine"), seed=2)


def test_it_may_be_left_out(tmp_path: Path) -> None:
    assert isinstance(ask(tmp_path, "off"), ModelTeacher)
    assert not (tmp_path / "kept").exists()


def test_features_are_kept_where_they_are_named(tmp_path: Path) -> None:
    plain, pooled = ask(tmp_path, "auto"), ask(tmp_path, "auto", features=["bert.pooler"])
    assert isinstance(plain, CachedTeacher)
    assert isinstance(pooled, CachedTeacher)
    assert plain.store.folder != pooled.store.folder
    assert (plain.kept_features, pooled.kept_features) == (frozenset(), {"bert.pooler"})
