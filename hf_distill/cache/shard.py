"""One file of a cache: answers in the order of their keys, read from the disk as they are needed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow
from numpy.typing import NDArray
from scipy.special import logsumexp

from hf_distill.cache.keys import Keys

Array: TypeAlias = "NDArray[Any]"

METADATA = b"hf_distill"


@dataclass
class Answers:
    """What a teacher said about some examples.

    Args:
        keys: ``(B, 2)``.
        logits: ``(B, C)`` float32.
        features: Under the path of a module, one array an example: ``(T, ...)``, with T the number of its tokens, for
            a module in ``per_token``, and of one shape for all examples otherwise.
        per_token: Paths of modules that put out something for each token.
    """

    keys: Keys
    logits: Array
    features: dict[str, list[Array]] = field(default_factory=dict)
    per_token: frozenset[str] = frozenset()

    def are_finite(self) -> NDArray[np.bool_]:
        """``(B,)``, whether all that was said about an example are numbers."""
        finite = np.asarray(np.isfinite(self.logits).all(axis=1))
        for arrays in self.features.values():
            finite = np.logical_and(finite, [bool(np.isfinite(array).all()) for array in arrays])
        return finite

    def chosen(self, rows: NDArray[np.bool_]) -> Answers:
        """Those to some of the examples."""
        features = {
            path: [array for array, chosen in zip(arrays, rows, strict=True) if chosen]
            for path, arrays in self.features.items()
        }
        return Answers(self.keys[rows], self.logits[rows], features, self.per_token)


def write_shard(path: Path, parts: Sequence[Answers], dtype: str, top_k: int | None, identity: str) -> None:
    """Write answers to a file that is there whole or not at all.

    Args:
        path: The file; it must not exist yet.
        parts: At least one answer; where an example occurs twice the first counts.
        dtype: ``float32`` or ``float16``, for logits.
        top_k: Keep so many of the largest logits, and the rest of the probability as one mass.
        identity: Hash of what the answers depend on.

    Raises:
        ValueError: a logit is too large for ``dtype``.
    """
    keys = np.concatenate([part.keys for part in parts])
    logits = np.concatenate([part.logits for part in parts])
    _, order = np.unique(keys[:, 0], return_index=True)
    columns: dict[str, Any] = {
        "key": pyarrow.array(keys[order, 0]),
        "check": pyarrow.array(keys[order, 1]),
        **_stored_logits(logits[order], np.dtype(dtype), top_k),
    }
    shapes = {}
    for number, feature in enumerate(parts[0].features):
        arrays = [array for part in parts for array in part.features[feature]]
        columns[f"feature_{number}"] = _ragged([arrays[row].ravel() for row in order])
        whole = [[-1, *array.shape[1:]] if feature in parts[0].per_token else [*array.shape] for array in arrays]
        shapes[feature] = whole[0]
        if any(shape != whole[0] for shape in whole):
            raise ValueError(
                f"What {feature!r} puts out differs in shape from example to example, and no attention_mask says which "
                "of it are tokens of the student's. Choose another module, or give the rows an attention_mask."
            )
    about = {"identity": identity, "classes": logits.shape[1], "top_k": top_k, "features": shapes}
    schema = pyarrow.schema(
        [(name, column.type) for name, column in columns.items()], metadata={METADATA: json.dumps(about)}
    )
    unfinished = path.with_suffix(".part")
    try:
        with unfinished.open("wb") as file:
            with pyarrow.ipc.new_file(file, schema) as writer:
                writer.write_batch(pyarrow.record_batch(list(columns.values()), schema=schema))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)  # a full disk leaves half of it


class Shard:
    """An open file of a cache. Nothing is read until it is asked for.

    Args:
        path: The file.
        identity: What it must have been made with.

    Raises:
        ValueError: the file is cut off, or was made with something else.
        OSError: the system cannot read it now.
    """

    def __init__(self, path: Path, identity: str) -> None:
        cure = f"Delete {path}: what was in it is asked for again, and nothing else."
        try:
            batch = pyarrow.ipc.open_file(pyarrow.memory_map(str(path))).get_batch(0)
            about = dict(json.loads((batch.schema.metadata or {}).get(METADATA, b"{}")))
        except (ValueError, TypeError, OSError) as error:
            if getattr(error, "errno", None) is not None:  # no right to read it, say, or a disk that is not there
                raise
            raise ValueError(f"{path} is cut off or damaged ({str(error).splitlines()[0]}). {cure}") from error
        if about.get("identity") != identity:
            raise ValueError(f"{path} does not belong to the cache in whose folder it lies. {cure}")
        self.classes: int = about["classes"]
        self.shapes: dict[str, tuple[int, ...]] = {name: tuple(shape) for name, shape in about["features"].items()}
        self._key, self._check = (batch[name].to_numpy() for name in ("key", "check"))
        self._logits = _matrix(batch["logits"])
        self._top = None if about["top_k"] is None else (_matrix(batch["chosen"]), batch["rest"].to_numpy())
        self._features = {name: batch[f"feature_{number}"] for number, name in enumerate(self.shapes)}

    def __len__(self) -> int:
        return len(self._key)

    def find(self, keys: Keys) -> NDArray[np.int64]:
        """The row of each key, -1 where it is not here."""
        rows = np.minimum(np.searchsorted(self._key, keys[:, 0]), len(self) - 1)
        found = (self._key[rows] == keys[:, 0]) & (self._check[rows] == keys[:, 1])
        return np.where(found, rows, -1)

    def logits(self, rows: NDArray[np.int64]) -> Array:
        """``(B, C)`` float32."""
        kept = self._logits[rows].astype(np.float32)
        if self._top is None:
            return kept
        chosen, rest = self._top
        full = np.repeat(rest[rows, None], self.classes, axis=1)
        np.put_along_axis(full, chosen[rows].astype(np.int64), kept, axis=1)
        return full

    def feature(self, path: str, row: int) -> Array:
        """What a module put out for one example, float16."""
        column = self._features[path]
        start, end = (column.offsets[row + side].as_py() for side in (0, 1))
        values: Array = column.values.slice(start, end - start).to_numpy()
        return values.reshape(self.shapes[path])


def _stored_logits(logits: Array, dtype: np.dtype[Any], top_k: int | None) -> Mapping[str, Any]:
    if top_k is None:
        return {"logits": _fixed_list(_narrowed(logits, dtype))}
    chosen = np.sort(np.argpartition(logits, -top_k, axis=1)[:, -top_k:], axis=1)
    others = logits.shape[1] - top_k
    left = logits.copy()
    np.put_along_axis(left, chosen, -np.inf, axis=1)
    # Each of the others gets the same share of the mass that they have together.
    rest = logsumexp(left, axis=1) - np.log(others)
    return {
        "chosen": _fixed_list(chosen.astype(np.uint16 if logits.shape[1] <= 2**16 else np.uint32)),
        "logits": _fixed_list(_narrowed(np.take_along_axis(logits, chosen, axis=1), dtype)),
        "rest": pyarrow.array(rest.astype(np.float32)),
    }


def _narrowed(logits: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(over="ignore"):
        narrow = logits.astype(dtype)
    if not np.isfinite(narrow).all():
        raise ValueError(f"A logit of {np.abs(logits).max():.0f} is too large for {dtype}: keep them in float32.")
    return narrow


def _fixed_list(array: Array) -> Any:
    return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(np.ascontiguousarray(array).ravel()), array.shape[1])


def _matrix(column: Any) -> Array:
    """A column of lists of one length as ``(rows, length)``, where it lies in the file."""
    values: Array = column.values.to_numpy()
    return values.reshape(len(column), -1)


def _ragged(arrays: Sequence[Array]) -> Any:
    offsets = np.concatenate([[0], np.cumsum([array.size for array in arrays])])
    return pyarrow.LargeListArray.from_arrays(
        pyarrow.array(offsets, type=pyarrow.int64()), pyarrow.array(np.concatenate(arrays).astype(np.float16))
    )
