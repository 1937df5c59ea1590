"""Asking a teacher once."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env, send_to_device
from datasets import DatasetDict
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import DataCollatorWithPadding, PreTrainedModel, default_data_collator
from transformers.trainer_utils import has_length
from transformers.utils.logging import tqdm

from hf_distill.cache.cached_teacher import CachedTeacher
from hf_distill.cache.keys import Keys, keys_of_rows
from hf_distill.cache.rows import (
    ROWS_READ_TWICE,
    Row,
    columns_read,
    refuse_unseeded,
    same_view_afterwards,
    shared_out,
    unanswered,
    views_of,
)
from hf_distill.cache.shard import Answers
from hf_distill.cache.store import FORMAT, AnswerStore
from hf_distill.features import find_module, tapped
from hf_distill.inference import running
from hf_distill.labels import LABEL_COLUMNS, MULTI_LABEL
from hf_distill.randomness import isolated_randomness
from hf_distill.teachers import Teacher, as_teacher

ANSWERS_A_FILE, BYTES_A_FILE, SECONDS_A_FILE, SHARE_A_FILE = 2**18, 2**27, 60.0, 0.1
"""A file is written when so much has been collected, or for so long and such a share of the time since the beginning. A
run that is killed loses no more, memory does not grow, and there are never many files to look into."""


def cache_teacher(
    dataset: Any,
    teacher: PreTrainedModel | str | Path | Teacher,
    folder: str | Path,
    *,
    data_collator: Callable[[list[Any]], Mapping[str, Any]] | None = None,
    batch_size: int = 64,
    bf16: bool = False,
    dtype: torch.dtype = torch.float32,
    top_k: int | None = None,
    features: Collection[str] = (),
    key_columns: Collection[str] | None = None,
    device: torch.device | str | None = None,
    num_workers: int = 0,
) -> CachedTeacher:
    """Ask a teacher about every example of a data set, once, and keep the answers on the disk.

    Each answer is kept under a hash of what the teacher read. What is in the folder already is not asked again, so a
    build that was killed goes on, another data set adds to the same folder, and equal examples are asked about once.
    Under ``accelerate launch`` the processes share the work; equal examples in the parts of two may be asked about
    twice. Call it before training and pass what it returns as
    ``teacher_model``; the folder is all that a later run needs, through :class:`CachedTeacher`.

    Args:
        dataset: A ``datasets.Dataset``, or anything with a length whose items are dicts, as the trainer gets it. Where
            it has ``set_epoch`` and a ``count`` of views, all views are asked about; afterwards it shows the one
            that it called its ``view`` before, else the first.
        teacher: A model, a name, a folder or a teacher. A model is frozen by this, as by the trainer.
        folder: Where the answers are kept; begun where there is none.
        data_collator: Makes the teacher's batches from rows, one input of each; if left out, rows are padded by the
            tokenizer of a teacher given by name, and stacked otherwise.
        batch_size: Examples a batch.
        bf16: Run the teacher under bfloat16 autocast, as a training with ``bf16=True`` would.
        dtype: ``torch.float32`` or ``torch.float16``, in which logits are kept.
        top_k: Keep the so many largest logits of an example and the rest of its probability as one mass, which the
            other classes get in equal shares; for classes that exclude each other. Exact at temperature 1 for these
            classes and for the mass.
        features: Paths of modules whose output is kept as well, in float16, for feature terms.
        key_columns: Columns that tell examples apart, where the collator makes the teacher's inputs from others. The
            collator must then give equal inputs for equal values of these.
        device: Where the teacher runs; the device of this process if left out.
        num_workers: Processes that prepare rows.

    Returns:
        The teacher that gives the kept answers.

    Raises:
        ValueError: the folder holds answers that were made with something else, or the data set is augmented at random
            without a seed, or the collator draws at random, or the teacher cannot read such images, or an answer is
            NaN; the message says what to do.
        KeyError: the rows lack what the teacher reads.
        TypeError: the data set has no length, or the teacher's answers are there already.

    Example:
        >>> import tempfile, torch, transformers, datasets
        >>> config = transformers.BertConfig(
        ...     vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
        ... )
        >>> rows = datasets.Dataset.from_dict({"input_ids": [[1, 2], [3, 4], [1, 2]]})
        >>> model = transformers.BertForSequenceClassification(config)
        >>> teacher = cache_teacher(rows, model, tempfile.mkdtemp())
        >>> len(teacher.store)
        2
    """
    asked, state = as_teacher(teacher), PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
    for name, given in (("features", features), ("key_columns", key_columns)):
        if isinstance(given, str):
            raise ValueError(f"{name} must be a list, got {given!r}: {name}=[{given!r}].")
    if asked.follows_student:
        raise TypeError(f"{asked.name!r} changes with every step, so there is nothing to keep of it: ask it live.")
    if batch_size < 1:
        raise ValueError(f"batch_size must be >= 1, got {batch_size}.")
    if isinstance(dataset, DatasetDict):
        raise TypeError(f"Choose one of the splits {sorted(dataset)}, and call cache_teacher for each that is needed.")
    if not has_length(dataset):
        raise TypeError(
            "A data set without a length, as a stream, cannot be kept. Save it first, or ask the teacher live."
        )
    if len(dataset) == 0:
        raise ValueError("There is nothing to ask the teacher: the data set has no rows.")
    with isolated_randomness(), same_view_afterwards(dataset):
        columns = columns_read(asked, dataset[0], key_columns)
        refuse_unseeded(dataset, columns)
    if features and asked.live_model is None:
        raise ValueError(f"{asked.name!r} has no modules of its own whose output could be kept: leave features out.")
    for path in features:
        find_module(_model(asked), path)
    store = AnswerStore(folder, _identity(asked, columns, features, bf16, dtype, top_k))
    where = state.device if device is None else torch.device(device)
    collator = data_collator or _usual_collator(asked)
    wanted = None if key_columns else asked.shared_columns
    if key_columns:
        with isolated_randomness(), same_view_afterwards(dataset):
            first = range(min(ROWS_READ_TWICE, len(dataset)))
            once, again = ([dataset[row] for row in first] for _ in range(2))
            _check_repeats(_inputs(asked, collator, once, wanted), _inputs(asked, collator, again, wanted))
    collected, seen_to_repeat = _Collected(store), False
    with ExitStack() as stack:
        for model in asked.models():
            stack.enter_context(running(model, where))
        stack.enter_context(isolated_randomness())
        stack.enter_context(same_view_afterwards(dataset))
        bar = stack.enter_context(_bar(dataset, state))
        stack.callback(collected.write)  # also when something breaks: what was answered is kept
        for view in range(views_of(dataset)):
            if hasattr(dataset, "set_epoch"):
                dataset.set_epoch(view)
            batches: Any = unanswered(dataset, store, columns, batch_size, state, bar)
            for rows in DataLoader(dataset, batch_sampler=batches, collate_fn=list, num_workers=num_workers):
                keys = keys_of_rows(rows, columns)
                new = collected.new(keys)
                if new.any():
                    chosen = [row for row, is_new in zip(rows, new, strict=True) if is_new]
                    made = _inputs(asked, collator, chosen, wanted)
                    if not seen_to_repeat:
                        _check_repeats(made, _inputs(asked, collator, chosen, wanted))
                        _check_images(asked, made)
                        seen_to_repeat = True
                    inputs = send_to_device(made, where)
                    with (
                        torch.autocast(where.type, torch.bfloat16, enabled=bf16),
                        tapped(_model(asked), features) as seen,
                    ):
                        logits = asked(inputs).logits
                    collected.add(keys[new], logits, seen, inputs.get("attention_mask"))
                bar.update(len(new))
    state.wait_for_everyone()
    return CachedTeacher(folder).known_as(asked)


class _Collected:
    """Answers that are not on the disk yet. Nothing waits for a device before they are written."""

    def __init__(self, store: AnswerStore) -> None:
        self.store = store
        self.begun = time.monotonic()
        self._empty()

    def _empty(self) -> None:
        self.parts: list[tuple[Keys, Tensor, dict[str, Tensor], Tensor | None]] = []
        self.keys: set[int] = set()
        self.bytes, self.emptied = 0, time.monotonic()

    def new(self, keys: Keys) -> NDArray[np.bool_]:
        """Which of these examples have not been asked about, each once."""
        new = self.store.missing(keys)
        for row, key in enumerate(keys[:, 0].tolist()):
            new[row] &= key not in self.keys
            if new[row]:
                self.keys.add(key)
        return new

    def add(self, keys: Keys, logits: Tensor, features: dict[str, Tensor], mask: Tensor | None) -> None:
        if logits.dim() != 2 or len(logits) != len(keys):
            raise ValueError(
                f"The teacher answers {len(keys)} examples with logits of shape {tuple(logits.shape)}, where one "
                "row an example is needed. Does the collator make one input of each row, and is it a classifier?"
            )
        narrow = {path: feature.half() for path, feature in features.items()}
        self.parts.append((keys, logits.float(), narrow, mask))
        self.bytes += keys.nbytes + sum(tensor.nbytes for tensor in (logits, *narrow.values()))
        now = time.monotonic()
        late = now - self.emptied > max(SECONDS_A_FILE, SHARE_A_FILE * (now - self.begun))
        if late or self.bytes > BYTES_A_FILE or len(self.keys) > ANSWERS_A_FILE:
            self.write()
            self.store.refresh()  # another run may be at the same work

    def write(self) -> None:
        """Keep what has been collected, but for answers that are no numbers.

        Raises:
            ValueError: there are such answers.
        """
        parts = [_answers(*part) for part in self.parts]
        sound = [part.chosen(part.are_finite()) for part in parts]
        self.store.add([part for part in sound if len(part.keys)])
        self._empty()
        if bad := sum(len(part.keys) for part in parts) - sum(len(part.keys) for part in sound):
            raise ValueError(
                f"The teacher answers {bad} examples with NaN or infinity, in its logits or in a feature that float16 "
                "cannot hold. Load it in float32, leave bf16 off, and check that its weights and inputs are finite; "
                "filter such examples out, or leave the feature out. The other answers are kept."
            )


def _identity(
    teacher: Teacher, columns: Collection[str], features: Collection[str], bf16: bool, dtype: torch.dtype,
    top_k: int | None,
) -> dict[str, Any]:  # fmt: skip
    """Everything besides the example that the kept answers depend on."""
    if dtype not in (torch.float32, torch.float16):
        raise ValueError(f"Logits are kept in torch.float32 or torch.float16, got {dtype}.")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be >= 1, got {top_k}.")
    if top_k is not None and any(
        getattr(getattr(model, "config", None), "problem_type", None) == MULTI_LABEL for model in teacher.models()
    ):
        raise ValueError(
            "The rest of a distribution is one mass only where classes exclude each other: leave top_k out."
        )
    count = teacher.classes if isinstance(teacher.classes, int) else len(teacher.classes or ())
    return {
        "format": FORMAT,
        "name": teacher.name,
        "classes": teacher.classes,
        "vocabulary": teacher.vocabulary(),
        "own_tokens": teacher.own_tokens,
        "images": teacher.images(),
        "teacher": teacher.fingerprint(),
        "transformers": transformers.__version__,
        "columns": sorted(columns),
        "precision": "bfloat16" if bf16 else "float32",
        "dtype": str(dtype).removeprefix("torch."),
        "top_k": None if top_k is None or 0 < count <= top_k else top_k,
        "features": sorted(features),
    }


def _inputs(
    teacher: Teacher,
    collator: Callable[[list[Any]], Mapping[str, Any]],
    rows: Sequence[Row],
    wanted: Collection[str] | None,
) -> dict[str, Any]:
    """A batch for the teacher: what the collator makes of the wanted columns, or of all, and what it makes itself."""
    chosen = [{key: value for key, value in row.items() if wanted is None or key in wanted} for row in rows]
    shared = collator(chosen) if wanted is None or chosen[0] else {}
    return {**{key: value for key, value in shared.items() if key not in LABEL_COLUMNS}, **teacher.collate(rows)}


def _check_repeats(once: Mapping[str, Any], again: Mapping[str, Any]) -> None:
    """Raise where a collator made different inputs of the same rows."""
    pairs = zip(_tensors(once), _tensors(again), strict=True)
    if not all(one.shape == two.shape and torch.equal(one.nan_to_num(), two.nan_to_num()) for one, two in pairs):
        raise ValueError(
            "The data set, or its collator, makes other inputs of the same rows each time: one random draw would be "
            "kept as the answer to each row. Draw in the data set instead, as Views(rows, transform, seed=0, count=K) "
            "does, or ask the teacher live."
        )


def _check_images(teacher: Teacher, inputs: Mapping[str, Any]) -> None:
    images = inputs.get("pixel_values")
    if isinstance(images, Tensor) and images.dim() == 4:
        teacher.check_images(images.shape[1:])


def _tensors(inputs: Mapping[str, Any]) -> Iterator[Tensor]:
    for value in inputs.values():
        if isinstance(value, Mapping):
            yield from _tensors(value)
        elif isinstance(value, Tensor):
            yield value


def _answers(keys: Keys, logits: Tensor, features: dict[str, Tensor], mask: Tensor | None) -> Answers:
    arrays, per_token = {}, set()
    for path, feature in features.items():
        values = feature.cpu().numpy()
        if mask is not None and feature.shape[:2] == mask.shape and feature.dim() == 3:
            kept = mask.cpu().numpy().astype(bool)
            arrays[path] = [tokens[real] for tokens, real in zip(values, kept, strict=True)]
            per_token.add(path)
        else:
            arrays[path] = list(values)
    return Answers(keys, logits.cpu().numpy(), arrays, frozenset(per_token))


def _usual_collator(teacher: Teacher) -> Callable[[list[Any]], Mapping[str, Any]]:
    tokenizer = getattr(teacher, "tokenizer", None)
    return _stacked if tokenizer is None or teacher.own_tokens else DataCollatorWithPadding(tokenizer)


def _stacked(rows: list[Any]) -> Mapping[str, Any]:
    try:
        batch: Mapping[str, Any] = default_data_collator(rows)
    except ValueError as error:
        raise ValueError(
            f"Rows cannot be stacked to a batch ({error}). Where texts differ in length, something has to pad them: "
            "data_collator=DataCollatorWithPadding(tokenizer)."
        ) from error
    return batch


def _model(teacher: Teacher) -> nn.Module:
    return nn.Identity() if teacher.live_model is None else teacher.live_model


def _bar(dataset: Any, state: PartialState) -> Any:
    total = views_of(dataset) * sum(map(len, shared_out(len(dataset), state)))
    quiet = not state.is_main_process
    return tqdm(total=total, desc="Asking the teacher", unit="examples", delay=2.0, leave=False, disable=quiet)
