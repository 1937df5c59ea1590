"""Trainings through a bottleneck, and an independent calculation of their gradients.

Run as a script in two processes, it stores what two processes get, for ``test_bottleneck_term.py``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import tiny
import torch
import two_processes
from feature_runs import ROWS, Recorder
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from hf_distill import BottleneckTerm, DistillationTrainer, LabelTerm, LogitTerm, Objective, linear
from hf_distill.losses import SoftTargetLoss

POOLER = "bert.pooler"
WIDTH = 16


class Setting(Recorder):
    """Gives the map weights that differ from each other before the first step."""

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        spread = self.trainer.distillation_objective.terms["vib"].loss.spread
        with torch.no_grad():
            spread.weight.copy_(map_weight())
            spread.bias.copy_(torch.linspace(-2.0, 1.0, WIDTH))


def map_weight() -> Tensor:
    return 0.3 * torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(0))


def trained(batch: int, accumulation: int) -> Setting:
    """One epoch with a learning rate of 0, and the gradients of each step."""
    setting = Setting()
    with tempfile.TemporaryDirectory() as folder:
        setting.trainer = DistillationTrainer(
            tiny.bert(),
            tiny.arguments(
                folder, learning_rate=0.0, num_train_epochs=1, per_device_train_batch_size=batch,
                gradient_accumulation_steps=accumulation,
            ),
            train_dataset=tiny.dataset(rows=ROWS), teacher_model=tiny.bert(seed=1), callbacks=[setting],
            objective=Objective(
                ce=LabelTerm(0.5), kd=LogitTerm(SoftTargetLoss(2.0), 0.5), vib=BottleneckTerm(POOLER, 0.1)
            ),
        )  # fmt: skip
        setting.trainer.train()
    return setting


def expected(draws: Tensor) -> list[dict[str, Tensor]]:
    """The same gradients by autograd on each whole batch, with the head applied by hand, for these ``(ROWS, d)``."""
    student, teacher = tiny.bert().train(), tiny.bert(seed=1).eval()
    weight = map_weight().requires_grad_()
    bias = torch.linspace(-2.0, 1.0, WIDTH).requires_grad_()
    found = []
    for start, stop in ((0, 16), (16, 32), (32, 36)):
        batch = tiny.dataset(rows=ROWS).with_format("torch")[start:stop]
        labels = batch.pop("labels")
        mean = student.bert(**batch).pooler_output
        deviation = F.softplus(mean @ weight.T + bias) + 1e-6
        logits = student.classifier(mean + deviation * draws[start:stop])
        with torch.no_grad():
            goal = (teacher(**batch).logits / 2).softmax(dim=-1)
        soft = 4 * (goal * (goal.log() - (logits / 2).log_softmax(dim=-1))).sum(dim=-1)
        nats = kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).sum(dim=-1)
        loss = (0.5 * F.cross_entropy(logits, labels, reduction="none") + 0.5 * soft + 0.1 * nats).mean()
        beside = {"vib_term.loss.spread.weight": weight, "vib_term.loss.spread.bias": bias}
        named = {**dict(student.named_parameters()), **beside}
        found.append(dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True)))
    return found


def resumable(folder: Path, callbacks: list[Any]) -> DistillationTrainer:
    """Dropout and noise, shuffling, accumulation, and a weight that begins at 0."""
    args = tiny.arguments(
        folder, num_train_epochs=2, per_device_train_batch_size=4, gradient_accumulation_steps=2, save_strategy="steps",
        save_steps=2, train_sampling_strategy="random", max_grad_norm=1.0, learning_rate=1e-2,
    )  # fmt: skip
    return DistillationTrainer(
        tiny.bert(dropout=0.2), args, train_dataset=tiny.dataset(rows=28), callbacks=callbacks,
        objective=Objective(ce=LabelTerm(), vib=BottleneckTerm(POOLER, linear(0.0, 0.1))),
    )  # fmt: skip


if __name__ == "__main__":
    torch.randn_like = torch.zeros_like  # which rows a process has is not its own choice
    stored = {f"{step}/{name}": grad for step, grads in enumerate(trained(4, 2).steps) for name, grad in grads.items()}
    two_processes.store(stored, sys.argv[1])
