"""A text teacher is taken where it knows the classes, and refused where it knows others."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
import tiny
import torch
from datasets import Dataset, DatasetDict
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from hf_distill.recipe import TextData, fine_tuned_teacher, text

WORDS = ["[PAD]", "[UNK]", *"abcdefgh"]
ROWS = Dataset.from_dict({"text": ["a b", "c d"], "labels": [0, 1]})
DATA = TextData(DatasetDict(train=ROWS, validation=ROWS), ("text",), ("negative", "positive"))


def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(vocabulary), pad_token="[PAD]", unk_token="[UNK]")


@pytest.mark.parametrize("same", [True, False])
def test_a_tokenizer_with_other_rules_is_the_students_own(tmp_path: Path, same: bool) -> None:
    """The same words are not enough: one of the two may be for words in lower case alone."""
    own = tokenizer()
    if not same:
        own.backend_tokenizer.normalizer = Lowercase()
    own.save_pretrained(tmp_path)
    teachers = tokenizer()
    assert (text.tokenizer_of_student(str(tmp_path), teachers) is teachers) == same


@pytest.mark.parametrize(
    ("names", "warned"),
    [(["negative", "positive"], False), (["POSITIVE", "NEGATIVE"], False), (["LABEL_0", "LABEL_1"], True),
     (["cold", "warm"], None), (["negative", "neutral", "positive"], None)],
)  # fmt: skip
def test_who_knows_the_classes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, names: list[str], warned: bool | None
) -> None:
    """Nothing is trained: the tuning arguments have a folder that stays empty."""
    name, args = str(tmp_path / "teacher"), tiny.arguments(tmp_path / "tuned")
    saved = tiny.bert(labels=len(names), id2label=dict(enumerate(names)))
    saved.save_pretrained(name)
    tokenizer().save_pretrained(name)
    if warned is None:
        with pytest.raises(ValueError, match=r"cold.*not the same classes|2 labels .* the teacher 3"):
            fine_tuned_teacher(name, DATA, tokenizer(), args, max_length=8)
    else:
        teacher = fine_tuned_teacher(name, DATA, tokenizer(), args, max_length=8)
        assert torch.equal(teacher.classifier.weight, saved.classifier.weight)
        assert ("is all that says that they are the same" in caplog.text) == warned
    assert not (tmp_path / "tuned").exists()


def test_a_teacher_without_a_head_is_not_tuned_in_its_own_place(tmp_path: Path) -> None:
    tiny.bert().bert.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="would take the place of"):
        fine_tuned_teacher(str(tmp_path), DATA, tokenizer(), tiny.arguments(tmp_path), max_length=8)


def test_the_training_of_a_teacher_is_about_the_folder_that_it_starts_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = mock.MagicMock()
    monkeypatch.setattr(text, "train_run", trained)
    tokenizer().save_pretrained(tmp_path)
    for layers in (1, 1, 2):
        tiny.bert(layers=layers).config.save_pretrained(tmp_path)
        fine_tuned_teacher(f"config:{tmp_path}", DATA, tokenizer(), tiny.arguments(tmp_path / "tuned"), max_length=8)
    first, again, other = (call.kwargs["about"] for call in trained.call_args_list)
    assert first == again
    assert {**first, "start": other["start"]} == other != first


def test_a_teacher_that_reads_the_texts_itself_reads_no_more_of_them() -> None:
    own = tokenizer()
    own.backend_tokenizer.pre_tokenizer = Whitespace()
    teacher = text.live_teacher(tiny.bert(), "teacher", own, DATA, max_length=3)
    [read] = teacher.collate([{"text": "a b c d e f"}]).values()
    assert read["input_ids"].shape == (1, 3)
    assert own("a b c d e f", truncation=True)["input_ids"] == [2, 3, 4, 5, 6, 7]  # the student's is as it was
