"""The trainer: one step, its logs and its checkpoints."""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from transformers import PreTrainedModel
from transformers.trainer_utils import EvalLoopOutput, TrainOutput, get_last_checkpoint, has_length

from hf_distill.adapting import AdaptingTrainer, FollowCallback
from hf_distill.batches import COUNTS, count_examples, data_sets, first_row, mark_repeated, with_labels
from hf_distill.components import ComponentLog, EvaluationLoss, one_per_example
from hf_distill.default_objective import check_settings_agree, default_objective, label_loss
from hf_distill.epochs import EpochCallback
from hf_distill.example_ids import EXAMPLE_ID
from hf_distill.features import check_gradient, tapped
from hf_distill.image_views import stored_rows
from hf_distill.labels import (
    LABEL_COLUMNS,
    SINGLE_LABEL,
    check_class_labels,
    check_class_names,
    check_labels_are_numbers,
    has_labels,
    problem_type,
)
from hf_distill.losses import NO_LABEL, LabelLoss
from hf_distill.noise import Noise
from hf_distill.objective import Objective
from hf_distill.onnx_classifier import remove_exports
from hf_distill.processes import share_buffers
from hf_distill.randomness import isolated_randomness
from hf_distill.tasks.checks import check_tasks, warn_of_plain_names
from hf_distill.tasks.names import Tasks
from hf_distill.teachers import Teacher, as_teacher
from hf_distill.timm_models import correct_config
from hf_distill.tracking import ObjectiveCallback
from hf_distill.training_args import DistillationTrainingArguments, check_settings
from hf_distill.views import ModelView, StepView

logger = logging.getLogger(__name__)

TeacherLike: TypeAlias = PreTrainedModel | str | Path | Teacher


