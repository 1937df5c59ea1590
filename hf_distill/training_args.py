"""The settings of a distillation, next to all those of ``transformers.TrainingArguments``."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Any

from transformers import TrainingArguments

NOT_ABOUT_THE_RESULT = (
    *("output_dir", "log", "hub_", "push_", "run_name", "project", "report_to", "disable_tqdm", "save_", "do_"),
    *("dataloader_num", "dataloader_pin", "dataloader_persistent", "dataloader_prefetch", "per_device_eval", "eval_"),
    *("resume_from_checkpoint", "use_cpu", "ddp_", "trackio", "teacher_score_examples"),
)
"""Beginnings of the names of arguments that may change without a new training."""


@dataclass
class DistillationTrainingArguments(TrainingArguments):
    r"""``TrainingArguments`` with the numbers of a distillation, so that they can be parsed, logged and searched.

    Without an explicit ``objective`` the trainer minimises

    .. math:: (1 - w)\, \mathrm{CE}(z_s, y) + w\, T^2\, \mathrm{KL}(p ‖ q), \quad
        p = \mathrm{softmax}(z_t / T), \; q = \mathrm{softmax}(z_s / T)

    Args:
        temperature: Softening T of both distributions, dimensionless, > 0.
        distillation_weight: Share w of the loss that comes from the teacher, in [0, 1]; the labels get the rest.
        teacher_dtype: Precision in which a teacher given by name is loaded; as saved when left out.
        teacher_score_examples: How many training examples the teacher is scored on before training. A teacher
            near chance is an error. 0 switches the check off.

    Raises:
        ValueError: a setting is outside its range; the message names it.

    Example:
        >>> args = DistillationTrainingArguments("out", temperature=4.0, distillation_weight=0.7, use_cpu=True)
        >>> args.temperature
        4.0
    """

    temperature: float = field(
        default=2.0,
        metadata={"help": "Softens the teacher's and the student's probabilities; > 0, and 1 leaves them as they are."},
    )
    distillation_weight: float = field(
        default=0.5,
        metadata={"help": "Share of the loss that comes from the teacher, from 0 to 1; the labels get the rest."},
    )
    teacher_dtype: str | None = field(
        default=None,
        metadata={
            "help": "Precision in which a teacher given by name is loaded; as it was saved if left out.",
            "choices": ["float32", "bfloat16", "float16"],
        },
    )
    teacher_score_examples: int = field(
        default=512,
        metadata={"help": "Training examples on which the teacher is scored before training; 0 skips the check."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self.temperature, self.distillation_weight)
        # A search casts what it tries to the type of what was there, and would cut 3.7 down to 3 in place of a 4.
        self.temperature, self.distillation_weight = float(self.temperature), float(self.distillation_weight)
        if self.teacher_score_examples < 0:
            raise ValueError(f"teacher_score_examples must be >= 0, got {self.teacher_score_examples}.")
        if self.teacher_dtype not in (None, "float32", "bfloat16", "float16"):
            raise ValueError(f"teacher_dtype must be float32, bfloat16 or float16, got {self.teacher_dtype!r}.")
        if self.fp16 and self.device.type == "cpu":
            raise ValueError("fp16 does nothing on a CPU: use bf16=True there, or leave both out for float32.")

    def __getstate__(self) -> dict[str, Any]:
        """Leave the token out of ``training_args.bin``, which is published with the model."""
        return {**self.__dict__, "hub_token": None}

    def __copy__(self) -> DistillationTrainingArguments:
        """A copy in memory keeps the token."""
        return self._with_state(dict(self.__dict__))

    def __deepcopy__(self, memo: dict[int, Any]) -> DistillationTrainingArguments:
        """A copy in memory keeps the token."""
        return self._with_state(copy.deepcopy(self.__dict__, memo))

    def _with_state(self, state: dict[str, Any]) -> DistillationTrainingArguments:
        made = object.__new__(type(self))
        made.__dict__.update(state)
        return made


def about_result(args: TrainingArguments) -> dict[str, Any]:
    """The arguments on which a trained model depends, as plain data: no folders, logs, saves and pushes."""
    return {name: value for name, value in args.to_dict().items() if not name.startswith(NOT_ABOUT_THE_RESULT)}


def check_settings(temperature: float, distillation_weight: float) -> None:
    """Raise where a temperature or a weight makes no sense; also for values that a search has set.

    Raises:
        ValueError: ``temperature`` is not > 0 or ``distillation_weight`` is outside [0, 1].
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature must be a finite number > 0, got {temperature}.")
    if not 0.0 <= distillation_weight <= 1.0:
        raise ValueError(
            f"distillation_weight is the teacher's share of the loss and must lie in [0, 1], got {distillation_weight}."
        )
