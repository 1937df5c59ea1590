"""Trainings that keep something about each example.

Run as a script in two processes, it stores what two processes get, for ``test_contrastive_term.py``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import tiny
import torch
import two_processes
from torch import Tensor
from transformers import TrainerCallback

from hf_distill import ContrastiveTerm, DistillationTrainer, LabelTerm, Objective, Pair, with_example_ids

POOLER = Pair("vgg.pooler", "vgg.pooler")


def contrast(negatives: int = 10, **settings: Any) -> ContrastiveTerm:
    return ContrastiveTerm(POOLER, **{"width": 8, "negatives": negatives, "weight": 2.0, **settings})


def trainer(
    folder: Path, rows: Any = None, callbacks: list[TrainerCallback] | None = None, term: Any = None, **settings: Any
) -> DistillationTrainer:
    """Two VGGs of unequal width, in batches of 8 on all processes together."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    ours = {"num_train_epochs": 2, "per_device_train_batch_size": 8 // processes, "learning_rate": 1e-2}
    return DistillationTrainer(
        tiny.vgg(),
        tiny.arguments(folder, **{**ours, **settings}),
        train_dataset=with_example_ids(tiny.dataset("vgg", rows=24)) if rows is None else rows,
        eval_dataset=tiny.dataset("vgg", rows=8, seed=1),
        teacher_model=tiny.vgg(seed=1, hidden_sizes=[6, 10]),
        objective=Objective(ce=LabelTerm(), contrast=term or contrast()),
        callbacks=callbacks,
    )


def weights(trained: DistillationTrainer) -> dict[str, Tensor]:
    """Of the student and of what learned beside it."""
    everything = {**trained.model.state_dict(), **trained.distillation_objective.trained.state_dict()}
    return {name: value.clone() for name, value in everything.items()}


if __name__ == "__main__":
    stored: dict[str, Tensor] = {}
    for size in (24, 21):  # of 21 the last batch has 5, and accelerate repeats three
        trained = trainer(Path(sys.argv[1]).parent / "two", with_example_ids(tiny.dataset("vgg", rows=size)))
        trained.train()
        for rank in range(2):
            everyones = [weights(trained)]
            torch.distributed.broadcast_object_list(everyones, src=rank)
            stored |= {f"{size}/{rank}/{key}": value for key, value in everyones[0].items()}
    two_processes.store(stored, sys.argv[1])
