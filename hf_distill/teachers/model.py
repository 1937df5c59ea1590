"""A teacher that is a model, live and frozen."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BaseImageProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hf_distill.fingerprints import code_fingerprint, config_fingerprint, tokenizer_fingerprint, weights_fingerprint
from hf_distill.image_check import check_readable
from hf_distill.image_processors import find_image_processor
from hf_distill.labels import classes_of
from hf_distill.teachers.base import Teacher
from hf_distill.teachers.normalization import normalization
from hf_distill.teachers.vocabulary import words_fingerprint
from hf_distill.views import ModelView

ENCODED = "encoded"
"""Where a teacher with its own tokenizer finds what it made of the text."""


class ModelTeacher(Teacher):
    """A classification model that answers live, frozen and in evaluation mode.

    Args:
        model: The model, a name on the Hub, or a folder.
        processing_class: The teacher's own tokenizer, where it differs from the student's: each example is then
            tokenized again from its text. Pass the student's tokenizer or image processor to say that the two are
            the same. For images of another size or normalisation see :class:`ImageTeacher`.
        text_columns: The one or two columns that hold the text, for a teacher with its own tokenizer.
        dtype: Precision in which a model given by name is loaded; as it was saved if left out.
        trust_remote_code: Run code that comes with a model given by name.

    Raises:
        ValueError: the model has no classification head, or no fine-tuned one.
        FileNotFoundError: there is no such model.
    """

    _cure = (
        "ImageTeacher(model, student=PROCESSOR) shows it the student's images at its own size and normalisation. Where "
        "one of the two reads grey images and the other coloured ones, take another teacher."
    )

    def __init__(
        self,
        model: PreTrainedModel | str | Path,
        processing_class: PreTrainedTokenizerBase | BaseImageProcessor | None = None,
        text_columns: Sequence[str] = (),
        dtype: torch.dtype | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        own: Any = processing_class
        if isinstance(model, (str, Path)):
            self.model = load_classifier(str(model), dtype, trust_remote_code)
            find = find_image_processor if "pixel_values" in read_by(self.model) else find_tokenizer
            own = own or find(str(model), trust_remote_code)
        else:
            self.model = model
        self.image_processor = own if isinstance(own, BaseImageProcessor) else None
        self.tokenizer = None if isinstance(own, BaseImageProcessor) else own
        if isinstance(text_columns, str):
            raise ValueError(f"text_columns must be a list, got {text_columns!r}: text_columns=[{text_columns!r}].")
        if len(text_columns) > 2:
            raise ValueError(f"A tokenizer reads one text or two, got text_columns={list(text_columns)}.")
        if text_columns and self.tokenizer is None:
            raise ValueError("A teacher that reads text columns needs its tokenizer: pass processing_class=TOKENIZER.")
        self.model.requires_grad_(False).eval()
        self.live_model = self.model
        self.name = public_name(getattr(self.model.config, "_name_or_path", "") or type(self.model).__name__)
        self.classes = classes_of(self.model.config)
        self.text_columns = tuple(text_columns)
        self._positions = positions(self.model)
        self.raw_columns = frozenset(text_columns)
        self._inputs = read_by(self.model) - {"labels"}
        self.shared_columns = frozenset() if text_columns else self._inputs
        self.own_tokens = bool(text_columns)
        self._vouched_for = processing_class is not None

    def __call__(self, inputs: Mapping[str, Any]) -> ModelView:
        readable = inputs[ENCODED] if self.text_columns else inputs
        known = {name: value for name, value in readable.items() if name in self._inputs}
        if "pixel_values" in known:
            known["pixel_values"] = known["pixel_values"].to(self.model.dtype)
        self.model.eval()
        images = known.get("pixel_values")
        wanted = images is not None and images.requires_grad and torch.is_grad_enabled()  # made by a generator
        with torch.set_grad_enabled(wanted):
            output = self.model(**known)
        return ModelView(logits=output["logits"] if isinstance(output, Mapping) else output[0])

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        if not self.text_columns or self.tokenizer is None:
            return {}
        texts = [[row[column] for row in rows] for column in self.text_columns]
        longest = min(self.tokenizer.model_max_length, self._positions)
        padding = {"padding": True, "pad_to_multiple_of": 8 if longest % 8 == 0 else None}
        encoded = self.tokenizer(*texts, truncation=True, max_length=longest, return_tensors="pt", **padding)
        return {ENCODED: dict(encoded)}

    def for_worker(self) -> ModelTeacher:
        twin = copy.copy(self)
        twin.__dict__.update(model=SimpleNamespace(config=self.model.config), live_model=None)
        return twin

    def fingerprint(self) -> dict[str, str]:
        read = {}
        if self.text_columns:
            read = {"texts": ", ".join(self.text_columns), "tokenizer": tokenizer_fingerprint(self.tokenizer)}
        code = code_fingerprint(self.model)
        return {
            "model": type(self.model).__name__,
            "weights": weights_fingerprint(self.model),
            "config": config_fingerprint(self.model.config),
            **({} if code is None else {"code": code}),
            **read,
        }

    def vocabulary(self) -> dict[str, Any]:
        if self.text_columns or self._vouched_for or "input_ids" not in self._inputs:
            return {}
        return {"size": self.model.config.vocab_size, "words": words_fingerprint(self.tokenizer)}

    def images(self) -> list[dict[str, Any]]:
        known = None if self._vouched_for else self.image_processor
        return [] if known is None else [normalization(known)]

    def check_images(self, shape: Sequence[int]) -> None:
        if "pixel_values" in self._inputs:
            check_readable(self.model, shape, f"Teacher {self.name!r}", self._cure, self._read)

    def _read(self, pixel_values: Tensor) -> ModelView:
        return self({"pixel_values": pixel_values})


def read_by(model: nn.Module) -> frozenset[str]:
    """What a model's ``forward`` names: that of the model inside where torch.compile or an adapter library wraps it."""
    inner: Any = getattr(model, "_orig_mod", model)
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    return frozenset(signature(inner.forward).parameters)


