"""Where a recipe keeps a teacher's answers."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import default_data_collator

from hf_distill import CachedTeacher, ModelTeacher, Teacher, with_example_ids
from hf_distill.recipe import AnswerArguments, answers, asked_once


def ask(
    folder: Path,
    cache: str = "auto",
    seed: int = 1,
    features: Collection[str] = (),
    kept: AnswerArguments | None = None,
    **settings: bool,
) -> Teacher:
    return asked_once(
        ModelTeacher(tiny.bert(seed=seed, num_labels=3)), tiny.dataset(), tiny.arguments(folder / "out", **settings),
        collator=default_data_collator, kept=kept or AnswerArguments(cache), folder=folder / "kept", features=features,
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
    kept = AnswerArguments()
    monkeypatch.setattr(answers, "cache_teacher", lambda *given, **settings: asked.append({"given": given, **settings}))
    for rows in (tiny.dataset(), with_example_ids(tiny.dataset()), tiny.dataset().remove_columns("token_type_ids")):
        args = tiny.arguments(tmp_path, dataloader_num_workers=3)
        asked_once(ModelTeacher(tiny.bert()), rows, args, collator=default_data_collator, kept=kept, folder=tmp_path)
    plain, numbered, narrower = (call["given"][2] for call in asked)
    assert plain == numbered != narrower
    assert [call["num_workers"] for call in asked] == [3, 3, 3]


def test_answers_that_cannot_be_kept_are_refused_where_somebody_asked_for_them() -> None:
    def left(kept: AnswerArguments, hindrance: str | None = "Buy a disk.") -> str:
        return kept.unless(hindrance).teacher_cache

    assert [left(AnswerArguments(cache), None) for cache in ("auto", "off", "mine")] == ["auto", "off", "mine"]
    assert [left(AnswerArguments(cache)) for cache in ("auto", "off")] == ["off", "off"]
    with pytest.raises(ValueError, match=r"--teacher_cache mine cannot be used: Buy a disk\."):
        left(AnswerArguments("mine"))
    for kept in (AnswerArguments(cache_dtype="float16"), AnswerArguments(cache_top_k=2)):
        with pytest.raises(ValueError, match=r"--cache_dtype and --cache_top_k cannot be used: Buy a disk\."):
            left(kept)


def test_less_may_be_kept_and_has_a_folder_of_its_own(tmp_path: Path) -> None:
    exact, half, two = AnswerArguments(), AnswerArguments(cache_dtype="float16"), AnswerArguments(cache_top_k=2)
    teachers = [ask(tmp_path, kept=kept) for kept in (exact, half, two)]
    rows = [dict(row) for row in tiny.dataset().select(range(4))]
    whole, rounded, largest = (
        torch.stack([teacher(teacher.collate([row])).logits[0] for row in rows]) for teacher in teachers
    )
    assert len({str(teacher.store.folder) for teacher in teachers if isinstance(teacher, CachedTeacher)}) == 3
    assert torch.equal(rounded, whole.half().float())
    assert not torch.equal(rounded, whole)
    torch.testing.assert_close(largest.softmax(-1), whole.softmax(-1))  # two of three and the rest are all
    assert [kept.shortened() for kept in (exact, half, two)] == [
        {}, {"kept logits": "float16"}, {"kept classes": "the 2 likeliest"},
    ]  # fmt: skip


def test_wrong_numbers_are_refused_before_anything_takes_long() -> None:
    with pytest.raises(ValueError, match=r"--cache_top_k must be >= 1, got 0\."):
        AnswerArguments(cache_top_k=0)
    AnswerArguments(cache_top_k=2).check_classes(3)
    AnswerArguments().check_classes(2)
    with pytest.raises(ValueError, match=r"--cache_top_k 2 keeps every one of the 2 classes: leave it out"):
        AnswerArguments(cache_top_k=2).check_classes(2)
    with pytest.raises(ValueError, match=r"off keeps no answers: leave --cache_dtype"):
        AnswerArguments("off", cache_dtype="float16")


def test_a_report_says_how_answers_and_features_are_kept() -> None:
    half = {"kept features": "float16"}
    assert AnswerArguments(cache_top_k=2).settings() == {"kept classes": "the 2 likeliest"}
    assert AnswerArguments(cache_top_k=2).settings(["a"]) == {"kept classes": "the 2 likeliest", **half}
    assert AnswerArguments("mine").settings(["a"]) == half
    assert AnswerArguments("off").settings(["a"]) == {}
    assert AnswerArguments().shortened() == {}, "keys of trainings stay as they were"


def test_features_are_kept_where_they_are_named(tmp_path: Path) -> None:
    plain, pooled = ask(tmp_path, "auto"), ask(tmp_path, "auto", features=["bert.pooler"])
    assert isinstance(plain, CachedTeacher)
    assert isinstance(pooled, CachedTeacher)
    assert plain.store.folder != pooled.store.folder
    assert (plain.kept_features, pooled.kept_features) == (frozenset(), {"bert.pooler"})
