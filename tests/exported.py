"""A tiny BERT as ONNX, written once for all tests that read it, with texts of many lengths."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

pytest.importorskip("onnx", reason="needs the extra: pip install -e '.[onnx]'")
pytest.importorskip("onnxscript", reason="needs the extra: pip install -e '.[onnx]'")
pytest.importorskip("onnxruntime", reason="needs the extra: pip install -e '.[onnx]'")

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hf_distill.export import OnnxExport, export_onnx

CLASSES = {0: "bad", 1: "good", 2: "neither"}


def texts(rows: int = 40, seed: int = 0) -> list[dict[str, Any]]:
    """Random tokens, 2 to 16 of them, and random labels."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 17, (rows,), generator=generator).tolist()
    return [
        {
            "input_ids": torch.randint(5, tiny.VOCABULARY, (length,), generator=generator).tolist(),
            "attention_mask": [1] * length,
            "token_type_ids": [0] * (length // 2) + [1] * (length - length // 2),
            "labels": int(torch.randint(0, 3, (), generator=generator)),
        }
        for length in lengths
    ]


def pad(rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """A batch as long as its longest row."""
    longest = max(len(row["input_ids"]) for row in rows)
    batch = {
        name: torch.tensor([row[name] + [0] * (longest - len(row[name])) for row in rows])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    }
    return {**batch, "labels": torch.tensor([row["labels"] for row in rows])}


def model() -> Any:
    return tiny.bert(labels=3, layers=2, id2label=CLASSES, label2id={name: index for index, name in CLASSES.items()})


def tokenizer() -> PreTrainedTokenizerFast:
    """Words ``w2`` to ``w39``, as many as the model knows."""
    words = Tokenizer(
        models.WordLevel({"[PAD]": 0, "[UNK]": 1, **{f"w{i}": i for i in range(2, 40)}}, unk_token="[UNK]")
    )
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


@functools.cache
def bert() -> OnnxExport:
    """The exported model; the file lives as long as the tests do."""
    folder = Path(tempfile.mkdtemp(prefix="hf_distill_onnx_"))
    return export_onnx(model(), folder / "onnx" / "model.onnx", examples=texts(), data_collator=pad)
