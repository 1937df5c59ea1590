"""Trainings without data, and an independent calculation of their gradients.

Run as a script in two processes, it stores what two processes get, for ``test_data_free_trainer.py``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import tiny
import torch
import two_processes
from scipy.stats import norm
from test_draws import expected as expected_draws
from torch import Tensor, nn
from transformers import TrainerCallback, set_seed

from hf_distill import DataFreeTrainer, GeneratorLoss, ImageGenerator, Noise

ROWS = 20  # two full batches of 8 and a ragged one of 4
LATENT = 5
TEMPERATURE = 3.0
LOSS = {"one_hot": 0.7, "information": 0.0, "activation": 0.3, "adversarial": 0.2}
"""What is a mean over examples, so that it does not matter how a batch is split."""


class Linear(nn.Module):
    """A generator that treats each image by itself."""

    def __init__(self, channels: int = 3, size: int = 8) -> None:
        super().__init__()
        set_seed(2)
        self.latent_size, self.shape = LATENT, (channels, size, size)
        self.layer = nn.Linear(LATENT, channels * size * size)

    def forward(self, latents: Tensor) -> Tensor:
        return self.layer(latents).reshape(-1, *self.shape)


def generator(**sizes: int) -> ImageGenerator:
    set_seed(3)
    return ImageGenerator(**{"channels": 3, "size": 8, "latent_size": LATENT, "width": 2, **sizes})


def trainer(folder: str | Path, callbacks: list[TrainerCallback] | None = None, **changes: Any) -> DataFreeTrainer:
    """A small VGG that learns from another; what is no argument of the trainer goes into its settings."""
    given = {
        "model": tiny.vgg(),
        "teacher_model": tiny.vgg(seed=1),
        "generator": generator(),
        "train_dataset": Noise((LATENT,), ROWS),
        "callbacks": callbacks,
    }
    known = (*given, "generator_loss", "generator_learning_rate", "eval_dataset", "objective", "processing_class")
    given |= {name: changes.pop(name) for name in known if name in changes}
    return DataFreeTrainer(args=tiny.arguments(folder, **{"max_steps": 2, **changes}), **given)


class Recorder(TrainerCallback):
    """Keeps the gradients of student and generator at each optimizer step."""

    def __init__(self) -> None:
        self.trainer: Any = None
        self.steps: list[dict[str, Tensor]] = []

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        named = [*self.trainer.model.named_parameters(), *self.trainer.generator.named_parameters()]
        self.steps.append({name: parameter.grad.clone() for name, parameter in named})


def gradients(batch: int, accumulation: int) -> tuple[list[dict[str, Tensor]], list[dict[str, float]]]:
    """One epoch with a learning rate of 0: the gradients of each step, and what was logged."""
    recorder = Recorder()
    with tempfile.TemporaryDirectory() as folder:
        recorder.trainer = trainer(
            folder, [recorder], generator=Linear(), generator_loss=GeneratorLoss(**LOSS), max_steps=-1,
            num_train_epochs=1, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation,
            learning_rate=0.0, generator_learning_rate=0.0, temperature=TEMPERATURE,
        )  # fmt: skip
        recorder.trainer.train()
    logs = [entry for entry in recorder.trainer.state.log_history if "loss" in entry]
    return recorder.steps, logs


def expected() -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """The same from the formulas and plain autograd on each whole batch."""
    student, teacher, made_by = tiny.vgg(), tiny.vgg(seed=1).eval().requires_grad_(False), Linear()
    latents = torch.tensor([norm.ppf(expected_draws(0, row, 0, LATENT)).tolist() for row in range(ROWS)])
    steps, logs = [], []
    for rows in (slice(0, 8), slice(8, 16), slice(16, 20)):
        images = made_by(latents[rows])
        features = teacher.vgg(images, return_dict=True).pooler_output.flatten(1)
        answer = teacher(images).logits
        p, q = answer.softmax(-1), student(images).logits.softmax(-1)
        parts = {
            "generator_one_hot": -0.7 * p.max(dim=-1).values.log().mean(),
            "generator_activation": -0.3 * features.abs().mean(),
            "generator_adversarial": -0.2 * (p * (p / q).log()).sum(-1).mean(),
        }
        weights = list(made_by.parameters())
        found = dict(
            zip(dict(made_by.named_parameters()), torch.autograd.grad(sum(parts.values()), weights), strict=True)
        )
        p, q = (answer / TEMPERATURE).softmax(-1).detach(), (student(images.detach()).logits / TEMPERATURE).softmax(-1)
        parts["kd"] = TEMPERATURE**2 * (p * (p / q).log()).sum(-1).mean()
        weights = list(student.parameters())
        found |= zip(dict(student.named_parameters()), torch.autograd.grad(parts["kd"], weights), strict=True)
        steps.append(found)
        logs.append({**parts, "loss": sum(parts.values())})
    return steps, logs


def weights(of: DataFreeTrainer) -> dict[str, Tensor]:
    """Of the student and of the generator."""
    return {name: value.clone() for name, value in (of.model.state_dict() | of.generator.state_dict()).items()}


def everything(folder: Path, **changes: Any) -> DataFreeTrainer:
    """A training in which all parts of the loss count, with batch normalisation in all three."""
    given = {
        "model": tiny.vgg(batch_norm=True),
        "teacher_model": tiny.vgg(seed=1, batch_norm=True),
        "generator_loss": GeneratorLoss(batch_norm=1.0, adversarial=1.0),
    }
    return trainer(folder, **{**given, "learning_rate": 1e-2, "max_grad_norm": 1.0, "max_steps": 4, **changes})


def learned(folder: Path, **changes: Any) -> DataFreeTrainer:
    """The same, trained."""
    made = everything(folder, **changes)
    made.train()
    return made


if __name__ == "__main__":
    stored = {}
    for step, found in enumerate(gradients(batch=2, accumulation=2)[0]):
        stored |= {f"{step}/{name}": value for name, value in found.items()}
    mine = weights(learned(Path(sys.argv[1]).parent / "learned"))
    for rank in range(2):
        everyones = [mine]
        torch.distributed.broadcast_object_list(everyones, src=rank)
        stored |= {f"rank{rank}/{name}": value for name, value in everyones[0].items()}
    two_processes.store(stored, sys.argv[1])
