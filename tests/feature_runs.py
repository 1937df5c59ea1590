"""Trainings with features and adapters, and an independent calculation of their gradients.

Run as a script in two processes, it stores what two processes get, for ``test_feature_training.py``.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import tiny
import torch
import two_processes
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel, TrainerCallback

from hf_distill import (
    DistillationTrainer,
    FeatureTerm,
    LabelTerm,
    LogitTerm,
    MovingAverageTeacher,
    Objective,
    Pair,
    linear,
    make_adapter,
    uniform_pairs,
)
from hf_distill.losses import PairLoss, SoftTargetLoss

ROWS = 36  # two full batches of 16 and a ragged one of 4
LAYER = "bert.encoder.layer.{}"
STAGE = "resnet.encoder.stages.0"


class FeatureMSE(PairLoss):
    """Mean squared error of each example."""

    def forward(self, student: Tensor, teacher: Tensor, **_: Any) -> Tensor:
        return (student - teacher.detach().to(student.dtype)).square().flatten(1).mean(dim=1)


class ScaledMSE(FeatureMSE):
    """The same with a weight that it learns, and a count that it keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, student: Tensor, teacher: Tensor, **known: Any) -> Tensor:
        self.seen += len(student)
        return super().forward(student * self.scale, teacher, **known)


def models(name: str) -> tuple[PreTrainedModel, PreTrainedModel]:
    if name == "resnet":
        return tiny.resnet(), tiny.resnet(seed=1, width=12)
    return tiny.bert(layers=2), tiny.bert(layers=4, seed=1, hidden_size=24)


def objective(name: str) -> Objective:
    if name == "resnet":  # batch normalisation would look at the micro-batch
        return Objective(
            ce=LabelTerm(weight=0.5),
            hint=FeatureTerm(
                FeatureMSE(), Pair(STAGE, STAGE), weight=2.0, adapt=partial(make_adapter, batch_norm=False)
            ),
        )
    return Objective(
        ce=LabelTerm(weight=0.5), hint=FeatureTerm(FeatureMSE(), *uniform_pairs(LAYER, LAYER, 2, 4), weight=2.0)
    )


class Recorder(TrainerCallback):
    """Keeps the gradients of student and adapters at each optimizer step."""

    def __init__(self) -> None:
        self.trainer: Any = None
        self.steps: list[dict[str, Tensor]] = []

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        beside = self.trainer.distillation_objective.trained
        named = [*self.trainer.model.named_parameters(), *beside.named_parameters()]
        self.steps.append({name: parameter.grad.clone() for name, parameter in named if parameter.grad is not None})


def trained(name: str, batch: int, accumulation: int, **changes: Any) -> tuple[DistillationTrainer, Recorder]:
    """One epoch with a learning rate of 0, and the gradients of each step."""
    student, teacher = models(name)
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
            student, args, train_dataset=tiny.dataset(name, rows=ROWS), teacher_model=teacher, callbacks=[recorder],
            objective=objective(name),
        )  # fmt: skip
        recorder.trainer = trainer
        trainer.train()
    return trainer, recorder


