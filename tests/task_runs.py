"""Trainings of one student for two tasks, and an independent calculation of their gradients.

Run as a script in two processes, it stores what two processes get, for ``tasks/test_training.py``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import tiny
import torch
import two_processes
from datasets import Dataset
from feature_runs import FeatureMSE, Recorder
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel, TrainerCallback

from hf_distill import (
    DistillationTrainer,
    FeatureTerm,
    Objective,
    Pair,
    Tasks,
    TaskTerm,
    joint_dataset,
    linear,
    multi_task_objective,
    with_tasks,
)

TASKS = Tasks({"tone": ["bad", "good"], "topic": ["film", "music", "art"]})
TONE, TOPIC = slice(0, 2), slice(2, 5)
TEMPERATURE, WEIGHT, ROWS = 3.0, 0.6, 36
LAYER = "bert.encoder.layer.0"


def data(task: str, rows: int) -> Dataset:
    """Rows of one task in its own numbers; every fifth has no label."""
    classes = len(TASKS[task])
    found = tiny.dataset(rows=rows, seed=classes)
    labels = [-100 if row % 5 == 4 else row % classes for row in range(rows)]
    return found.remove_columns("labels").add_column("labels", labels)


def rows() -> Dataset:
    """Twelve of one task and the rest of the other, mixed; of the last four, two processes get one task each."""
    joint = joint_dataset({"tone": data("tone", 12), "topic": data("topic", ROWS - 12)}, TASKS)
    labels = joint["labels"][:]
    last = [labels.index(label) for label in (2, 3, 0, 1)]
    return joint.select([*(row for row in range(ROWS) if row not in last), *last])


def student(**changes: Any) -> PreTrainedModel:
    model = tiny.bert(**changes)
    torch.manual_seed(5)
    return with_tasks(model, TASKS)


def teachers() -> dict[str, PreTrainedModel]:
    """One a task; that of the topics counts its classes in another order."""
    tone, topic = tiny.bert(labels=2, seed=1), tiny.bert(labels=3, seed=2, hidden_size=24)
    topic.config.id2label = {0: "art", 1: "film", 2: "music"}
    return {"tone": tone, "topic": topic}


def objective(features: bool = False) -> Objective:
    """The usual terms, the tones counting half; on request with features of the topics' teacher."""
    usual = multi_task_objective(TASKS, ["tone", "topic"], TEMPERATURE, WEIGHT, weights={"tone": 0.5})
    hint = FeatureTerm(FeatureMSE(), Pair(LAYER, LAYER), weight=2.0)  # 24 wide and 16 wide: it needs an adapter
    return Objective(**usual.terms, **({"hint": TaskTerm(hint, TASKS, "topic")} if features else {}))


def trained(batch: int, accumulation: int, **changes: Any) -> dict[str, Tensor]:
    """Gradients and logs of each step of an epoch with a learning rate of 0, and the adapters, under flat names."""
    recorder = Recorder()
    with tempfile.TemporaryDirectory() as folder:
        args = tiny.arguments(
            folder,
            learning_rate=0.0,
            num_train_epochs=1,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            **changes,
        )
        trainer = DistillationTrainer(
            student(), args, train_dataset=rows(), teacher_model=teachers(), callbacks=[recorder],
            objective=objective(features=True),
        )  # fmt: skip
        recorder.trainer = trainer
        trainer.train()
    found = {f"{step}/{name}": grad for step, grads in enumerate(recorder.steps) for name, grad in grads.items()}
    for step, entry in enumerate(entry for entry in trainer.state.log_history if "loss" in entry):
        found |= {
            f"{step}/log/{key}": torch.tensor(entry[key]) for key in ("loss", *trainer.distillation_objective.terms)
        }
    beside = trainer.distillation_objective.trained.state_dict()
    return found | {f"beside/{name}": value.clone() for name, value in beside.items()}


def expected(beside: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same from the formulas, example by example, and autograd on each whole batch."""
    model, taught = student().train(), teachers()
    learnt = {name: value.clone().requires_grad_() for name, value in beside.items()}
    found = {}
    for step, (start, stop) in enumerate(((0, 16), (16, 32), (32, ROWS))):
        batch = rows().with_format("torch")[start:stop]
        labels = batch.pop("labels")
        shown = model(**batch, output_hidden_states=True)
        with torch.no_grad():
            tone = taught["tone"].eval()(**batch).logits
            topic = taught["topic"].eval()(**batch, output_hidden_states=True)
        parts = dict.fromkeys(["ce_tone", "ce_topic", "kd_tone", "kd_topic", "hint"], torch.zeros(()))
        for row, label in enumerate(labels.tolist()):
            if 0 <= label < 2:
                parts["ce_tone"] = parts["ce_tone"] - 0.5 * 0.4 * shown.logits[row, TONE].log_softmax(0)[label]
            if label >= 2:
                parts["ce_topic"] = parts["ce_topic"] - 0.4 * shown.logits[row, TOPIC].log_softmax(0)[label - 2]
            if label < 2:  # also without a label
                parts["kd_tone"] = parts["kd_tone"] + 0.5 * soft(shown.logits[row, TONE], tone[row])
            if label >= 2 or label == -100:
                parts["kd_topic"] = parts["kd_topic"] + soft(shown.logits[row, TOPIC], topic.logits[row, [1, 2, 0]])
                weight, bias = (learnt[f"hint_term.adapters.0.{part}"] for part in ("weight", "bias"))
                adapted = F.linear(shown.hidden_states[1][row], weight, bias)
                parts["hint"] = parts["hint"] + 2.0 * ((adapted - topic.hidden_states[1][row]) ** 2).mean()
        parts = {name: part / len(labels) for name, part in parts.items()}
        loss = torch.stack(list(parts.values())).sum()
        named = {**dict(model.named_parameters()), **learnt}
        grads = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
        found |= {f"{step}/{name}": grad for name, grad in zip(named, grads, strict=True) if grad is not None}
        found |= {f"{step}/log/{name}": part.detach() for name, part in {**parts, "loss": loss}.items()}
    return found


def soft(logits: Tensor, goal: Tensor) -> Tensor:
    """0.6 T² KL of one example."""
    p, q = (goal / TEMPERATURE).softmax(0), (logits / TEMPERATURE).softmax(0)
    return WEIGHT * TEMPERATURE**2 * (p * (p / q).log()).sum()


def resumable(folder: Path, callbacks: list[TrainerCallback]) -> DistillationTrainer:
    """Two epochs of everything, dropout and annealing included, with a checkpoint every other step."""
    args = tiny.arguments(
        folder, num_train_epochs=2, per_device_train_batch_size=4, gradient_accumulation_steps=2, save_strategy="steps",
        save_steps=2, train_sampling_strategy="random", max_grad_norm=1.0, learning_rate=1e-2, weight_decay=0.1,
    )  # fmt: skip
    annealed = multi_task_objective(TASKS, ["tone", "topic"], 2.0, linear(1.0, 0.0))
    terms = Objective(**annealed.terms, hint=objective(features=True).terms["hint"])
    return DistillationTrainer(
        student(dropout=0.2), args, train_dataset=rows(), teacher_model=teachers(), objective=terms, callbacks=callbacks
    )


if __name__ == "__main__":
    two_processes.store(trained(batch=2, accumulation=4), sys.argv[1])