def as_teacher(teacher: PreTrainedModel | str | Path | Teacher, dtype: torch.dtype | None = None) -> Teacher:
    """A model or its name becomes a :class:`ModelTeacher`; a teacher stays what it is."""
    if isinstance(teacher, Teacher):
        return teacher
    if not isinstance(teacher, (str, Path)) and not hasattr(teacher, "config"):
        raise TypeError(
            f"teacher_model is a {type(teacher).__name__}, neither a Teacher nor a model with a config, nor the "
            "name of one. Pass several under names, {'a': ..., 'b': ...}, or as one: EnsembleTeacher([...])."
        )
    return ModelTeacher(teacher, dtype=dtype)


def load_classifier(name: str, dtype: torch.dtype | None = None, trust_remote_code: bool = False) -> PreTrainedModel:
    """Load a text or image classifier whose head is fine-tuned.

    Args:
        name: A name on the Hub or a folder.
        dtype: Precision of the weights; as they were saved if left out.
        trust_remote_code: Run code that comes with the model.

    Raises:
        FileNotFoundError: there is no such model, or the Hub cannot be reached.
        ValueError: the model is no classifier, or its head has no saved weights.
    """
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    except OSError as error:
        raise FileNotFoundError(
            f"There is no model {name!r}: it is neither a folder with a config.json nor could it be fetched from the "
            "Hub. Check the spelling, the network, and for a private model your login (`hf auth login`)."
        ) from error
    auto = AutoModelForImageClassification if reads_images(config) else AutoModelForSequenceClassification
    model, info = auto.from_pretrained(
        name,
        dtype="auto" if dtype is None else dtype,
        output_loading_info=True,
        trust_remote_code=trust_remote_code,
    )
    if info["missing_keys"]:
        raise ValueError(
            f"{name!r} has no fine-tuned classification head ({', '.join(sorted(info['missing_keys'])[:4])} would be "
            "random). Fine-tune it on the task first, for instance with DistillationTrainer(model, teacher_model=None, "
            "...), or name a model that is fine-tuned already."
        )
    return model


def reads_images(config: PreTrainedConfig) -> bool:
    """Whether a classifier with this config is one of images."""
    return type(config) in AutoModelForImageClassification._model_mapping


def find_tokenizer(name: str, trust_remote_code: bool = False) -> PreTrainedTokenizerBase | None:
    """The tokenizer saved with a model, or ``None`` where there is none, as with an image model."""
    try:
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError):
        return None
    return found if knows_words(found) else None


def knows_words(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether it was saved by somebody: where no files are, the library makes one up that has special tokens alone."""
    return not set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens)


def positions(model: nn.Module) -> int:
    """How many tokens of a text a model can read. RoBERTa and its kin number them from ``padding_idx + 1`` on."""
    limit = getattr(model.config, "max_position_embeddings", None) or 512
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            limit = min(limit, module.num_embeddings - module.padding_idx - 1)
    return limit if limit > 0 else 512  # XLNet says -1 for no limit


def public_name(name: str) -> str:
    """A name that may be published: a Hub name as it is, the last part of a local path."""
    return Path(name).resolve().name if Path(name).exists() or Path(name).is_absolute() else name
