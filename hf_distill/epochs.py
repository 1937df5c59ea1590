"""Telling a training set which epoch it is."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


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