def expected(name: str, beside: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """The same gradients from hidden states that the models return themselves, and autograd on each whole batch."""
    student, teacher = models(name)
    student.train()
    teacher.eval()
    weights = {key: value.clone().requires_grad_() for key, value in beside.items()}
    found = []
    for start, stop in ((0, 16), (16, 32), (32, 36)):
        batch = tiny.dataset(name, rows=ROWS).with_format("torch")[start:stop]
        labels = batch.pop("labels")
        shown = student(**batch, output_hidden_states=True)
        with torch.no_grad():
            goals = teacher(**batch, output_hidden_states=True).hidden_states
        hints = []
        for index, (layer, goal) in enumerate([(1, 1)] if name == "resnet" else [(1, 2), (2, 4)]):
            weight, bias = (weights[f"hint_term.adapters.{index}.{part}"] for part in ("weight", "bias"))
            adapt = F.conv2d if name == "resnet" else F.linear
            adapted = adapt(shown.hidden_states[layer], weight, bias)
            hints.append(((adapted - goals[goal]) ** 2).mean())
        loss = 0.5 * F.cross_entropy(shown.logits, labels) + 2.0 * sum(hints) / len(hints)
        student.zero_grad()
        for weight in weights.values():
            weight.grad = None
        loss.backward()
        named = [*student.named_parameters(), *weights.items()]
        found.append({key: value.grad.clone() for key, value in named if value.grad is not None})
    return found


def feature_only(folder: Path) -> DistillationTrainer:
    """Nothing but a hint in the lower layer of the student, clipped, for several steps."""
    student, teacher = models("bert")
    args = tiny.arguments(
        folder, max_steps=4, per_device_train_batch_size=4, gradient_accumulation_steps=2, learning_rate=1e-2,
        max_grad_norm=0.5, ddp_find_unused_parameters=False,
    )  # fmt: skip
    hint = FeatureTerm(ScaledMSE(), Pair(LAYER.format(0), LAYER.format(1)))
    trainer = DistillationTrainer(
        student, args, train_dataset=tiny.dataset(), teacher_model=teacher, objective=Objective(hint=hint)
    )
    trainer.train()
    return trainer


def averaging(folder: Path, batch: int, name: str = "bert", **config: Any) -> DistillationTrainer:
    """A student that follows the moving average of its own weights."""
    args = tiny.arguments(folder, max_steps=4, per_device_train_batch_size=batch, learning_rate=0.1, optim="sgd")
    kd = LogitTerm(SoftTargetLoss(2.0))
    trainer = DistillationTrainer(
        tiny.MODELS[name](**config), args, train_dataset=tiny.dataset(name), teacher_model=MovingAverageTeacher(0.6),
        objective=Objective(ce=LabelTerm(), kd=kd),
    )  # fmt: skip
    trainer.train()
    return trainer


def resumable(folder: Path, callbacks: list[TrainerCallback]) -> DistillationTrainer:
    """Everything at once: dropout, shuffling, accumulation, clipping, a schedule, adapters and a loss that learns."""
    terms = Objective(
        kd=LogitTerm(SoftTargetLoss(2.0), weight=0.5),
        hint=FeatureTerm(ScaledMSE(), *uniform_pairs(LAYER, LAYER, 2, 4), weight=linear(1.0, 0.1)),
    )
    args = tiny.arguments(
        folder, num_train_epochs=2, per_device_train_batch_size=4, gradient_accumulation_steps=2, save_strategy="steps",
        save_steps=2, train_sampling_strategy="random", max_grad_norm=1.0, learning_rate=1e-2, weight_decay=0.1,
    )  # fmt: skip
    return DistillationTrainer(
        tiny.bert(layers=2, dropout=0.2), args, train_dataset=tiny.dataset(rows=28), callbacks=callbacks,
        teacher_model=tiny.bert(layers=4, seed=1, hidden_size=24), objective=terms,
    )  # fmt: skip


def weights(trainer: DistillationTrainer) -> dict[str, Tensor]:
    """Of the student and of what learned beside it."""
    everything = {**trainer.model.state_dict(), **trainer.distillation_objective.trained.state_dict()}
    return {name: value.clone() for name, value in everything.items()}


def assert_same(found: list[dict[str, Tensor]], expected: list[dict[str, Tensor]], rtol: float = 1e-5) -> None:
    """The same gradients at each step, but for rounding."""
    assert len(found) == len(expected)
    for step, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one.keys() == other.keys()
        for name, value in other.items():
            torch.testing.assert_close(
                one[name], value, atol=1e-6, rtol=rtol, msg=lambda m, n=name, s=step: f"step {s}, {n}: {m}"
            )


def assert_identical(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    """The same bits."""
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


if __name__ == "__main__":
    stored = {}
    for name in ("bert", "resnet"):
        trainer, recorder = trained(name, batch=4, accumulation=2)
        stored |= {
            f"{name}/{step}/{key}": grad for step, grads in enumerate(recorder.steps) for key, grad in grads.items()
        }
        beside = trainer.distillation_objective.trained.state_dict()
        stored |= {f"{name}/beside/{key}": value for key, value in beside.items()}
    folder = Path(sys.argv[1]).parent / "only"
    mine = {key: value for key, value in weights(feature_only(folder)).items() if not key.endswith("loss.seen")}
    mine |= {
        f"average/{key}": value for key, value in averaging(folder, 4).teachers["teacher"].model.state_dict().items()
    }
    statistics = averaging(folder, 4, "vgg", batch_norm=True).teachers["teacher"].model.named_buffers()
    mine |= {f"statistics/{key}": value for key, value in statistics}
    for rank in range(2):
        everyones = [mine]
        torch.distributed.broadcast_object_list(everyones, src=rank)
        stored |= {f"rank{rank}/{key}": value for key, value in everyones[0].items()}
    two_processes.store(stored, sys.argv[1])
