"""Which files of a model's folder may be published."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers.dynamic_module_utils import get_relative_imports

from hf_distill.onnx_classifier import ONNX_FILES, figures_path
from hf_distill.report_page import PLOTS

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"),
    *("vocab.json", "vocab.txt", "merges.txt", "bpe.codes", "dict.txt", "spiece.model", "sentencepiece.bpe.model"),
    *("sentencepiece.model", "tokenizer.model", "spm.model", "entity_vocab.json", "word_shape.json"),
    *("word_pronunciation.json", "byte_maps.json"),
)
"""The names that the tokenizers of transformers' text classifiers give to their files."""

PUBLIC_FILES = (
    *("config.json", "generation_config.json", *ADAPTER, *TOKENIZER_FILES),
    *("preprocessor_config.json", "processor_config.json"),
    *("README.md", "LICENSE", "LICENSE.md", "LICENSE.txt", "objective.json", "report.json", "report.html", *PLOTS),
    *(Path(path).as_posix() for name in ONNX_FILES.values() for path in (name, figures_path(Path(name)))),
)
"""What may be published under its own name. Weights and code are found through the files that name them."""

NAMING_CODE = ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json")


def public_files(folder: Path) -> list[str]:
    """The files of a folder that may be published, as paths within it.

    Those that transformers and this package write for a model to be used: config, weights, tokenizer or image
    processor, the code that the ``auto_map`` of a config names, card, report, plots and ONNX. Everything else stays:
    checkpoints, optimizers, caches, pickled settings, other people's.

    Raises:
        FileNotFoundError: it holds no model, or only a part of one.
    """
    named = {name for name in PUBLIC_FILES if (folder / name).is_file()}
    if not named & {"config.json", "adapter_config.json"}:
        raise FileNotFoundError(_no_model(folder, "config.json"))
    weights = set(_weights(folder))
    if not weights and "adapter_model.safetensors" not in named:
        raise FileNotFoundError(_no_model(folder, WEIGHTS))
    return sorted({*named, *weights, *_code(folder)})


def _no_model(folder: Path, lacking: str) -> str:
    cure = "Name the folder that trainer.save_model() wrote."
    return f"{folder} holds no {lacking}, so there is no model to publish. {cure}"


def _weights(folder: Path) -> Iterator[str]:
    """One file, or the index and the shards that it names; an index beside the one file is of an earlier save."""
    if (folder / WEIGHTS).is_file():
        yield WEIGHTS
    elif shards := set(_read(folder / INDEX).get("weight_map", {}).values()):
        yield INDEX
        for shard in shards:
            if Path(shard).name != shard or not (folder / shard).is_file():
                raise FileNotFoundError(_no_model(folder, f"{shard}, which {INDEX} names"))
            yield shard


def _code(folder: Path) -> set[str]:
    """The modules that an ``auto_map`` names, and what they import from beside them, as ``save_pretrained`` does."""
    waiting = {module for name in NAMING_CODE for module in _modules(_read(folder / name).get("auto_map", {}))}
    found: set[str] = set()
    while waiting:
        file = folder / f"{waiting.pop()}.py"
        if file.parent == folder and file.is_file() and file.name not in found:
            found.add(file.name)
            waiting.update(get_relative_imports(file))
    return found


def _modules(auto_map: dict[str, Any]) -> Iterator[str]:
    """``modeling_mine`` of ``modeling_mine.MyModel``; a tokenizer has two. With ``--`` it is in another repository."""
    for classes in auto_map.values():
        for name in classes if isinstance(classes, list) else [classes]:
            if name is not None and "--" not in name:
                yield name.rpartition(".")[0]


def _read(path: Path) -> dict[str, Any]:
    """A JSON file's content; nothing where there is no file.

    Raises:
        ValueError: it is no JSON.
    """
    if not path.is_file():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON ({error}), so nothing was sent. Is it complete?") from error
    return content
