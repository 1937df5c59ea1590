"""Models by name: with a fine-tuned head, with a new one, or with only some of their layers."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_INDEX_NAME, WEIGHTS_NAME

from hf_distill.labels import are_placeholders, class_order, classes_of, label_names
from hf_distill.recipe.data import nearest_paths
from hf_distill.recipe.reach import hub_reachable
from hf_distill.redaction import first_line
from hf_distill.student import student_from_teacher, with_class_order
from hf_distill.teachers import public_name
from hf_distill.teachers.model import find_tokenizer
from hf_distill.timm_models import renew_head

logger = logging.getLogger(__name__)

LAYERS = re.compile(r"(?P<name>.+):(?P<layers>\d+(?:,\d+)*)")
NEW = "config:"
"""Before a folder or a name: only its config counts, and the weights are random."""
WEIGHTS = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME, WEIGHTS_INDEX_NAME)


def check_model(
    name: str, flag: str, layers: Sequence[int] = (), head: Any = AutoModelForSequenceClassification
) -> None:
    """Raise where a model can be found neither on the disk nor on the Hub nor in the local cache.

    Args:
        name: A name on the Hub, or a folder.
        flag: What messages call it.
        layers: Layers that it must have.
        head: The ``Auto`` class of the task.

    Raises:
        FileNotFoundError: there is no such model; the message names near paths.
        ValueError: it is of another kind, or a layer is not there.
    """
    is_new, name = name.startswith(NEW), name.removeprefix(NEW)
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        raise FileNotFoundError(f"{flag} {name}: this folder holds no model, for there is no config.json in it.")
    if not Path(name).exists():
        hub_reachable()
    try:
        config = AutoConfig.from_pretrained(name)
    except OSError as error:
        near = nearest_paths(Path(name).expanduser())
        reached = "on the Hub that may be read" if hub_reachable() else "in the cache, and the Hub cannot be reached"
        raise FileNotFoundError(
            f"{flag} {name}: there is no such folder, and no such model {reached} ({first_line(error)}){near}. Give "
            "the path of a model, log in with `hf auth login` if it is private or gated, or start with --preset "
            "quick, which needs none."
        ) from error
    if not is_new and not _has_weights(name):
        raise FileNotFoundError(
            f"{flag} {name}: this folder holds a config but no weights, such as {WEIGHTS[0]}. Save the whole model "
            f"there, or write {NEW}{name} for a new one with random weights."
        )
    if type(config) not in head._model_mapping:
        kind, other = ("texts", "images") if head is AutoModelForSequenceClassification else ("images", "texts")
        raise ValueError(
            f"{flag} {name} is a {config.model_type}, of which there is no classifier of {kind}. Name another model, "
            f"or take the recipe for {other}."
        )
    count = getattr(config, "num_hidden_layers", 0)
    if layers and max(layers) >= count:
        raise ValueError(f"{flag}: {name} has the layers 0 to {count - 1}, there is no layer {max(layers)}.")


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer that was saved with a model.

    Raises:
        FileNotFoundError: there is none.
    """
    tokenizer = find_tokenizer(name.removeprefix(NEW))
    if tokenizer is None:
        raise FileNotFoundError(f"No tokenizer was saved with the model {name}: save it into the same place.")
    return tokenizer


def has_trained_head(name: str, head: Any = AutoModelForSequenceClassification) -> bool:
    """Whether a model was fine-tuned for sequence classification, or for another ``Auto`` class, by what was saved."""
    if name.startswith(NEW):
        return False
    _, info = head.from_pretrained(name, output_loading_info=True)
    return not info["missing_keys"]


def new_classifier(
    name: str, classes: Sequence[str], seed: int, head: Any = AutoModelForSequenceClassification
) -> PreTrainedModel:
    """A model to be trained for these classes, in float32; or ``config:NAME``, one with random weights.

    A head that was trained for these classes stays, in their order; any other makes room for a new one.

    Args:
        name: A name on the Hub, or a folder; after ``config:`` only its config is used, and all weights are random.
        classes: The class names.
        seed: For what is drawn at random.
        head: The ``Auto`` class of the task.

    Raises:
        ValueError: there is no classification model of this kind.
    """
    labels = {**class_names(classes), "num_labels": len(classes)}  # for timm_wrapper names are not enough
    set_seed(seed)
    if name.startswith(NEW):
        config = AutoConfig.from_pretrained(name.removeprefix(NEW), **labels)
        config.name_or_path = ""  # its weights come from nowhere, as a card should say
        return head.from_config(config)
    saved = AutoConfig.from_pretrained(name)
    if has_classes(saved, classes):
        return with_class_order(head.from_pretrained(name, dtype=torch.float32), classes)
    model = head.from_pretrained(name, dtype=torch.float32, ignore_mismatched_sizes=True, **labels)
    if saved.num_labels != len(classes) or renew_head(model.base_model, len(classes)):
        return model
    anew = head.from_config(model.config, dtype=torch.float32)  # the old head was of the right size, and so was kept
    anew.base_model.load_state_dict(model.base_model.state_dict())
    return anew


