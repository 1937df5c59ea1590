"""Distillation without data: a generator learns to make images that the student learns from."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call
from transformers import BaseImageProcessor, PreTrainedModel

from hf_distill.generator import latent_size_of
from hf_distill.generator_loss import PREFIX, GeneratorLoss, batch_norms, last_linear
from hf_distill.image_input import by_channel
from hf_distill.image_processors import read_processor
from hf_distill.labels import SINGLE_LABEL
from hf_distill.noise import LATENTS, Collator, LatentCollator, Noise
from hf_distill.pictures import picture_grid
from hf_distill.randomness import isolated_randomness
from hf_distill.teachers.model import ModelTeacher
from hf_distill.trainer import DistillationTrainer, logits_of
from hf_distill.training_args import DistillationTrainingArguments
from hf_distill.views import ModelView, StepView

IMAGES_AN_EPOCH = 10_000
"""Where no training set says otherwise."""


@dataclass(frozen=True)
class GeneratedStep(StepView):
    """A step on images that a generator made.

    Args:
        judged: The parts of the generator's loss.
    """

    judged: Mapping[str, Tensor] = field(default_factory=dict)


class DataFreeTrainer(DistillationTrainer):
    """A :class:`~hf_distill.DistillationTrainer` for images that needs no data: only the teacher.

    In each step a generator makes images of noise. Through the teacher, which stays as it is, it learns to make images
    that the teacher is sure of; the student learns what the teacher says of the same images. Both learn at once, from
    one optimizer. The generator stays with the trainer: checkpoints have it, what is saved and published has not.

    Batch normalisation and two parts of the generator's loss look at whole batches as they are computed, so that the
    gradient depends on how a batch is split.

    Args:
        model: The student.
        args: The settings.
        data_collator: For ``eval_dataset``.
        train_dataset: Latent vectors, :class:`~hf_distill.Noise`, of which the number makes an epoch; 10,000, and the
            seed of ``args``, if left out. Real images belong into ``eval_dataset``.
        *positional: As in ``DistillationTrainer``.
        generator: Makes images, normalised as the student reads them, of latent vectors: an
            :class:`~hf_distill.ImageGenerator`, or any module with a ``latent_size``. It is copied.
        generator_loss: Which images it shall make.
        generator_learning_rate: That of the generator; it rises and falls together with the student's.
        **kwargs: As in ``DistillationTrainer``. There are no labels, so without an ``objective`` the student learns
            from the soft targets of the teacher alone.

    Attributes:
        generator: As far as it has learned.

    Raises:
        ValueError: teacher, student, generator and settings do not fit; the message names the cure.
        TypeError: ``train_dataset`` is something else.
    """

    def __init__(
        self,
        model: PreTrainedModel | nn.Module | None = None,
        args: DistillationTrainingArguments | None = None,
        data_collator: Collator | None = None,
        train_dataset: Noise | None = None,
        *positional: Any,
        generator: nn.Module,
        generator_loss: GeneratorLoss | None = None,
        generator_learning_rate: float = 1e-3,
        **kwargs: Any,
    ) -> None:
        args = DistillationTrainingArguments("tmp_trainer") if args is None else args
        if train_dataset is None:
            train_dataset = Noise((latent_size_of(generator),), IMAGES_AN_EPOCH, seed=args.seed)
        self.generator = self._given_generator = generator
        self.generator_loss = GeneratorLoss() if generator_loss is None else generator_loss
        self.generator_learning_rate = generator_learning_rate
        super().__init__(model, args, data_collator, train_dataset, *positional, **kwargs)
        self.data_collator = LatentCollator(self.data_collator)

    # ---- Construction ----

    def prepare_teachers(self) -> None:
        """As in ``DistillationTrainer``, after a look at whether all is there that makes up for the data."""
        rows, latent_size = self.train_dataset, latent_size_of(self.generator)
        if not isinstance(rows, Noise):
            raise TypeError(
                f"train_dataset is a {type(rows).__name__}, but a generator makes the images of this training: leave "
                "it out, and give real images as eval_dataset; or train on them with DistillationTrainer."
            )
        if (rows.column, rows.shape) != (LATENTS, (latent_size,)):
            raise ValueError(
                f"The generator makes images of {latent_size} numbers, and a row of train_dataset has {rows.column} of "
                f"shape {rows.shape}: Noise(({latent_size},), rows)."
            )
        if self.tasks is not None:
            raise ValueError(
                f"A generator makes images of one task, and the student has {list(self.tasks)}: distil one after the "
                "other, with task_model(student, TASK)."
            )
        if self.problem_type != SINGLE_LABEL or self.model.config.num_labels < 2:
            raise ValueError(
                f"A generator makes images of classes, and this is a {self.problem_type} with "
                f"{self.model.config.num_labels} labels: it needs single_label_classification with at least 2."
            )
        readers = [
            teacher
            for teacher in self.teachers.values()
            if isinstance(teacher, ModelTeacher) and not teacher.follows_student
        ]
        if len(self.teachers) != 1 or not readers or "pixel_values" not in readers[0].shared_columns:
            names = [f"{teacher.name} ({type(teacher).__name__})" for teacher in self.teachers.values()]
            raise ValueError(
                f"A generator learns through one teacher that is a live image model, got {names or None}: pass "
                "teacher_model=MODEL, or an ImageTeacher."
            )
        if getattr(self.model, "main_input_name", None) != "pixel_values":
            raise ValueError(f"The student, a {type(self.model).__name__}, reads no images: take one that does.")
        objective = self.distillation_objective
        if taken := sorted(name for name in objective.terms if name.startswith(PREFIX)):
            raise ValueError(f"Terms called {taken} would be taken for parts of the generator's loss: rename them.")
        if not objective.followed(self.teachers):
            raise ValueError(
                "The objective follows no teacher, and without data there are no labels either: add a LogitTerm, or "
                "leave objective out."
            )
        if self.generator_loss.weights["activation"]:
            last_linear(readers[0].model)
        if self.generator_loss.weights["batch_norm"]:
            batch_norms(readers[0].model)
        super().prepare_teachers()

    def image_shape(self) -> tuple[int, ...]:
        return tuple(self._first_images(2).shape[1:])

    def _first_images(self, count: int) -> Tensor:
        rows = self.train_dataset.__getitems__(range(min(count, len(self.train_dataset))))
        place = next(self.generator.parameters()).device
        with torch.no_grad(), isolated_randomness():
            images: Tensor = self.generator(torch.stack([row[LATENTS] for row in rows]).to(place))
        return images

    def _check_images(self) -> None:
        try:
            super()._check_images()
        except ValueError as error:
            raise ValueError(
                f"{error} Or let the generator make what both read: ImageGenerator(channels=..., size=...)."
            ) from error

    @property
    def teacher_share(self) -> float:
        weight, usual = self.args.distillation_weight, DistillationTrainingArguments.distillation_weight
        if weight not in (usual, 1.0):  # a search may have set it
            raise ValueError(
                f"distillation_weight={weight} would leave {1 - weight:g} to labels, and without data there are none: "
                "leave it out, and it counts as 1."
            )
        return 1.0

    @property
    def trains_beside(self) -> bool:
        return True

    def _made(self) -> nn.ModuleDict:
        self.generator = copy.deepcopy(self._given_generator).to(self.args.device).train()
        beside = super()._made()
        beside["generator"] = self.generator
        return beside

    def groups_beside(self, parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
        """Groups of the optimizer for what learns beside the student; the generator at its own rate."""
        its = {id(parameter) for parameter in self.generator.parameters()}
        others = super().groups_beside([one for one in parameters if id(one) not in its])
        own = super().groups_beside([one for one in parameters if id(one) in its])
        return [*others, *({**group, "lr": self.generator_learning_rate} for group in own)]

    def _settings(self) -> dict[str, Any]:
        return {
            **super()._settings(),
            "generators": {"network": repr(self.generator), "loss": repr(self.generator_loss)},
        }

    def score_teachers(self) -> dict[str, float]:
        """Nothing: noise has no labels that a teacher could be scored by."""
        return {}

    # ---- One step ----

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns = sorted({*(self._signature_columns or []), LATENTS})

    def look(
        self, model: nn.Module, inputs: Mapping[str, Any], wanted: Collection[str], features: bool
    ) -> tuple[StepView, Any]:
        """As in ``DistillationTrainer``; of latent vectors images are made, which the teacher judges once for both."""
        if LATENTS not in inputs:
            return super().look(model, inputs, wanted, features)
        [(name, teacher)] = self.teachers.items()
        judge: Any = teacher.live_model
        with self.accelerator.autocast():
            images = self.generator(inputs[LATENTS]).float()
        with self.generator_loss.watching(judge) as inside:
            answer = self.ask(name, {"pixel_values": images}, features, gradient=True)
        step, outputs = super().look(model, {"pixel_values": images.detach()}, (), features)
        rival = self._rival(model, images) if self.generator_loss.weights["adversarial"] else None
        heard = ModelView(answer.logits.detach(), {path: seen.detach() for path, seen in answer.features.items()})
        judged = self.generator_loss(answer.logits, inside, rival)
        return GeneratedStep(**{**vars(step), "teachers": {name: heard}, "judged": judged}), outputs

    def _rival(self, model: nn.Module, images: Tensor) -> Tensor:
        """The student's logits with a gradient to the images alone: the student shall not learn to disagree."""
        student = self.accelerator.unwrap_model(model)
        weights = {name: parameter.detach() for name, parameter in student.named_parameters()}
        training = student.training
        student.eval()
        try:
            with self.accelerator.autocast():
                outputs = functional_call(student, weights, kwargs={"pixel_values": images})
        finally:
            student.train(training)
        return logits_of(outputs)

    def parts(self, step: StepView) -> dict[str, Tensor]:
        """The summands of the student's loss, and of the generator's."""
        return {**super().parts(step), **(step.judged if isinstance(step, GeneratedStep) else {})}

    # ---- To look at ----

    def generated_grid(self, count: int = 64, columns: int = 8, scale: int = 4) -> Image.Image:
        """Some images that the generator makes now, as one picture.

        Args:
            count: How many.
            columns: How many side by side.
            scale: So many pixels high and wide each of theirs becomes.
        """
        images = self._first_images(count).float().cpu()
        if isinstance(self.processing_class, BaseImageProcessor):
            known = read_processor(self.processing_class)
            images = images * by_channel(known.std, images) + by_channel(known.mean, images)
        else:
            images = (images - images.min()) / (images.max() - images.min())
        return picture_grid(images, columns, scale)
