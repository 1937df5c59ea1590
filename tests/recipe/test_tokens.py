"""Tokens are truncated, not padded, and batches are padded."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hf_distill.recipe import padding_collator, tokenize, tokens


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """Every word is its number plus one; padding is 0."""
    words = Tokenizer(models.WordLevel({"[PAD]": 0, **{str(number): number + 1 for number in range(100)}}, "[PAD]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", model_max_length=12)


ROWS = Dataset.from_dict({"id": [7, 8], "text": ["1 2 3", " ".join(map(str, range(20)))], "labels": [1, -100]})


def test_tokens_are_cut_off_and_not_padded(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = tokenize(ROWS, tokenizer, ["text"], max_length=5)
    assert rows["input_ids"][:] == [[2, 3, 4], [1, 2, 3, 4, 5]]
    assert rows["labels"][:] == [1, -100]
    assert "text" not in rows.column_names
    assert "id" not in rows.column_names


def test_a_text_is_never_longer_than_the_model_can_read(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenize(ROWS, tokenizer, ["text"], max_length=128)[1]["input_ids"]) == 12


def test_pairs_are_read_together(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = Dataset.from_dict({"first": ["1 2"], "second": ["3"], "labels": [0]})
    assert tokenize(rows, tokenizer, ["second", "first"], max_length=8)[0]["input_ids"] == [4, 2, 3]


@pytest.mark.parametrize(
    ("multiple", "longest", "width"), [(8, 3, 8), (8, 8, 8), (8, 9, 16), (None, 3, 3), (None, 9, 9)]
)
def test_batches_are_padded_to_what_the_hardware_likes(
    tokenizer: PreTrainedTokenizerFast, multiple: int | None, longest: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "padding_multiple", lambda: multiple)
    rows = [{"input_ids": [1] * length, "attention_mask": [1] * length, "labels": 0} for length in (1, longest)]
    batch = padding_collator(tokenizer)(rows)
    assert batch["input_ids"].shape == (2, width)
    assert torch.equal(batch["attention_mask"].sum(dim=1), torch.tensor([1, longest]))
