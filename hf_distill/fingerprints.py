"""Hashes of what a result depends on: rows, and a model."""

from __future__ import annotations

import hashlib
import json
import sys
from contextlib import suppress
from inspect import getsource, signature

import pyarrow
import torch
from datasets import Dataset
from torch import nn
from transformers import AddedToken, PreTrainedConfig, PreTrainedTokenizerBase

from hf_distill.epochs import EpochDataset
from hf_distill.image_views import stored_rows
from hf_distill.noise import Noise

NOT_ABOUT_THE_ANSWERS = {
    *("architectures", "dtype", "torch_dtype", "transformers_version", "problem_type", "id2label", "label2id"),
    "label_names",
    *("output_attentions", "output_hidden_states", "return_dict", "use_cache", "auto_map"),
}
"""Entries of a config that saving and loading may change, or that have no part in the logits."""


def rows_fingerprint(rows: Dataset | EpochDataset) -> str:
    """A hash of the content of a data set; equal for equal rows in equal order, wherever they came from.

    That of random views is also about their seed, their number and what is done with the images; that of noise about
    what it depends on.
    """
    digest = hashlib.sha256()
    if isinstance(rows, EpochDataset):
        digest.update(json.dumps(rows.describe(), sort_keys=True).encode())
    stored = [] if isinstance(rows, Noise) else stored_rows(rows).with_format("arrow").iter(batch_size=10_000)
    for table in stored:
        # Taking every row copies a slice into buffers of its own, whose bytes depend on the values alone.
        plain = table.replace_schema_metadata(None).take(pyarrow.array(range(len(table))))
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(sink, plain.schema) as stream:
            stream.write_table(plain)
        digest.update(sink.getvalue())
    return digest.hexdigest()[:16]


def weights_fingerprint(model: nn.Module) -> str:
    """A hash of a model's weights: two models of one name are told apart."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def code_fingerprint(model: nn.Module) -> str | None:
    """A hash of the files that define a model's modules; ``None`` where all are of transformers or PyTorch.

    These have versions. A file that cannot be read is left out.
    """
    names = {type(module).__module__ for module in model.modules()}
    own = sorted(name for name in names if name.split(".")[0] not in ("transformers", "torch"))
    sources = []
    for name in own:
        with suppress(OSError, TypeError, KeyError):
            sources.append(getsource(sys.modules[name]))
    return hashlib.sha256("\0".join(sources).encode()).hexdigest()[:16] if sources else None


def config_fingerprint(config: PreTrainedConfig) -> str:
    """A hash of a model's architecture and of what it does; equal before and after saving and loading."""
    known = {
        key: value
        for key, value in config.to_dict().items()
        if key not in NOT_ABOUT_THE_ANSWERS and not key.startswith("_")
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()[:16]


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase | None) -> str:
    """A hash of how a tokenizer cuts texts, how long they may be, and what becomes of the tokens."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    rules = json.loads(fast.to_str()) if fast is not None else tokenizer and tokenizer.get_vocab()
    state = ("truncation", "padding")  # of the last call, not of the tokenizer
    known = {name: value for name, value in (rules or {}).items() if fast is None or name not in state}
    about = [type(tokenizer).__name__, getattr(tokenizer, "model_max_length", None), known]
    # What is as its class has it is left out, so that hashes from before these were looked at stay the same.
    sides = {name: getattr(tokenizer, name, None) for name in ("padding_side", "truncation_side", "model_input_names")}
    unusual = {name: value for name, value in sides.items() if value != getattr(type(tokenizer), name, None)}
    if tokenizer is not None and fast is None:
        unusual["made with"] = _made_with(tokenizer)
    return hashlib.sha256(json.dumps(about + [unusual] * bool(unusual), sort_keys=True).encode()).hexdigest()[:16]


def _made_with(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """The settings of a tokenizer in Python, whose rules are its code; not the files, whose words are known."""
    named = signature(type(tokenizer).__init__).parameters
    plain = (bool, int, float, str, AddedToken, type(None))
    return {
        name: str(value)
        for name, value in tokenizer.init_kwargs.items()
        if name in named and not name.endswith("_file") and isinstance(value, plain)
    }
