"""Where a recipe keeps a teacher's answers."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import tiny
from transformers import default_data_collator

from hf_distill import CachedTeacher, ModelTeacher, Teacher, with_example_ids
from hf_distill.recipe import answers, asked_once, usable_cache


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


def test_numbers_of_examples_are_not_asked_about_and_data_workers_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(answers, "cache_teacher", lambda *given, **settings: asked.append({"given": given, **settings}))
    for rows in (tiny.dataset(), with_example_ids(tiny.dataset()), tiny.dataset().remove_columns("token_type_ids")):
        args = tiny.arguments(tmp_path, dataloader_num_workers=3)
        asked_once(ModelTeacher(tiny.bert()), rows, args, collator=default_data_collator, cache="auto", folder=tmp_path)
    plain, numbered, narrower = (call["given"][2] for call in asked)
    assert plain == numbered != narrower
    assert [call["num_workers"] for call in asked] == [3, 3, 3]


def test_a_folder_that_cannot_be_used_is_refused() -> None:
    assert [usable_cache(cache, None) for cache in ("auto", "off", "mine")] == ["auto", "off", "mine"]
    assert [usable_cache(cache, "Buy a disk.") for cache in ("auto", "off")] == ["off", "off"]
    with pytest.raises(ValueError, match=r"--teacher_cache mine cannot be used: Buy a disk\."):
        usable_cache("mine", "Buy a disk.")


def test_features_are_kept_where_they_are_named(tmp_path: Path) -> None:
    plain, pooled = ask(tmp_path, "auto"), ask(tmp_path, "auto", features=["bert.pooler"])
    assert isinstance(plain, CachedTeacher)
    assert isinstance(pooled, CachedTeacher)
    assert plain.store.folder != pooled.store.folder
    assert (plain.kept_features, pooled.kept_features) == (frozenset(), {"bert.pooler"})
