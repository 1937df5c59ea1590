"""Trainings with a live teacher and with its kept answers.

Run as a script in two processes, it stores what two processes get, for ``cache/test_training.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import tiny
import torch
import two_processes
from datasets import Dataset, concatenate_datasets
from torch import Tensor

from hf_distill import (
    CachedTeacher,
    DistillationTrainer,
    LabelTerm,
    LogitTerm,
    Objective,
    Teacher,
    cache_teacher,
    cosine,
)
from hf_distill.losses import SoftTargetLoss


def ragged(rows: int = 30, seed: int = 0) -> Dataset:
    """Texts of different lengths, so that batches are padded."""
    whole = tiny.dataset(rows=rows, seed=seed)

    def shorter(row: dict[str, Any], index: int) -> dict[str, Any]:
        length = 3 + index % 6
        return {name: row[name][:length] for name in ("input_ids", "attention_mask", "token_type_ids")}

    return whole.map(shorter, with_indices=True)


def pad(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    """A collator that pads to the longest row, and a bit more."""
    longest = max(len(row["input_ids"]) for row in rows) + 1
    batch = {
        name: torch.tensor([[*row[name], *[0] * (longest - len(row[name]))] for row in rows])
        for name in ("input_ids", "attention_mask", "token_type_ids")
        if name in rows[0]
    }
    return {**batch, "labels": torch.tensor([row["labels"] for row in rows])} if "labels" in rows[0] else batch


def mixed() -> Dataset:
    """Rows with labels and without, filtered and shuffled."""
    unlabelled = ragged(seed=3).map(lambda row: {"labels": -100}).filter(lambda row: row["input_ids"][0] % 2 == 0)
    return concatenate_datasets([ragged(), unlabelled]).shuffle(seed=1)


def everything() -> Dataset:
    return concatenate_datasets([ragged(), ragged(seed=3)])


def trained(teacher: Any, folder: Path, rows: Dataset | None = None, **changes: Any) -> dict[str, Tensor]:
    """The student's weights, and the logged losses, after a training with dropout, shuffling, accumulation."""
    args = tiny.arguments(
        folder, **{
            "num_train_epochs": 2, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "seed": 5,
            "learning_rate": 0.1, "optim": "sgd", "train_sampling_strategy": "random", "max_grad_norm": 1.0, **changes,
        }
    )  # fmt: skip
    terms = Objective(ce=LabelTerm(0.3), kd=LogitTerm(SoftTargetLoss(cosine(4.0, 1.0)), 0.7))
    trainer = DistillationTrainer(
        tiny.bert(dropout=0.1), args, pad, mixed() if rows is None else rows, teacher_model=teacher, objective=terms
    )
    trainer.train()
    losses = [entry["kd"] for entry in trainer.state.log_history if "kd" in entry]
    return {**trainer.model.state_dict(), "logged": torch.tensor(losses)}


def renamed(teacher: Any, folder: Path, rows: Dataset) -> dict[str, Tensor]:
    """The weights of a student that has the classes of ``named`` in another order, and its loss in evaluation."""
    student = tiny.bert(id2label={0: "1", 1: "no", 2: "yes"})
    args = tiny.arguments(folder, max_steps=3, optim="sgd", learning_rate=0.1)
    trainer = DistillationTrainer(student, args, pad, rows, teacher_model=teacher)
    trainer.train()
    loss = trainer.evaluate(rows.remove_columns("labels"))["eval_loss"]
    return {**student.state_dict(), "loss": torch.tensor(loss)}


def named() -> Any:
    """A teacher with class names that YAML would like to read as something else."""
    return tiny.bert(layers=2, seed=1, hidden_size=24, id2label={0: "no", 1: "yes", 2: "1"})


def large() -> Any:
    return tiny.bert(layers=2, seed=1, hidden_size=24)


def kept(folder: Path, **settings: Any) -> Teacher:
    cache_teacher(everything(), large(), folder, data_collator=pad, batch_size=7, **settings)
    return CachedTeacher(folder)


if __name__ == "__main__":
    where = Path(sys.argv[1]).parent
    teacher = kept(where / "shared")
    found = {f"cached/{key}": value for key, value in trained(teacher, where / "cached").items()}
    found |= {f"live/{key}": value for key, value in trained(large(), where / "live").items()}
    files = len(list((where / "shared").glob("*.arrow")))
    found["files"], found["answers"] = torch.tensor(files), torch.tensor(len(teacher.store))
    two_processes.store({key: value.contiguous() for key, value in found.items()}, sys.argv[1])
