"""Training what learns beside the student and is thrown away after: adapters, losses with weights, averages of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_distill.asking import AskingTrainer
from hf_distill.checkpoints import restore_renamed
from hf_distill.features import check_checkpointing, find_module
from hf_distill.objective import Objective
from hf_distill.randomness import isolated_randomness
from hf_distill.teachers import Teacher
from hf_distill.views import StepView

ADAPTERS_FILE = "_adapters.safetensors"
"""In every checkpoint of a training with adapters, and nowhere else: it is pushed only where whole checkpoints are."""

EXAMPLES_LOOKED_AT = 2
"""So many examples of the training set show which shapes the features have."""


class FollowCallback(TrainerCallback):
    """Shows the student to its teachers after each optimizer step.

    Args:
        teachers: Those of a trainer, by name.
    """

    def __init__(self, teachers: Mapping[str, Teacher]) -> None:
        self._teachers = teachers

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        """Before anything is saved or evaluated at this step."""
        for teacher in self._teachers.values():
            teacher.follow(model, state.global_step)


class AdaptingTrainer(AskingTrainer):
    """The part of :class:`~hf_distill.DistillationTrainer` that trains what learns beside the student.

    ``Trainer`` knows only the student. What an objective holds besides has to be put into its optimizer, averaged over
    processes, clipped together with the student's gradient, cleared after each step, saved and restored.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._beside: nn.ModuleDict | None = None
        self._cleared_at: int | None = None
        super().__init__(*args, **kwargs)

    @abstractmethod
    def look(
        self, model: nn.Module, inputs: Mapping[str, Any], wanted: Collection[str], features: bool
    ) -> tuple[StepView, Any]:
        """What the student and the wanted teachers show on a batch, and the student's outputs as they are."""

    @abstractmethod
    def new_objective(self) -> Objective:
        """The objective as it was given, with nothing learned yet, to be used from now on."""

    @property
    def trains_beside(self) -> bool:
        """Whether anything may have to learn beside the student."""
        return self.distillation_objective.may_train

    def check_layers(self) -> None:
        """Refuse an objective that looks inside the models where that cannot work.

        Raises:
            KeyError: a model has no module at a path.
            ValueError: a teacher is no live model, or the training is spread in a way that hides the features.
        """
        objective = self.distillation_objective
        for path in objective.student_layers():
            find_module(self.model, path)
        for name, teacher in self.teachers.items():
            for path in objective.teacher_layers(name):
                if teacher.live_model is not None:
                    find_module(teacher.live_model, path)
                elif path not in teacher.kept_features:
                    raise ValueError(
                        f"Teacher {teacher.name!r} has answers but no layers, and the objective looks at its {path!r}. "
                        "Pass the teacher as a model, or leave the feature terms out; a cache keeps them if told to, "
                        "cache_teacher(..., features=[...])."
                    )
        if objective.student_layers() and self.args.n_gpu > 1:
            raise ValueError(
                "Features cannot be collected from copies of the student in one process. Start one process a GPU, with "
                "torchrun --nproc_per_node, or show one GPU: CUDA_VISIBLE_DEVICES=0."
            )
        spread = self.is_fsdp_enabled or self.is_deepspeed_enabled
        if spread and any(teacher.follows_student for teacher in self.teachers.values()):
            raise ValueError(
                "A teacher that follows the student needs its whole weights, of which FSDP and DeepSpeed leave a part "
                "in each process. Use plain data parallelism with torchrun."
            )
        if self.trains_beside and spread:
            raise ValueError(
                "Adapters, losses with weights and generators cannot be trained under FSDP or DeepSpeed yet. Use plain "
                "data parallelism with torchrun; or FeatureTerm(..., adapt=False) where student and teacher agree in "
                "shape."
            )

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Optimizer:
        """As in ``Trainer``; what learns beside the student is made first and learns at the same rate."""
        if self.optimizer is None or self._beside is None:
            self._beside = self._made()
        self._cleared_at = None
        optimizer: Optimizer = super().create_optimizer(*args, **kwargs)
        learning = self._learning()
        if not learning:  # also where the optimizer only stands for one that DeepSpeed will make
            return optimizer
        known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        new = [parameter for parameter in learning if id(parameter) not in known]
        if new and self.lr_scheduler is not None and not self._created_lr_scheduler:
            raise ValueError(
                "The scheduler in optimizers=(optimizer, scheduler) was made before the adapters, and does not know "
                "them. Pass optimizers=(optimizer, None) and let lr_scheduler_type make it, or leave adapters out."
            )
        for group in self.groups_beside(new):
            if group["params"]:
                optimizer.add_param_group(group)
        return optimizer

    def groups_beside(self, parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
        """Groups of the optimizer for what learns beside the student; matrices decay as the student's do."""
        return [
            {"params": [one for one in parameters if one.dim() > 1], "weight_decay": self.args.weight_decay},
            {"params": [one for one in parameters if one.dim() <= 1], "weight_decay": 0.0},
        ]

    def _made(self) -> nn.ModuleDict:
        followers = {name: teacher for name, teacher in self.teachers.items() if teacher.follows_student}
        for teacher in followers.values():
            teacher.begin(self.model)
        objective = self.new_objective()
        with isolated_randomness():
            if objective.student_layers():
                step = self.first_look()
                self._check_tokens(step)
                torch.manual_seed(self.args.seed)  # the same on every process
                objective.prepare(step)
        averages = {f"{name}_teacher".replace(".", "_"): teacher.models()[0] for name, teacher in followers.items()}
        return nn.ModuleDict({**objective.trained.train(), **averages}).to(self.args.device)

    def first_look(self) -> StepView:
        """What the models show on the first examples of the training set, with all features and without gradient."""
        batch = self._prepare_inputs(next(self.collated(self.first_rows(EXAMPLES_LOOKED_AT))))
        training = self.model.training
        try:
            with torch.no_grad():
                return self.look(self.model.eval(), batch, self.teachers, features=True)[0]
        finally:
            self.model.train(training)

    def _check_tokens(self, step: StepView) -> None:
        """Refuse a teacher that cuts the text into other tokens than the student, where tokens are compared."""
        for name, view in step.teachers.items():
            for path, feature in view.features.items():
                if step.mask is not None and self.teachers[name].own_tokens and feature.dim() == 3:
                    raise ValueError(
                        f"Teacher {self.teachers[name].name!r} reads tokens of its own, so that its {path!r} does not "
                        "lie beside the student's tokens. Look at modules with one vector an example, as a pooler."
                    )

    def _learning(self) -> list[nn.Parameter]:
        everything = () if self._beside is None else self._beside.parameters()
        return [parameter for parameter in everything if parameter.requires_grad]

    def training_step(self, model: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """As in ``Trainer``, with gradients beside the student cleared before a step and averaged at its end."""
        if self._beside is None and self.trains_beside:
            raise ValueError(
                f"What learns beside the student is in no optimizer, as {type(self).__name__} has a create_optimizer "
                "of its own. Let it set self.optimizer, and return super().create_optimizer(), which adds them."
            )
        learning = self._learning()
        if self._cleared_at is None and self.distillation_objective.student_layers():
            check_checkpointing(self.model)  # at the first step, before which Trainer may still switch it on
        if self._cleared_at != self.state.global_step:
            self._cleared_at = self.state.global_step
            for parameter in learning:
                parameter.grad = None
        loss: Tensor = super().training_step(model, *args, **kwargs)
        if self.accelerator.sync_gradients and self.accelerator.num_processes > 1:
            for parameter in learning:
                if parameter.grad is not None:
                    parameter.grad = self.accelerator.reduce(parameter.grad, reduction="mean")
        return loss

    def create_accelerator_and_postprocess(self) -> None:
        """As in ``Trainer``, which clips by what it makes here: student and what learns beside it by one norm."""
        super().create_accelerator_and_postprocess()
        clip = self.accelerator.clip_grad_norm_

        def clip_with_beside(parameters: Iterable[Tensor], *args: Any, **kwargs: Any) -> Any:
            return clip([*parameters, *self._learning()], *args, **kwargs)

        self.accelerator.clip_grad_norm_ = clip_with_beside

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict)
        folder = Path(output_dir or self.args.output_dir)
        is_checkpoint = folder.name.startswith(f"{PREFIX_CHECKPOINT_DIR}-")
        if self.args.should_save and is_checkpoint and self._beside is not None and self._beside.state_dict():
            safetensors.torch.save_model(self._beside, str(folder / ADAPTERS_FILE))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        self._restore(checkpoint)  # first, because its message says more than the optimizer's
        super()._load_optimizer_and_scheduler(checkpoint)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        restore_renamed(self.model if model is None else model, resume_from_checkpoint)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        best = self.state.best_model_checkpoint
        if best is not None and Path(best).is_dir():  # else Trainer has said that it is gone, and goes on
            restore_renamed(self.model, best)
            self._restore(best)

    def _restore(self, checkpoint: str | None) -> None:
        if checkpoint is None or self._beside is None or not self._beside.state_dict():
            return
        file = Path(checkpoint) / ADAPTERS_FILE
        if not file.is_file():
            raise ValueError(
                f"{checkpoint} was saved by a training without adapters, or what else learns beside the student, and "
                "here there is some. Go on with the objective and the teachers that it was trained with, or start anew "
                "from its weights."
            )
        with safetensors.safe_open(file, "pt") as saved:
            ours, theirs = ({key.split(".")[0] for key in keys} for keys in (self._beside.state_dict(), saved.keys()))
        if ours != theirs:
            raise ValueError(
                f"What learns beside the student, {sorted(ours)}, is not what {checkpoint} was saved with, "
                f"{sorted(theirs)}. Go on with the objective and the teachers that it was trained with, or start anew "
                "from its weights."
            )
        safetensors.torch.load_model(self._beside, str(file))
