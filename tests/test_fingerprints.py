"""Equal content has equal fingerprints, wherever it came from."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from inspect import getsource
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from datasets import Dataset
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    BertJapaneseTokenizer,
    BertTokenizerFast,
    PreTrainedTokenizerBase,
)

from hf_distill import ModelTeacher, Noise, fingerprints
from hf_distill.fingerprints import (
    code_fingerprint,
    config_fingerprint,
    rows_fingerprint,
    tokenizer_fingerprint,
    weights_fingerprint,
)


def test_rows_are_about_content() -> None:
    rows = tiny.dataset()
    assert rows_fingerprint(rows) == rows_fingerprint(tiny.dataset())
    assert rows_fingerprint(rows) == rows_fingerprint(Dataset.from_dict(rows.to_dict(), features=rows.features))
    assert rows_fingerprint(rows.select(range(35))) == rows_fingerprint(tiny.dataset(rows=35))
    others = [rows.select(range(35)), rows.shuffle(seed=1), tiny.dataset(seed=5), rows.remove_columns("labels")]
    assert len({rows_fingerprint(other) for other in [rows, *others]}) == 5


def test_noise_is_about_what_it_depends_on() -> None:
    noise = Noise((3,), rows=5)
    assert rows_fingerprint(noise) == rows_fingerprint(Noise((3,), rows=5))
    others = [noise.for_training(1), Noise((4,), 5), Noise((3,), 6), Noise((3,), 5, "pixel_values")]
    assert len({rows_fingerprint(other) for other in [noise, *others]}) == 5


def test_a_model_is_itself_after_saving_and_training_in_bf16_changes_its_weights(tmp_path: Path) -> None:
    model = tiny.bert(seed=1)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert weights_fingerprint(model) == weights_fingerprint(loaded)
    assert config_fingerprint(model.config) == config_fingerprint(loaded.config)
    model.config.problem_type = "single_label_classification"
    assert config_fingerprint(model.config) == config_fingerprint(loaded.config)
    with torch.no_grad():
        model.classifier.bias[0] += 1e-6
    others = [model, tiny.bert(seed=2), tiny.bert(seed=1).bfloat16()]
    assert len({weights_fingerprint(other) for other in [loaded, *others]}) == 4
    changed = [tiny.bert(hidden_act="relu"), tiny.bert(layer_norm_eps=1e-3), tiny.bert(layers=2)]
    assert len({config_fingerprint(other.config) for other in [loaded, *changed]}) == 4


class Own(nn.Identity):
    """A module whose code is here."""


def test_code_counts_that_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert code_fingerprint(tiny.bert()) is None
    ours, patched = code_fingerprint(tiny.vgg()), tiny.bert()
    patched.dropout = Own()
    assert None not in (ours, code_fingerprint(patched))
    changed = getsource(sys.modules[type(tiny.vgg()).__module__]).replace("ReLU", "GELU")
    monkeypatch.setattr(fingerprints, "getsource", lambda _: changed)
    assert code_fingerprint(tiny.vgg()) != ours
    assert set(ModelTeacher(tiny.vgg()).fingerprint()) == {"model", "weights", "config", "code"}

    def typed_in(_: object) -> str:
        raise OSError("source code not available")

    monkeypatch.setattr(fingerprints, "getsource", typed_in)
    assert set(ModelTeacher(tiny.vgg()).fingerprint()) == {"model", "weights", "config"}


@pytest.mark.parametrize(
    ("kind", "same", "others"),
    [
        (
            BertTokenizerFast,
            {"padding_side": "right"},
            [
                {"do_lower_case": False}, {"model_max_length": 9}, {"padding_side": "left"},
                {"truncation_side": "left"}, {"model_input_names": ["input_ids", "attention_mask"]},
            ],
        ),
        (
            partial(BertJapaneseTokenizer, word_tokenizer_type="basic"),  # in Python
            {"word_tokenizer_type": "basic"},
            [{"do_lower_case": True}, {"subword_tokenizer_type": "character"}, {"truncation_side": "left"}],
        ),
    ],
)  # fmt: skip
def test_tokenizers_differ_in_all_that_a_model_sees(
    kind: Callable[..., Any], same: dict[str, Any], others: list[dict[str, Any]], tmp_path: Path
) -> None:
    def made(words: str, **settings: Any) -> PreTrainedTokenizerBase:
        (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words.split()]))
        tokenizer: PreTrainedTokenizerBase = kind(str(tmp_path / "vocab.txt"), **settings)
        return tokenizer

    plain = made("a b", model_max_length=512)
    plain.save_pretrained(tmp_path / "saved")
    loaded = type(plain).from_pretrained(tmp_path / "saved")
    assert {tokenizer_fingerprint(plain)} == {
        tokenizer_fingerprint(other) for other in (made("a b", model_max_length=512, **same), loaded)
    }
    changed = [made("a b", **{"model_max_length": 512, **other}) for other in others]
    found = {tokenizer_fingerprint(other) for other in (plain, made("a c", model_max_length=512), None, *changed)}
    assert len(found) == 3 + len(others)
