"""What every teacher can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig

from hf_distill.image_views import stored_rows
from hf_distill.randomness import isolated_randomness
from hf_distill.teachers.normalization import check_normalization
from hf_distill.teachers.vocabulary import check_vocabulary
from hf_distill.views import ModelView


class Teacher(ABC):
    """Something that answers a batch with logits.

    Attributes:
        name: What logs and model cards call it; never a local path.
        classes: Class names in the order of its logits, or their number where they have no names, or ``None``
            where neither is known.
        shared_columns: Columns it reads as the student's collator made them, ``token_type_ids`` for instance.
        raw_columns: Columns it reads from the rows themselves, before any collator, through :meth:`collate`.
        live_model: The model that it runs on a batch, into which a feature term may look; ``None`` where there is none.
        kept_features: Paths of modules whose output it has kept, where it is no live model.
        own_tokens: Whether it cuts texts into tokens of its own, that do not lie beside the student's.
        follows_student: Whether it is made of the student, and so knows nothing before the training.
    """

    name: str
    classes: Sequence[str] | int | None = None
    shared_columns: frozenset[str] = frozenset()
    raw_columns: frozenset[str] = frozenset()
    live_model: nn.Module | None = None
    kept_features: frozenset[str] = frozenset()
    own_tokens: bool = False
    follows_student: bool = False

    @abstractmethod
    def __call__(self, inputs: Mapping[str, Any]) -> ModelView:
        """Answer a batch.

        Args:
            inputs: The student's batch, and what :meth:`collate` made for this teacher.
        """

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Make this teacher's own inputs from rows of the dataset; nothing where it shares the student's."""
        return {}

    def for_worker(self) -> Teacher:
        """What a data worker gets that needs a copy: itself, or without its model what can :meth:`collate` only."""
        return self

    def fingerprint(self) -> dict[str, str]:
        """What its answers depend on besides the example, as hashes and versions under names.

        Raises:
            TypeError: it does not answer by itself, so there is nothing to keep.
        """
        raise TypeError(f"The answers of {self.name!r} ({type(self).__name__}) are there already: use it as it is.")

    def vocabulary(self) -> dict[str, Any]:
        """What it knows of the token ids that it shares with the student, if it reads any: see ``check_vocabulary``."""
        return {}

    def images(self) -> list[dict[str, Any]]:
        """How it knows the images that it shares with the student, where it does: see ``check_normalization``."""
        return []

    def models(self) -> list[nn.Module]:
        """The models that it runs."""
        return [] if self.live_model is None else [self.live_model]

    def parameters(self) -> Iterator[nn.Parameter]:
        """The weights it holds, if any."""
        return chain.from_iterable(model.parameters() for model in self.models())

    def to(self, device: torch.device) -> None:
        """Move what it holds to a device."""
        for model in self.models():
            model.to(device)

    def begin(self, student: nn.Module) -> None:
        """Meet the student, before anything else is asked, and a new one before its training; by default nothing."""

    def follow(self, student: nn.Module, step: int) -> None:
        """Look at the student after an optimizer step, counted from 1; by default nothing."""

    def check_student(self, config: PreTrainedConfig, processing_class: object) -> None:
        """Raise when this teacher cannot read what the student reads."""
        check_vocabulary(self.name, self.vocabulary(), config, processing_class)
        for known in self.images():
            check_normalization(self.name, known, processing_class)

    def check_dataset(self, dataset: object) -> None:
        """Raise when the dataset lacks what this teacher reads, or holds something unusable."""
        stored: Any = stored_rows(dataset)
        columns = getattr(stored, "column_names", None)
        if columns and getattr(stored, "format", {}).get("type") == "custom":
            with isolated_randomness():
                columns = list(stored[0])  # a transform makes columns of its own
        if columns is not None and (missing := sorted(self.raw_columns.difference(columns))):
            raise KeyError(f"Teacher {self.name!r} reads the columns {missing}, but the dataset has {columns}.")

    def check_images(self, shape: Sequence[int]) -> None:
        """Raise when this teacher cannot read images of these channels, height and width."""
