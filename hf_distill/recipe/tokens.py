"""Texts to tokens, and tokens to batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from hf_distill.recipe.hardware import padding_multiple


def tokenize(
    rows: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    text_columns: Sequence[str],
    max_length: int,
    desc: str = "Tokenizing",
    keep_text: bool = False,
) -> Dataset:
    """The rows as ``input_ids`` and what goes with them, truncated, not padded. Of the other columns ``labels`` stays.

    Args:
        rows: A split with the text columns.
        tokenizer: Whose tokens.
        text_columns: One, or two for pairs.
        max_length: Longest in tokens; less where the tokenizer's model takes less.
        desc: What the progress bar says.
        keep_text: Whether the text columns stay too, for a teacher that reads them itself.
    """
    length = min(max_length, tokenizer.model_max_length)

    def encode(batch: dict[str, list[str]]) -> Any:
        return tokenizer(*(batch[column] for column in text_columns), truncation=True, max_length=length)

    kept = {"labels", *(text_columns if keep_text else ())}
    dropped = [column for column in rows.column_names if column not in kept]
    return rows.map(encode, batched=True, remove_columns=dropped, desc=desc)


def padding_collator(tokenizer: PreTrainedTokenizerBase) -> DataCollatorWithPadding:
    """Pads each batch to its own longest row, rounded up where the hardware likes that."""
    return DataCollatorWithPadding(tokenizer, pad_to_multiple_of=padding_multiple())
