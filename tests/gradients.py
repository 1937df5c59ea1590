"""The gradients that a training really uses, and an independent calculation of what they should be.

Run as a script in two processes, it stores what two processes get, for ``test_invariance.py``.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import tempfile
from pathlib import Path
from typing import Any

import tiny
import torch
import two_processes
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel, TrainerCallback

from hf_distill import DistillationTrainer

ROWS = 36  # two full batches of 16 and a ragged one of 4
DISPATCHED_ROWS = 37  # a ragged one that does not divide by two processes
TEMPERATURE, WEIGHT = 3.0, 0.6
CASES = [
    *itertools.product(tiny.MODELS, ("single_label", "multi_label", "regression"), (0.0,)),
    *((model, "single_label", 0.1) for model in tiny.MODELS),
]


def models(name: str, task: str) -> tuple[PreTrainedModel, PreTrainedModel]:
    """A student and its teacher: a BERT for texts, otherwise one of the student's kind."""
    outputs = 1 if task == "regression" else 3
    student = tiny.MODELS[name](labels=outputs)
    teacher = tiny.MODELS["bert" if name in tiny.TEXT else name](labels=outputs, seed=1)
    if task == "multi_label":
        student.config.problem_type = teacher.config.problem_type = "multi_label_classification"
    return student, teacher


class Recorder(TrainerCallback):
    """Keeps the gradient of each optimizer step, and holds the weights still."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        named = getattr(model, "module", model).named_parameters()
        self.steps.append({name: p.grad.clone() for name, p in named if p.grad is not None})


def trained(
    name: str, task: str, smoothing: float, batch: int, accumulation: int, rows: int = ROWS, **settings: Any
) -> dict[str, Tensor]:
    """Gradients, loss and components of every step, with a learning rate of 0, under flat names."""
    student, teacher = models(name, task)
    recorder = Recorder()
    with tempfile.TemporaryDirectory() as folder:
        arguments = tiny.arguments(
            folder,
            learning_rate=0.0,
            num_train_epochs=1,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            label_smoothing_factor=smoothing,
            temperature=TEMPERATURE,
            distillation_weight=WEIGHT,
            **settings,
        )
        trainer = DistillationTrainer(
            student,
            arguments,
            train_dataset=tiny.dataset(name, task, rows),
            teacher_model=teacher,
            callbacks=[recorder],
        )
        trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    found = {f"{step}/{key}": grad for step, grads in enumerate(recorder.steps) for key, grad in grads.items()}
    for step, entry in enumerate(logs):
        found |= {f"{step}/log/{key}": torch.tensor(entry[key]) for key in ("loss", "ce", "kd")}
    return found


def expected(name: str, task: str, smoothing: float, rows: int = ROWS) -> dict[str, Tensor]:
    """The same, from the formulas and plain autograd on each whole batch."""
    student, teacher = models(name, task)
    student.train()
    teacher.eval()
    data = tiny.dataset(name, task, rows).with_format("torch")
    found = {}
    for step, (start, stop) in enumerate(((0, 16), (16, 32), (32, rows))):
        batch = data[start:stop]
        labels = batch.pop("labels")
        with torch.no_grad():
            goal = teacher(**batch).logits
        if name == "distilbert":
            del batch["token_type_ids"]
        logits = student(**batch).logits
        if task == "single_label":
            ce = -(F.one_hot(labels, 3) * (1 - smoothing) + smoothing / 3).mul(logits.log_softmax(-1)).sum(-1).mean()
            p, q = (goal / TEMPERATURE).softmax(-1), (logits / TEMPERATURE).softmax(-1)
            kd = TEMPERATURE**2 * (p * (p / q).log()).sum(-1).mean()
        elif task == "multi_label":
            ce = F.binary_cross_entropy(logits.sigmoid(), labels)
            p, q = (goal / TEMPERATURE).sigmoid(), (logits / TEMPERATURE).sigmoid()
            kd = TEMPERATURE**2 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
        else:
            ce, kd = ((logits.squeeze() - labels) ** 2).mean(), ((logits - goal) ** 2).mean()
        ce, kd = (1 - WEIGHT) * ce, WEIGHT * kd
        student.zero_grad()
        (ce + kd).backward()
        found |= {f"{step}/{key}": p.grad.clone() for key, p in student.named_parameters() if p.grad is not None}
        found |= {f"{step}/log/loss": (ce + kd).detach(), f"{step}/log/ce": ce.detach(), f"{step}/log/kd": kd.detach()}
    return found


def weights_after(folder: Path, kill_at: int | None = None, resume: bool = False) -> dict[str, Tensor]:
    """Weights after two epochs of an uneven size, whole or killed and resumed in the middle of an epoch."""

    class Kill(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == kill_at:
                raise KeyboardInterrupt

    args = tiny.arguments(
        folder,
        num_train_epochs=2,
        per_device_train_batch_size=4,
        save_strategy="steps",
        save_steps=1,
        learning_rate=1e-2,
    )
    student = tiny.bert(dropout=0.1)
    rows, teacher = tiny.dataset(rows=19), tiny.bert(seed=1)
    trainer = DistillationTrainer(student, args, train_dataset=rows, teacher_model=teacher, callbacks=[Kill()])
    with contextlib.suppress(KeyboardInterrupt):
        trainer.train(resume_from_checkpoint=resume)
    return {name: value.clone() for name, value in student.state_dict().items()}


def batch_statistics(folder: Path) -> dict[str, Tensor]:
    """What batch normalisation knows on each of the processes: in the evaluation after an epoch, and in the end."""
    student, seen = tiny.vgg(batch_norm=True), []

    class See(TrainerCallback):
        def on_evaluate(self, *_: Any, **__: Any) -> None:
            seen.append(next(student.buffers()).clone())

    args = tiny.arguments(folder, num_train_epochs=2, eval_strategy="epoch")
    rows, teacher = tiny.dataset("vgg"), tiny.vgg(seed=1)
    trainer = DistillationTrainer(
        student, args, train_dataset=rows, eval_dataset=rows, teacher_model=teacher, callbacks=[See()]
    )
    trainer.train()
    found = {}
    for name, mine in {"evaluated": seen[0], "trained": next(student.buffers())}.items():
        both = [torch.empty_like(mine) for _ in range(2)]
        torch.distributed.all_gather(both, mine)
        found[name] = torch.stack(both)
    return found


if __name__ == "__main__":
    everything = {}
    for case in CASES:
        everything |= {f"{case}/{key}": value for key, value in trained(*case, batch=4, accumulation=2).items()}
    dispatched = trained(
        *CASES[0], batch=4, accumulation=2, rows=DISPATCHED_ROWS, accelerator_config={"dispatch_batches": True}
    )
    everything |= {f"dispatched/{key}": value for key, value in dispatched.items()}
    shared = Path(sys.argv[1]).parent
    everything |= {f"whole/{key}": value for key, value in weights_after(shared / "whole").items()}
    weights_after(shared / "killed", kill_at=4)
    everything |= {f"resumed/{key}": value for key, value in weights_after(shared / "killed", resume=True).items()}
    everything |= {f"statistics/{key}": value for key, value in batch_statistics(shared / "statistics").items()}
    two_processes.store(everything, sys.argv[1])
