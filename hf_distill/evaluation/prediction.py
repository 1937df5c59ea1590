"""Run a classifier over a split and keep its logits in the order of the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn
from transformers import default_data_collator
from transformers.utils.logging import tqdm

from hf_distill.inference import running
from hf_distill.labels import LABEL_COLUMNS
from hf_distill.losses import NO_LABEL

Collator = Callable[[list[Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class Predictions:
    """What a classifier says about a split, and what is true.

    Args:
        logits: ``(N, C)`` float32, finite.
        labels: ``(N,)`` class indices, a negative one where a row has no label; ``None`` for an unlabelled split.

    Raises:
        ValueError: a logit is NaN or infinite, or the shapes do not fit.

    Example:
        >>> Predictions.from_probabilities([[0.9, 0.1], [0.5, 0.5]]).logits.round(3).tolist()
        [[-0.10499..., -2.30299...], [-0.69300..., -0.69300...]]
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.logits.ndim != 2 or self.logits.shape[1] < 2:
            raise ValueError(
                f"Predictions need logits of shape (rows, classes) with two classes or more, got {self.logits.shape}. "
                "Comparing is for single-label classification; regression has no classes to compare."
            )
        if self.labels is not None and self.labels.shape != self.logits.shape[:1]:
            raise ValueError(
                f"{len(self.logits)} rows of logits, but labels of shape {self.labels.shape}. Single-label "
                "classification has one class index a row; multi-label and regression targets cannot be compared here."
            )
        bad = np.flatnonzero(~np.isfinite(self.logits).all(axis=1))
        if bad.size:
            raise ValueError(f"Row {bad[0]} ({bad.size} of {len(self.logits)} rows) has NaN or infinite logits.")

    @classmethod
    def from_probabilities(cls, probabilities: ArrayLike, labels: ArrayLike | None = None) -> Predictions:
        """Predictions made elsewhere as class probabilities: their logarithms are the logits.

        Args:
            probabilities: ``(N, C)``; taken as at least 1e-12, so that a class ruled out still has a logarithm.
            labels: ``(N,)`` class indices, where known.
        """
        logits = np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), 1e-12)).astype(np.float32)
        return cls(logits, None if labels is None else np.asarray(labels, dtype=np.int64))

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """``(N, C)``, the softmax of the logits."""
        return np.asarray(torch.softmax(torch.from_numpy(self.logits).double(), dim=-1).numpy())

    @property
    def classes(self) -> NDArray[np.int64]:
        """``(N,)``, the class with the largest logit."""
        return np.asarray(self.logits.argmax(axis=1))


def predict(
    model: nn.Module,
    dataset: Any,
    data_collator: Collator | None = None,
    batch_size: int = 64,
    device: torch.device | str | None = None,
    *,
    bf16: bool = False,
    desc: str = "Predicting",
) -> Predictions:
    """The model's logits for every row of a dataset, in the dataset's order.

    The model runs in evaluation mode, without gradient, and is afterwards as it was. Rows with ``input_ids`` are
    batched by length, which saves padding. The model gets the columns that its ``forward`` names, no others; rows
    that hold none of them go whole to the collator, which is then to make the inputs.

    Args:
        model: A sequence or image classifier whose output has ``logits``.
        dataset: A ``datasets.Dataset``, or anything with a length whose items are dicts. Labels are looked for in
            the columns ``labels``, ``label`` and ``label_ids``.
        data_collator: Turns a list of rows into a batch; default ``transformers.default_data_collator``.
        batch_size: Rows a batch.
        device: Where to run; default where the model is.
        bf16: Run under bfloat16 autocast.
        desc: What the progress bar says; it shows after two seconds, on the main process only, and obeys
            ``transformers.logging.disable_progress_bar``.

    Raises:
        ValueError: the dataset is empty, a logit is NaN or infinite, or the labels are not class indices.
    """
    if len(dataset) == 0:
        raise ValueError(f"Nothing to predict: the dataset for {model_name(model)} has no rows. Choose another split.")
    order = _length_order(dataset)
    logits: list[torch.Tensor] = []
    labels: list[Any] = []
    with running(model, device) as where, _bar(len(order), desc) as bar:
        for start in range(0, len(order), batch_size):
            rows = [dataset[int(index)] for index in order[start : start + batch_size]]
            labels += [label_of(row) for row in rows]
            inputs = model_inputs(model, rows, data_collator, where)
            with torch.autocast(where.type, torch.bfloat16, enabled=bf16):
                output = model(**inputs)
            logits.append(output.logits.float().cpu())
            bar.update(len(rows))
    back = np.argsort(order)
    try:
        return Predictions(torch.cat(logits).numpy()[back], _class_indices([labels[index] for index in back]))
    except ValueError as error:
        raise ValueError(f"{desc} with {model_name(model)}: {error}") from error


def model_inputs(
    model: nn.Module, rows: list[Any], data_collator: Collator | None = None, device: torch.device | None = None
) -> dict[str, Any]:
    """The batch that ``model.forward`` takes, made of dataset rows and on the given device, without labels."""
    wanted = set(input_names(model))
    if wanted.isdisjoint(set(rows[0]) - set(LABEL_COLUMNS)):
        chosen = [dict(row) for row in rows]
    else:
        chosen = [{key: value for key, value in row.items() if key in wanted or key in LABEL_COLUMNS} for row in rows]
    for row in chosen:
        row.update({key: NO_LABEL for key in LABEL_COLUMNS if key in row and row[key] is None})
    batch = (data_collator or default_data_collator)(chosen)
    return {
        key: value.to(device) if isinstance(value, torch.Tensor) else value
        for key, value in batch.items()
        if key in wanted and key not in LABEL_COLUMNS
    }


def input_names(model: nn.Module) -> list[str]:
    """What a model reads: the parameters of its ``forward``, or what it says itself where that is no Python code."""
    return list(getattr(model, "input_names", None) or signature(model.forward).parameters)


def model_name(model: nn.Module) -> str:
    """The name or path that the model was loaded from, or else its class."""
    return str(getattr(model, "name_or_path", "") or type(model).__name__)


def _length_order(dataset: Any) -> NDArray[np.int64]:
    """The order in which to run the rows: longest first where they have ``input_ids``, else as they come."""
    columns = getattr(dataset, "column_names", None)
    if "input_ids" not in (dataset[0] if columns is None else columns):
        return np.arange(len(dataset))
    tokens = dataset["input_ids"] if columns is not None else (dataset[i]["input_ids"] for i in range(len(dataset)))
    return np.argsort([-len(ids) for ids in tokens], kind="stable")


def label_of(row: Mapping[str, Any]) -> Any:
    """The label of a dataset row, ``-100`` where it has none; every negative number means none."""
    value = next((row[key] for key in LABEL_COLUMNS if row.get(key) is not None), NO_LABEL)
    value = value.tolist() if isinstance(value, torch.Tensor | np.ndarray) else value
    return NO_LABEL if isinstance(value, int) and value < 0 else value


def _class_indices(labels: list[Any]) -> NDArray[np.int64] | None:
    """The labels as integers; ``None`` where no row has one.

    Raises:
        ValueError: they are no class indices.
    """
    array = np.asarray(labels)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"single-label classification needs one class index a row as label, got {labels[0]!r}. Turn class names "
            "into indices first (`dataset.class_encode_column`); multi-label and regression cannot be compared here."
        )
    return None if (array < 0).all() else array.astype(np.int64)


def _bar(rows: int, desc: str) -> Any:
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    hidden = distributed and torch.distributed.get_rank() > 0
    return tqdm(total=rows, desc=desc, unit="examples", delay=2.0, leave=False, disable=hidden)