class DistillationTrainer(AdaptingTrainer):
    """A ``transformers.Trainer`` whose student also learns from a teacher.

    Every argument of ``Trainer`` works as before, at the same position. The loss is the objective's, summed over the
    examples of the whole accumulated batch on all processes and divided by their number, so that how a batch is split
    does not change the gradient. Evaluation reports the task loss, comparable with a plain ``Trainer``'s; on a data
    set without labels it reports the loss against the teachers.

    Args:
        model: The student.
        args: The settings.
        *positional: As in ``Trainer``.
        teacher_model: A model, a Hub name or folder, a :class:`~hf_distill.teachers.Teacher`, several of them under
            names, or ``None`` to train without a teacher: the same loop and the same scaling, as a control needs.
        objective: What to minimise, where ``args.temperature`` and ``args.distillation_weight`` do not say enough. It
            is copied, so that what its adapters and losses learn stays in this trainer.
        **kwargs: As in ``Trainer``.

    Raises:
        TypeError: ``args`` are plain ``TrainingArguments``.
        ValueError: teacher, student and settings do not fit; the message names the cure.
        KeyError: the objective names a teacher or a module, or a teacher a column, that does not exist.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: PreTrainedModel | nn.Module | None = None,
        args: DistillationTrainingArguments | None = None,
        *positional: Any,
        teacher_model: TeacherLike | Mapping[str, TeacherLike] | None = None,
        objective: Objective | None = None,
        **kwargs: Any,
    ) -> None:
        args = DistillationTrainingArguments("tmp_trainer") if args is None else args
        check_settings_agree(args, objective)
        named = teacher_model if isinstance(teacher_model, Mapping) else {"teacher": teacher_model}
        dtype = getattr(torch, args.teacher_dtype) if args.teacher_dtype else None
        # Before super().__init__, which may already build a student through model_init.
        if model is not None and any(one is model for one in named.values()):
            raise ValueError("The teacher is the student itself, and would be frozen: pass copy.deepcopy(model).")
        teachers = {name: as_teacher(one, dtype) for name, one in named.items() if one is not None}
        # What follows a student is a trainer's own: another one may have been given the same.
        self.teachers = {name: copy.copy(one) if one.follows_student else one for name, one in teachers.items()}
        super().__init__(model, args, *positional, **kwargs)
        if self.compute_loss_func is not None:
            raise ValueError("compute_loss_func would replace the distillation loss: pass an objective instead.")
        self.add_callback(EpochCallback)
        self.callback_handler.callbacks.insert(0, FollowCallback(self.teachers))  # others may look at the teachers
        self.add_callback(ObjectiveCallback(self))
        self._given_objective = objective
        self._working_objective = copy.deepcopy(objective)
        self._default: tuple[tuple[float, float], Objective] | None = None
        self._components = ComponentLog()
        self._evaluated = EvaluationLoss(self.args.device)
        self._prepare_task()
        self.prepare_teachers()
        self.check_layers()

    @property
    def distillation_objective(self) -> Objective:
        """What is minimised. Without an explicit objective it follows ``args``, also while a search changes them."""
        if self._working_objective is not None:
            check_settings_agree(self.args, self._working_objective)  # a search may have changed them
            return self._working_objective
        settings = (self.args.temperature, self.teacher_share)
        if self._default is None or self._default[0] != settings:
            check_settings(*settings)
            temperature, weight = settings
            self._default = (
                settings,
                default_objective(self.problem_type, list(self.teachers), temperature, weight, self.tasks),
            )
        return self._default[1]

    @property
    def teacher_share(self) -> float:
        """Share of the loss that comes from the teacher where there is no explicit objective."""
        share: float = self.args.distillation_weight
        return share

    def parts(self, step: StepView) -> dict[str, Tensor]:
        """The summands of the loss of a training step, as :class:`~hf_distill.Objective` has them."""
        return self.distillation_objective(step)

    def new_objective(self) -> Objective:
        self._working_objective = copy.deepcopy(self._given_objective)
        return self.distillation_objective

    # ---- Construction ----

    def _prepare_task(self) -> None:
        if not hasattr(self.model, "config"):
            raise ValueError(
                f"The student, a {type(self.model).__name__}, has no config to say which classes it knows. Make it a "
                "PreTrainedModel, or give it one: model.config = PreTrainedConfig(num_labels=..., id2label=...)."
            )
        if hasattr(self.model, "_orig_mod"):
            raise ValueError(
                "The student is compiled already, and would be saved under names from which no model can be loaded. "
                "Pass the model itself; torch_compile=True compiles it for the training."
            )
        if "labels" not in (self.args.label_names or ["labels"]):
            raise ValueError(
                f"label_names={self.args.label_names}, but the loss looks for `labels`: rename the column, and leave "
                "label_names out."
            )
        correct_config(self.model.config, self.processing_class)
        rows = self.train_dataset
        if getattr(self.model.config, "problem_type", None) in (None, SINGLE_LABEL):
            check_labels_are_numbers(stored_rows(rows))
        with isolated_randomness():
            examples = map(first_row, map(stored_rows, (rows, *data_sets(self.eval_dataset))))
            example = next((example for example in examples if example is not None), None)
        self.problem_type = problem_type(self.model.config, example)
        self._task_was_seen = example is not None
        if example is not None and not isinstance(rows, Noise) and not any(name in example for name in LABEL_COLUMNS):
            logger.warning(
                "No column %s, only %s: unless the collator makes labels, the student learns from the teacher alone.",
                " or ".join(LABEL_COLUMNS), ", ".join(example),
            )  # fmt: skip
        if self._task_was_seen:
            self.model.config.problem_type = self.problem_type  # as the student's own head would note it
        self.tasks = Tasks.of(self.model.config)
        if self.tasks is None:
            warn_of_plain_names(self.model.config)
        else:
            check_tasks(self.tasks, rows, self.problem_type)
        if self.problem_type == SINGLE_LABEL:
            check_class_labels(stored_rows(rows), self.model.config.num_labels)
            for data_set in (rows, *data_sets(self.eval_dataset)):
                check_class_names(stored_rows(data_set), self.model.config)

    @property
    def _label_loss(self) -> LabelLoss:
        return label_loss(self.problem_type, self.args.label_smoothing_factor, self.tasks)

    def call_model_init(self, trial: Any = None) -> PreTrainedModel:
        """A fresh student, told the kind of task as the first one was."""
        model: PreTrainedModel = super().call_model_init(trial)
        if hasattr(self, "_task_was_seen"):  # not yet when Trainer makes the first one
            correct_config(model.config, self.processing_class)
        if getattr(self, "_task_was_seen", False):
            model.config.problem_type = self.problem_type
        return model

    # ---- One step ----

    def get_batch_samples(
        self, epoch_iterator: Iterator[Mapping[str, Any]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], int | Tensor]:
        """The micro-batches of one optimizer step, and how many examples all processes hold in them."""
        rows = None if _shares_out_unevenly(self.args) else self.train_dataset
        batches = [self._marked(batch, rows) for batch in islice(epoch_iterator, num_batches)]
        return batches, count_examples(batches, self.accelerator)

    def _marked(self, batch: Mapping[str, Any], rows: Any) -> dict[str, Any]:
        """The batch with its repeated examples marked, where the loader of these rows repeats some at their end."""
        fills_up = self.accelerator.even_batches and not self.args.dataloader_drop_last
        size = len(rows) if fills_up and rows is not None and has_length(rows) else None
        return mark_repeated(with_labels(batch), self.accelerator, size)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: int | Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """The objective in training, the task loss in evaluation.

        Args:
            model: The student, wrapped or not.
            inputs: A batch; it is not changed.
            return_outputs: Whether to return the student's outputs too.
            num_items_in_batch: Examples in the accumulated batch of all processes; only this batch's where left out.

        Returns:
            A scalar, scaled such that its sum over micro-batches, averaged over processes, is the mean over examples.
        """
        if model.training:
            wanted = self.distillation_objective.needs(self.teachers, self._progress())
        else:
            wanted = set() if has_labels(inputs.get("labels")) else self.able_to_answer(inputs)
            wanted &= self.distillation_objective.compared(self.teachers)
        step, outputs = self.look(model, inputs, wanted, features=model.training)
        if model.training:
            check_gradient(step.student.features)
            loss = self._training_loss(step, inputs.get(COUNTS), num_items_in_batch)
        else:
            loss = self._evaluated.add(step, self.distillation_objective, inputs.get(COUNTS))
        return (loss, outputs) if return_outputs else loss

    def look(
        self, model: nn.Module, inputs: Mapping[str, Any], wanted: Collection[str], features: bool
    ) -> tuple[StepView, Any]:
        teachers = {name: self.ask(name, inputs, features) for name in self.teachers if name in wanted}
        objective = self.distillation_objective
        transforms = objective.transforms(self._progress()) if model.training else {}
        with tapped(model, objective.student_layers() if features else (), transforms) as seen:
            outputs = model(**self.inputs_of_student(inputs))
        student, labels, mask = ModelView(logits_of(outputs), seen), inputs.get("labels"), inputs.get("attention_mask")
        view = StepView(
            student, teachers, labels, self._progress(), self._label_loss, mask,
            inputs.get(EXAMPLE_ID), self.examples, self.accelerator.autocast,
        )  # fmt: skip
        return view, outputs

    def _progress(self) -> float:
        return self.state.global_step / self.state.max_steps if self.state.max_steps > 0 else 0.0

    def _training_loss(self, step: StepView, counts: Tensor | None, examples: int | Tensor | None) -> Tensor:
        parts = self.parts(step)
        size = len(step.student.logits)
        # A scalar part is a mean over the batch; every other part has one value an example.
        rows = {name: one_per_example(name, part, size) for name, part in parts.items()}
        sums = torch.stack([row.sum() if counts is None else (row * counts).sum() for row in rows.values()])
        # The gradient of several processes is their mean, so each one's share is multiplied by their number.
        means = sums / size if examples is None else sums * (self.accelerator.num_processes / examples)
        self._components.add(tuple(parts), means.detach(), self.state.global_step)
        terms = self.distillation_objective.terms.values()
        if not means.requires_grad and all(term.weight.is_constant for term in terms):
            raise ValueError(
                "There is nothing to learn from: no labels in the batch, and no teacher with a weight > 0. Name the "
                "label column `labels`, or pass a teacher_model."
            )
        # Where only features count, or no term does yet, this gives the layers above them a gradient of 0.
        lacking = step.student.features or not means.requires_grad
        return means.sum() + (step.student.logits[:0].sum() if lacking else 0)

    def evaluation_loop(
        self, dataloader: DataLoader[Any], description: str, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any
    ) -> EvalLoopOutput:
        """As in ``Trainer``; the loss is the mean over the labelled examples, or over all where none has a label."""
        if self.is_in_train:
            share_buffers(self.model)  # after a training they are shared, and before one the same
        self._evaluated = EvaluationLoss(self.args.device)
        output = super().evaluation_loop(dataloader, description, *args, metric_key_prefix=metric_key_prefix, **kwargs)
        loss = self._evaluated.mean(self.accelerator)
        output.metrics.pop(f"{metric_key_prefix}_loss", None)
        if loss is not None:
            output.metrics[f"{metric_key_prefix}_loss"] = loss
        return output

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Loss, logits and labels of a batch. Nothing else that the model puts out is gathered."""
        rows = getattr(self.callback_handler.eval_dataloader, "dataset", None)
        inputs = self._prepare_inputs(self._marked(inputs, rows))
        labels = inputs.get("labels")
        if labels is not None and self.problem_type == SINGLE_LABEL:
            labels = inputs["labels"] = labels.masked_fill(labels < 0, NO_LABEL)  # -1 in the test splits of GLUE
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        loss = loss.detach()
        return (loss, None, None) if prediction_loss_only else (loss, logits_of(outputs).detach(), labels)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as ``Trainer`` does; beside ``loss`` stand its components, which add up to it, and their settings."""
        if "loss" in logs:
            components = self._components.drain(self.accelerator, self.state.global_step)
            settings = self.distillation_objective.settings_at(self._progress())
            logs = {"loss": logs["loss"], **components, **settings, **logs}
        super().log(logs, start_time)

    # ---- Before training ----

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Optimizer:
        """As in ``Trainer``. A training begins here, also where it begins again with smaller batches."""
        self._components = ComponentLog()
        return super().create_optimizer(*args, **kwargs)

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train as ``Trainer`` does, after scoring the teachers and comparing the settings with the checkpoint's."""
        last = get_last_checkpoint(self.args.output_dir) if resume_from_checkpoint is True else resume_from_checkpoint
        if last:
            self.warn_of_changes(last)
        self.score_teachers()
        if self.is_world_process_zero():
            remove_exports(self.args.output_dir)  # of the student that was trained there before
        output: TrainOutput = super().train(resume_from_checkpoint, *args, **kwargs)
        share_buffers(self.model)
        return output


def logits_of(outputs: Any) -> Tensor:
    """The logits among what a model puts out."""
    logits: Tensor = outputs["logits"] if isinstance(outputs, Mapping) else outputs[0]
    return logits


def _shares_out_unevenly(args: DistillationTrainingArguments) -> bool:
    """Whether processes get batches of unequal sizes, with no example twice."""
    return getattr(args, "train_sampling_strategy", None) == "batch_rebalance"
