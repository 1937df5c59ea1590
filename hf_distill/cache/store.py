"""A folder of answers, found by example. It only grows, and several processes and runs may fill it at once."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_distill.cache.keys import Keys
from hf_distill.cache.shard import Answers, Array, Shard, write_shard

IDENTITY_FILE = "identity.json"
FORMAT = 1
"""Of the folder; a number is never used again for another one."""

PART = ".part"
"""Ending of what is not finished; a killed process leaves it behind, and nobody reads it."""

NOTES = ("name", "vocabulary", "own_tokens", "images")
"""Entries of an identity on which the answers do not depend."""


@dataclass(frozen=True)
class Found:
    """The answers to some examples, not read yet.

    Args:
        shards: The files of a store.
        files: ``(B,)``, the number of the file with the answer to each example, -1 where there is none.
        rows: ``(B,)``, the row in it.
    """

    shards: Sequence[Shard]
    files: NDArray[np.int64]
    rows: NDArray[np.int64]

    @property
    def missing(self) -> NDArray[np.bool_]:
        """``(B,)``, which examples have no answer. Only where all have one may the answers be read."""
        return np.asarray(self.files < 0)

    def logits(self) -> Array:
        """``(B, C)`` float32."""
        logits = np.empty((len(self.files), self.shards[self.files[0]].classes), dtype=np.float32)
        for number in np.unique(self.files):
            here = self.files == number
            logits[here] = self.shards[number].logits(self.rows[here])
        return logits

    def feature(self, path: str) -> list[Array]:
        """What the module of this path put out, one float16 array an example."""
        return [self.shards[file].feature(path, row) for file, row in zip(self.files, self.rows, strict=True)]


class AnswerStore:
    """Answers of one teacher on the disk, each under the key of its example.

    Args:
        folder: Where they are.
        identity: Everything besides the example that the answers depend on, as plain data. With it the folder is made
            where there is none; without it the folder must be there.

    Raises:
        FileNotFoundError: there is no cache in the folder.
        ValueError: the answers were made with something else, or a file is damaged; the message says which.
    """

    def __init__(self, folder: str | Path, identity: Mapping[str, Any] | None = None) -> None:
        self.folder = Path(folder)
        if identity is not None:
            self._begin(identity)
        self.identity = self._read()
        if identity is not None:
            self._compare(identity)
            self._note(identity)
        self._digest = _digest(self.identity)
        self._shards: dict[str, Shard] = {}
        self.refresh()

    def __len__(self) -> int:
        """Answers in all files; one that two runs have written counts twice."""
        return sum(len(shard) for shard in self._shards.values())

    @property
    def per_token(self) -> set[str]:
        """Paths of modules of which one vector a token was kept."""
        return {path for shard in self._shards.values() for path, shape in shard.shapes.items() if shape[0] < 0}

    def refresh(self) -> None:
        """Take up what other processes have written since."""
        for path in sorted(self.folder.glob("*.arrow")):
            if path.name not in self._shards:
                self._shards[path.name] = Shard(path, self._digest)

    def add(self, answers: Sequence[Answers]) -> None:
        """Keep these answers, in a file of their own."""
        if not answers:
            return
        name = f"{uuid.uuid4().hex}.arrow"
        write_shard(self.folder / name, answers, self.identity["dtype"], self.identity["top_k"], self._digest)
        self._shards[name] = Shard(self.folder / name, self._digest)

    def missing(self, keys: Keys) -> NDArray[np.bool_]:
        """Which of the examples have no answer yet."""
        return self.find(keys).missing

    def logits(self, keys: Keys) -> Array:
        """``(B, C)`` float32.

        Raises:
            KeyError: an example has no answer.
        """
        found = self.find(keys)
        if found.missing.any():
            raise KeyError(
                f"{int(found.missing.sum())} of {len(keys)} examples have no answer in {self.folder}. "
                "cache_teacher(dataset, teacher, folder) adds what is missing."
            )
        return found.logits()

    def find(self, keys: Keys) -> Found:
        """Where the answers to these examples lie. This is what takes time where there are many files."""
        files, rows = np.full(len(keys), -1), np.full(len(keys), -1)
        for number, shard in enumerate(self._shards.values()):
            (open_,) = np.nonzero(files < 0)
            found = shard.find(keys[open_])
            files[open_[found >= 0]] = number
            rows[open_] = found
            if (files >= 0).all():
                break
        return Found(list(self._shards.values()), files, rows)

    # ---- What the answers depend on ----

    def _begin(self, identity: Mapping[str, Any]) -> None:
        if (self.folder / IDENTITY_FILE).exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        strangers = sorted(path.name for path in self.folder.iterdir() if path.suffix != PART)
        if (self.folder / IDENTITY_FILE).exists():  # another process has begun meanwhile
            return
        if strangers:
            raise ValueError(
                f"{self.folder} holds something else, {strangers[0]} for one, and no cache. Choose a new folder."
            )
        unfinished = self._unfinished(identity)
        try:
            os.link(unfinished, self.folder / IDENTITY_FILE)  # unlike a rename, it never replaces another one
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            if not (self.folder / IDENTITY_FILE).exists():
                unfinished.replace(self.folder / IDENTITY_FILE)
        finally:
            unfinished.unlink(missing_ok=True)

    def _unfinished(self, identity: Mapping[str, Any]) -> Path:
        """A file with this content, whole and on the disk, under a name that nobody reads."""
        path = self.folder / f"{IDENTITY_FILE}.{uuid.uuid4().hex}{PART}"
        with path.open("w", encoding="utf-8") as file:
            file.write(json.dumps(identity, indent=2, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        return path

    def _note(self, identity: Mapping[str, Any]) -> None:
        """Keep what the newest caller knows of the teacher's inputs, for those who open the folder without it."""
        noted = {name: json.loads(json.dumps(identity[name])) for name in NOTES if name != "name" and name in identity}
        if any(name not in self.identity or self.identity[name] != value for name, value in noted.items()):
            self.identity |= noted
            self._unfinished(self.identity).replace(self.folder / IDENTITY_FILE)

    def _read(self) -> dict[str, Any]:
        path = self.folder / IDENTITY_FILE
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise FileNotFoundError(
                f"There is no cache of a teacher's answers in {self.folder}. Make one: cache_teacher(dataset, teacher, "
                "folder)."
            ) from None
        except ValueError as error:  # also where it is no UTF-8
            raise ValueError(f"{path} is damaged ({error}). Delete the folder {self.folder}.") from error
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise ValueError(
                f"The cache in {self.folder} was written by another version of hf_distill. Choose another folder, or "
                "delete this one."
            )
        return found

    def _compare(self, identity: Mapping[str, Any]) -> None:
        before, now = (_flat(json.loads(json.dumps(entries))) for entries in (self.identity, identity))
        changes = [
            f"{name} was {before.get(name)!r} and is {now.get(name)!r}"
            for name in sorted({*now, *before})
            if before.get(name) != now.get(name)
        ]
        if changes:
            raise ValueError(
                f"The answers in {self.folder} were made with something else: {'; '.join(changes)}. Choose another "
                "folder, or delete this one."
            )


def _flat(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that the answers depend on, those of the teacher one by one."""
    flat = {name: value for name, value in identity.items() if name not in (*NOTES, "teacher")}
    return {**flat, **{f"teacher's {name}": value for name, value in identity.get("teacher", {}).items()}}


def _digest(identity: Mapping[str, Any]) -> str:
    chosen = {name: value for name, value in identity.items() if name not in NOTES}
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:32]
