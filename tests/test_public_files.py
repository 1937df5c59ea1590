"""What of a folder may be published, from the names and the few lines inside that decide."""

from __future__ import annotations

import json
import pathlib
import runpy
from pathlib import Path
from typing import Any

import pytest

from hf_distill import public_files as public_files_module
from hf_distill.public_files import ADAPTER, PUBLIC_FILES, TOKENIZER_FILES, public_files

EVERY_NAME = """
config.json generation_config.json adapter_config.json adapter_model.safetensors
tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json chat_template.jinja
vocab.json vocab.txt merges.txt bpe.codes dict.txt spiece.model sentencepiece.bpe.model sentencepiece.model
tokenizer.model spm.model entity_vocab.json word_shape.json word_pronunciation.json byte_maps.json
preprocessor_config.json processor_config.json
README.md LICENSE LICENSE.md LICENSE.txt objective.json report.json report.html
models.png training_curves.png confusion.png reliability.png
onnx/model.onnx onnx/model.onnx.json onnx/model_int8.onnx onnx/model_int8.onnx.json
"""


def write(folder: Path, *names: str, **contents: Any) -> Path:
    """A folder with files of these names, and JSON files with contents."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}" if name.endswith(".json") else "")
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_every_name_that_may_be_published(tmp_path: Path) -> None:
    names = EVERY_NAME.split()
    write(tmp_path, "model.safetensors", *names, *(f"my_{name.split('/')[-1]}" for name in names))
    assert public_files(tmp_path) == sorted(["model.safetensors", *names])
    assert set(names) == set(PUBLIC_FILES)


def test_names_are_the_hubs_under_windows_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pathlib, "Path", pathlib.PureWindowsPath)
        found = runpy.run_path(str(public_files_module.__file__))["PUBLIC_FILES"]
    assert found == PUBLIC_FILES


@pytest.mark.parametrize("kind", ["bert", "roberta", "albert", "xlm-roberta", "deberta-v2", "luke", "xlnet", "canine"])
def test_tokenizers_give_their_files_no_other_names(kind: str) -> None:
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES, tokenizer_class_from_name

    found = TOKENIZER_MAPPING_NAMES[kind]
    names = [name for name in (found if isinstance(found, tuple) else (found,)) if name is not None]
    classes = [tokenizer_class_from_name(name) for name in names]
    files = {file for one in classes if one is not None for file in (one.vocab_files_names or {}).values()}
    assert files <= set(TOKENIZER_FILES)


def test_shards_are_those_that_the_index_names(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    shards = sorted(set(index["weight_map"].values()))
    write(tmp_path, "config.json", *shards, "model-00001-of-00003.safetensors", "model_old.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert public_files(tmp_path) == ["config.json", *shards, "model.safetensors.index.json"]
    (tmp_path / shards[1]).unlink()
    with pytest.raises(FileNotFoundError, match=f"no {shards[1]}, which model.safetensors.index.json names"):
        public_files(tmp_path)


def test_an_index_leads_out_of_the_folder_for_nobody(tmp_path: Path) -> None:
    write(tmp_path, "mine.safetensors", "student/config.json")
    index = {"weight_map": {"a": "../mine.safetensors"}}
    (tmp_path / "student" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FileNotFoundError, match="there is no model to publish"):
        public_files(tmp_path / "student")


def test_code_is_what_the_configs_name_and_what_that_imports(tmp_path: Path) -> None:
    write(
        tmp_path,
        *("model.safetensors", "modeling_mine.py", "modeling_other.py", "_helper.py", "tokens.py", "train.py"),
        config={"auto_map": {"AutoModel": "modeling_mine.Model", "AutoConfig": "someone/else--modeling_other.Config"}},
        tokenizer_config={"auto_map": {"AutoTokenizer": [None, "tokens.Tokens"]}},
    )
    (tmp_path / "modeling_mine.py").write_text("import torch\nfrom ._helper import x\nfrom .gone import y\n")
    (tmp_path / "_helper.py").write_text("from .modeling_mine import Model\n")
    code = [name for name in public_files(tmp_path) if name.endswith(".py")]
    assert code == ["_helper.py", "modeling_mine.py", "tokens.py"]


def test_an_adapter_is_a_model_too(tmp_path: Path) -> None:
    write(tmp_path, *ADAPTER, "tokenizer.json", "mine.py")
    assert public_files(tmp_path) == [*ADAPTER, "tokenizer.json"]


def test_a_config_that_is_cut_off(tmp_path: Path) -> None:
    write(tmp_path, "model.safetensors").joinpath("config.json").write_text('{"auto_')
    with pytest.raises(ValueError, match=r"config\.json is no JSON"):
        public_files(tmp_path)
