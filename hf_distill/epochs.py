"""Telling a training set which epoch it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class EpochDataset(Dataset[dict[str, Any]], ABC):
    """A training set with other rows in each epoch, which ``set_epoch`` says."""

    def __init__(self) -> None:
        self._epoch = torch.zeros((), dtype=torch.int64)

    @property
    def epoch(self) -> int:
        """Which one it is, from 0."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Show the rows of this epoch from now on, also in data workers that are at work already."""
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]
        self._epoch.fill_(epoch)

    @abstractmethod
    def for_training(self, seed: int) -> EpochDataset:
        """What a training with this seed sees."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the rows depend on, as plain data, beside those that are stored."""

    @abstractmethod
    def __len__(self) -> int:
        """How many rows an epoch has."""

    @abstractmethod
    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Several rows at once, as a data loader asks for them."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        [row] = self.__getitems__([index])
        return row


class EpochCallback(TrainerCallback):
    """Calls ``set_epoch`` of the training set, where it has one, before each epoch.

    ``Trainer`` leaves this to accelerate, and accelerate (1.15) tells either the sampler or the data set: with several
    processes, after a resume within an epoch and with ``dispatch_batches`` a data set with random order never hears of
    an epoch. ``DistillationTrainer`` has this callback built in; give it to a plain ``Trainer`` as
    ``callbacks=[EpochCallback()]``.
    """

    def __init__(self) -> None:
        self._epoch = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin at the first epoch, or where the checkpoint was."""
        self._epoch = int(state.epoch or 0)

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        """Tell the data set, and count: an epoch that is broken off leaves ``state.epoch`` behind."""
        rows: Any = getattr(train_dataloader, "dataset", None)
        if hasattr(rows, "set_epoch"):
            rows.set_epoch(self._epoch)
        self._epoch += 1