def has_classes(config: PreTrainedConfig, classes: Sequence[str]) -> bool:
    """Whether a head is for these classes, in whatever order; where either side has no names, their number decides."""
    try:
        class_order(classes, classes_of(config))
    except ValueError:
        return False
    return True


def warn_of_unnamed_classes(name: str, config: PreTrainedConfig, classes: Sequence[str]) -> None:
    """Warn where nothing but their number says that a teacher's classes are those of the data."""
    if label_names(config) is None or are_placeholders(classes):
        logger.warning(
            "The classes of the teacher %s, or those of the data, have no names. That both are %d is all that says that"
            " they are the same, in the same order.", name, len(classes),
        )  # fmt: skip


def named_by(teacher: PreTrainedModel, classes: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the data's classes, or else the teacher's, whose order is taken for theirs."""
    return tuple(label_names(teacher.config) or classes) if are_placeholders(classes) else classes


def class_names(classes: Sequence[str]) -> dict[str, Any]:
    """The names of the classes as a config takes them."""
    return {"id2label": dict(enumerate(classes)), "label2id": {label: index for index, label in enumerate(classes)}}


def new_student(name: str, teacher: PreTrainedModel, classes: Sequence[str], seed: int) -> PreTrainedModel:
    """A student to be trained.

    Args:
        name: A model; ``layers:0,2`` for these layers of the teacher as it is; or ``NAME:0,2`` for these layers of a
            model, as it was before any fine-tuning, say.
        teacher: The fine-tuned teacher.
        classes: The class names.
        seed: For what is drawn at random: the new head, or all weights where there are only a config.

    Raises:
        ValueError: there is no such layer.
    """
    source, layers = split_layers(name)
    if source == "layers":
        set_seed(seed)
        return with_class_order(student_from_teacher(teacher, layers).float(), classes)
    model = new_classifier(source, classes, seed)
    return student_from_teacher(model, layers) if layers else model


def split_layers(name: str) -> tuple[str, list[int]]:
    """A model's name and the layers to keep.

    Example:
        >>> split_layers("google-bert/bert-base-uncased:0,5"), split_layers("layers:1"), split_layers("my/model")
        (('google-bert/bert-base-uncased', [0, 5]), ('layers', [1]), ('my/model', []))
    """
    match = LAYERS.fullmatch(name)
    return (match["name"], [int(layer) for layer in match["layers"].split(",")]) if match else (name, [])


def about_start(name: str, new: Collection[str] = ()) -> dict[str, str]:
    """What a training starts from, beside the model's name, which may come to mean another model.

    Args:
        name: As for :func:`new_student`.
        new: Names that stand for new models, whatever folders there are.

    Returns:
        A hash of a folder's files, or the commit on the Hub; nothing for names of new models and for the layers of the
        teacher.
    """
    source, _ = split_layers(name)
    if source in (*new, "layers"):
        return {}
    folder = Path(source.removeprefix(NEW))
    if not folder.is_dir():
        found = try_to_load_from_cache(source.removeprefix(NEW), "config.json")
        return {"start": Path(found).parent.name} if isinstance(found, str) else {}
    weights = () if source.startswith(NEW) else ("*.safetensors", "pytorch_model*.bin")
    digest = hashlib.sha256()
    for file in sorted(file for pattern in ("config.json", *weights) for file in folder.glob(pattern)):
        digest.update(file.name.encode())
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return {"start": digest.hexdigest()[:16]}


def origin_of_student(name: str) -> str:
    """What a student was before its training, in words, without a local path.

    Example:
        >>> origin_of_student("layers:0,1"), origin_of_student("org/model:0,5")
        ('layers 0, 1 of the teacher', 'layers 0, 5 of org/model')
    """
    source, layers = split_layers(name)
    kept = f"layers {', '.join(map(str, layers))} of " if layers else ""
    whole = "a new model without pretrained weights" if source.startswith(NEW) else public_name(source)
    return f"{kept}{'the teacher' if source == 'layers' else whole}"


def _has_weights(name: str) -> bool:
    return not Path(name).is_dir() or any((Path(name) / file).is_file() for file in WEIGHTS)
