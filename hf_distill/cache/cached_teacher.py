"""A teacher that has answered already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from hf_distill.cache.keys import Keys, are_light, keys_of_dataset, keys_of_rows
from hf_distill.cache.rows import same_view_afterwards
from hf_distill.cache.store import AnswerStore
from hf_distill.randomness import isolated_randomness
from hf_distill.teachers import Teacher
from hf_distill.views import ModelView

LOGITS, FEATURES = "cached_logits", "cached_features"

ROWS_LOOKED_AT = 256
"""Of a data set that makes its rows only when they are asked for, as many are looked up before training, shared among
its views."""


class CachedTeacher(Teacher):
    """The answers that :func:`cache_teacher` has kept. The model itself is not loaded.

    Each example is found by the values that the teacher read, so rows may be shuffled, filtered, repeated or mixed with
    others, and a row whose values have changed is an error, never a wrong answer.

    Args:
        folder: Where the answers are.

    Raises:
        FileNotFoundError: there are none.
        ValueError: a file is damaged or does not belong there.
    """

    def __init__(self, folder: str | Path) -> None:
        self.store = AnswerStore(folder)
        identity = self.store.identity
        self.name, self.classes = identity["name"], identity["classes"]
        self._vocabulary: dict[str, Any] = identity["vocabulary"]
        self._images: list[dict[str, Any]] = identity.get("images", [])
        self.raw_columns = frozenset(identity["columns"])
        self.kept_features = frozenset(identity["features"])
        self.own_tokens = identity.get("own_tokens", "input_ids" not in self.raw_columns)

    def known_as(self, teacher: Teacher) -> CachedTeacher:
        """The same under the name of the teacher that was asked now, and with what is known of its inputs."""
        self.name, self.own_tokens = teacher.name, teacher.own_tokens
        self._vocabulary, self._images = teacher.vocabulary(), teacher.images()
        return self

    def __call__(self, inputs: Mapping[str, Any]) -> ModelView:
        if LOGITS not in inputs:
            raise KeyError(
                f"The answer of {self.name!r} to an example of this batch is not in {self.store.folder}. "
                "cache_teacher(dataset, teacher, folder) adds what is missing."
            )
        features = dict(inputs.get(FEATURES, {}))
        for path in self.store.per_token & features.keys():
            features[path] = _placed(features[path], inputs["attention_mask"].bool())
        return ModelView(logits=inputs[LOGITS], features=features)

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The answers to these rows; nothing where one of them has none, as in an evaluation set."""
        found = self.store.find(keys_of_rows(rows, self.raw_columns))
        if found.missing.any():
            return {}
        answers: dict[str, Any] = {LOGITS: torch.from_numpy(found.logits())}
        if self.kept_features:
            features = {path: list(map(torch.tensor, found.feature(path))) for path in sorted(self.kept_features)}
            answers[FEATURES] = {
                path: _padded(arrays) if path in self.store.per_token else torch.stack(arrays)
                for path, arrays in features.items()
            }
        return answers

    def vocabulary(self) -> dict[str, Any]:
        return self._vocabulary

    def images(self) -> list[dict[str, Any]]:
        return self._images

    def check_dataset(self, dataset: object) -> None:
        super().check_dataset(dataset)
        missing = total = 0
        with isolated_randomness(), same_view_afterwards(dataset):
            for keys in self._keys_to_check(dataset):
                missing, total = missing + int(self.store.missing(keys).sum()), total + len(keys)
        if missing:
            raise ValueError(
                f"{missing} of {total} examples of the data set have no answer of {self.name!r} in "
                f"{self.store.folder}. Were the texts cut into tokens, or images augmented, in another way when the "
                "answers were kept? cache_teacher(dataset, teacher, folder) adds what is missing."
            )

    def _keys_to_check(self, dataset: Any) -> Iterable[Keys]:
        if are_light(dataset, self.raw_columns):
            yield from keys_of_dataset(dataset, self.raw_columns)
        elif hasattr(dataset, "__len__"):
            views = (getattr(dataset, "count", None) or 1) if hasattr(dataset, "set_epoch") else 1
            rows = min(max(ROWS_LOOKED_AT // views, 1), len(dataset))
            for view in range(views):
                if views > 1:
                    dataset.set_epoch(view)
                spread = [dataset[len(dataset) * number // rows] for number in range(rows)]
                yield keys_of_rows(spread, self.raw_columns)

    def __getstate__(self) -> dict[str, Any]:
        """For a data worker: where the answers are, not the answers."""
        known = ("name", "own_tokens", "_vocabulary", "_images")
        return {"folder": self.store.folder, "known": {name: getattr(self, name) for name in known}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        CachedTeacher.__init__(self, state["folder"])
        self.__dict__.update(state["known"])


def _padded(tokens: Sequence[Tensor]) -> Tensor:
    """``(B, 1 + T, ...)`` of B times ``(at most T, ...)``; what is no token is NaN."""
    return pad_sequence([nn.functional.pad(one, (0, 0, 0, 1), value=torch.nan) for one in tokens], True, torch.nan)


def _placed(tokens: Tensor, mask: Tensor) -> Tensor:
    """Tokens as they lie in a batch: 0 at its padding, on whichever side, and NaN for a token that was not kept.

    Nothing depends on how many tokens there are, so that the host need not wait for the device.
    """
    number = (mask.cumsum(dim=1) - 1).clamp(0, tokens.shape[1] - 1).unsqueeze(-1)
    return tokens.take_along_dim(number, dim=1).where(mask.unsqueeze(-1), 0)
