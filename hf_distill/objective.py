"""What is minimised: a sum of named terms, each a loss with a weight.

This file knows no particular loss. It is handed loss objects and applies them to a
:class:`~hf_distill.views.StepView`.
"""

from __future__ import annotations

import difflib
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from hf_distill.features import Transforms
from hf_distill.schedules import Schedule, as_schedule
from hf_distill.views import ModelView, StepView

LONG_NUMBER = re.compile(r"(?<![\w.])\d+\.\d{6,}(?:e[+-]?\d+)?")
"""What arithmetic leaves of a round one, such as 0.09999999999999998."""


class Term(ABC):
    """One summand of an objective: something to compute on a step, and a weight.

    Args:
        weight: How much of it goes into the loss; a number or a schedule, never negative.
    """

    def __init__(self, weight: float | Schedule = 1.0) -> None:
        self.weight = as_schedule(weight)
        for progress in (0.0, 1.0):
            if not 0.0 <= self.weight(progress) < float("inf"):
                raise ValueError(f"A term's weight must be a finite number >= 0, got {weight}.")

    @abstractmethod
    def compute(self, step: StepView) -> Tensor:
        """The unweighted loss: ``(B,)``, or a scalar that stands for the mean of the batch."""

    def check_teachers(self, names: Collection[str]) -> None:
        """Raise when this term needs a teacher that is not among ``names``."""

    def needs(self, names: Collection[str]) -> set[str]:
        """Which of the teachers in ``names`` this term looks at."""
        return set()

    def student_layers(self) -> set[str]:
        """Paths of the student's modules whose output this term looks at."""
        return set()

    def teacher_layers(self, name: str) -> set[str]:
        """Paths of the modules of the teacher called ``name`` whose output this term looks at."""
        return set()

    def transforms(self) -> Transforms:
        """What the student goes on with, in training, in place of the output of modules that this term looks at."""
        return {}

    def temperature(self, progress: float) -> float | None:
        """What this term's loss softens with at this point of the training; ``None`` without one, or with several."""
        losses = (getattr(self, "loss", None), *self.trained.modules())
        found = (getattr(loss, "temperature", None) for loss in losses)
        return next(
            (as_schedule(given)(progress) for given in found if isinstance(given, Schedule | float | int)), None
        )

    @property
    def compares_classes(self) -> bool:
        """Whether it takes the student's outputs for those of one task, as a softmax over all of them does."""
        return False

    @property
    def needs_example_ids(self) -> bool:
        """Whether this term must know which examples of the training set a batch has."""
        return False

    def prepare(self, step: StepView) -> None:
        """Make what must be trained beside the student, from the shapes on some batch."""

    @property
    def trained(self) -> nn.ModuleDict:
        """The modules that this term holds. Their weights, if any, learn beside the student and are saved apart."""
        return nn.ModuleDict({name: held for name, held in vars(self).items() if isinstance(held, nn.Module)})

    @property
    def may_train(self) -> bool:
        """Whether anything may have to learn beside the student, as far as can be told before any batch."""
        return any(parameter.requires_grad for parameter in self.trained.parameters())


class LabelTerm(Term):
    """The loss against the true labels.

    Args:
        weight: A number or a schedule.
        loss: ``loss(logits, labels)`` gives ``(B,)``, 0 where a label is ``-100``. Left out, it is what the student's
            own head would compute for this kind of task, with the label smoothing of the training arguments.

    A batch without labels contributes 0.
    """

    def __init__(self, weight: float | Schedule = 1.0, loss: Callable[[Tensor, Tensor], Tensor] | None = None) -> None:
        super().__init__(weight)
        self.loss = loss

    def compute(self, step: StepView) -> Tensor:
        if step.labels is None:
            return step.student.logits.new_zeros(len(step.student.logits), dtype=torch.float32)
        loss = self.loss or step.label_loss
        if loss is None:
            raise ValueError(
                "LabelTerm has no loss: pass loss=ClassificationLoss(), or put label_loss in the StepView."
            )
        return loss(step.student.logits, step.labels)

    @property
    def compares_classes(self) -> bool:
        return self.loss is not None

    def __repr__(self) -> str:
        return f"LabelTerm(weight={self.weight}{'' if self.loss is None else f', loss={self.loss}'})"


class TeacherTerm(Term):
    """A term that follows a teacher.

    Args:
        weight: A number or a schedule.
        teacher: The name of the teacher to follow. May be left out when there is only one.
    """

    def __init__(self, weight: float | Schedule = 1.0, teacher: str | None = None) -> None:
        super().__init__(weight)
        self.teacher = teacher

    def followed(self, step: StepView) -> ModelView:
        """What the teacher showed."""
        return step.teachers[self.teacher or next(iter(step.teachers))]

    def check_teachers(self, names: Collection[str]) -> None:
        if not names:
            raise ValueError(f"{self} needs a teacher: pass `teacher_model`, or leave the term out.")
        if self.teacher is None and len(names) > 1:
            raise ValueError(f"{self} must say which of the teachers {sorted(names)} it follows: teacher=NAME.")
        if self.teacher is not None and self.teacher not in names:
            close = difflib.get_close_matches(self.teacher, names) or sorted(names)
            raise KeyError(f"No teacher is named {self.teacher!r}; did you mean {' or '.join(map(repr, close))}?")

    def needs(self, names: Collection[str]) -> set[str]:
        return {self.teacher} if self.teacher is not None else set(names)

    def _settings(self) -> str:
        return f"weight={self.weight}" + (f", teacher={self.teacher!r}" if self.teacher is not None else "")


class LogitTerm(TeacherTerm):
    """The loss against a teacher's logits.

    Args:
        loss: A :class:`~hf_distill.losses.PairLoss`, such as ``SoftTargetLoss(4.0)``.
        weight: A number or a schedule.
        teacher: The name of the teacher to follow. May be left out when there is only one.
    """

    def __init__(self, loss: Callable[..., Tensor], weight: float | Schedule = 1.0, teacher: str | None = None) -> None:
        super().__init__(weight, teacher)
        self.loss = loss

    def compute(self, step: StepView) -> Tensor:
        logits = self.followed(step).logits
        return self.loss(step.student.logits, logits, labels=step.labels, progress=step.progress)

    @property
    def compares_classes(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"LogitTerm({self.loss}, {self._settings()})"


class Objective:
    """A weighted sum of terms. Each keyword is a term's name in the logs, the model card and ``objective.json``.

    Args:
        **terms: At least one :class:`Term`.

    Raises:
        ValueError: there is no term, or a name would collide with another key of the logs, or two terms would change
            the output of one module.
        TypeError: one is no term, such as a loss by itself.

    Example:
        >>> import torch
        >>> from hf_distill.losses import ClassificationLoss, SoftTargetLoss
        >>> objective = Objective(
        ...     ce=LabelTerm(weight=0.3, loss=ClassificationLoss()),
        ...     kd=LogitTerm(SoftTargetLoss(temperature=4.0), weight=0.7),
        ... )
        >>> view = ModelView(logits=torch.tensor([[0.0, 0.0]]))
        >>> parts = objective(StepView(student=view, teachers={"teacher": view}, labels=torch.tensor([1])))
        >>> {name: round(part.item(), 3) for name, part in parts.items()}
        {'ce': 0.208, 'kd': 0.0}
    """

    RESERVED = frozenset({"loss", "grad_norm", "learning_rate", "epoch", "step", "num_input_tokens_seen"})
    SETTINGS = ("weight", "temperature")
    """What the logs say of each term beside its loss, as ``NAME_weight`` and ``NAME_temperature``."""

    def __init__(self, **terms: Term) -> None:
        if not terms:
            raise ValueError("An objective needs at least one term.")
        for name, term in terms.items():
            if not isinstance(term, Term):
                raise TypeError(f"{name}={term!r} is no term: wrap a loss, {name}=LogitTerm({term!r}, weight=1.0).")
        if taken := self.RESERVED.intersection(terms):
            raise ValueError(f"{sorted(taken)} would overwrite the Trainer's own log entries: choose other term names.")
        if logged := {f"{name}_{setting}" for name in terms for setting in self.SETTINGS}.intersection(terms):
            raise ValueError(
                f"{sorted(logged)} would overwrite what is logged of another term: choose other term names."
            )
        if len({name.replace(".", "_") for name in terms}) < len(terms):  # see `trained`
            raise ValueError(f"Among {sorted(terms)} two differ by a dot alone: choose other term names.")
        transformed = Counter(path for term in terms.values() for path in term.transforms())
        if twice := sorted(path for path, count in transformed.items() if count > 1):
            raise ValueError(f"Two terms change what {twice} put out: leave one of them out, or name another module.")
        self.terms = terms

    def __call__(self, step: StepView, features: bool = True) -> dict[str, Tensor]:
        """The weighted loss of each term: ``(B,)``, or a scalar that stands for the mean of the batch.

        A term whose weight is 0 at this point of the training is not computed.

        Args:
            step: What the models showed.
            features: Whether to compute the terms that look inside the models. Without it is an evaluation: they are
                left out, and each term has the larger of the weights with which the training begins and ends, so that
                two evaluations compare.
        """
        parts = {}
        for name, term in self.terms.items():
            if not features and term.student_layers():
                continue
            weight = term.weight(step.progress) if features else max(map(term.weight, (0.0, 1.0)))
            if weight == 0.0:
                parts[name] = step.student.logits.new_zeros(len(step.student.logits), dtype=torch.float32)
            else:
                parts[name] = weight * term.compute(step)
        return parts

    def needs(self, names: Collection[str], progress: float) -> set[str]:
        """Which of the teachers in ``names`` have to be asked at this point of the training."""
        return {name for term in self.terms.values() if term.weight(progress) != 0.0 for name in term.needs(names)}

    def followed(self, names: Collection[str]) -> set[str]:
        """Which of the teachers in ``names`` some term looks at, whatever its weight."""
        return {name for term in self.terms.values() for name in term.needs(names)}

    def compared(self, names: Collection[str]) -> set[str]:
        """Which of the teachers in ``names`` some term compares the student with without a look inside the models."""
        terms = [term for term in self.terms.values() if not term.student_layers()]
        return {name for term in terms for name in term.needs(names)}

    def check_teachers(self, names: Collection[str]) -> None:
        """Raise when a term follows a teacher that is not there.

        Raises:
            ValueError: a term needs a teacher and there is none, or several and it does not say which.
            KeyError: a term names a teacher that does not exist.
        """
        for term in self.terms.values():
            term.check_teachers(names)

    def student_layers(self) -> set[str]:
        """Paths of the student's modules whose output some term looks at."""
        return {path for term in self.terms.values() for path in term.student_layers()}

    def teacher_layers(self, name: str) -> set[str]:
        """Paths of the modules of the teacher called ``name`` whose output some term looks at."""
        return {path for term in self.terms.values() for path in term.teacher_layers(name)}

    def transforms(self, progress: float) -> Transforms:
        """What the student goes on with in place of the output of some modules, at this point of the training."""
        terms = [term for term in self.terms.values() if term.weight(progress) != 0.0]
        return {path: transform for term in terms for path, transform in term.transforms().items()}

    def prepare(self, step: StepView) -> None:
        """Make what must be trained beside the student, from the shapes on some batch."""
        for term in self.terms.values():
            term.prepare(step)

    @property
    def trained(self) -> nn.ModuleDict:
        """What every term holds, under ``NAME_term``, to be trained and saved beside the student."""
        # A name may be that of a teacher, model-v1.5 for instance, and torch forbids dots.
        return nn.ModuleDict({f"{name}_term".replace(".", "_"): term.trained for name, term in self.terms.items()})

    @property
    def may_train(self) -> bool:
        """Whether anything may have to learn beside the student."""
        return any(term.may_train for term in self.terms.values())

    @property
    def needs_example_ids(self) -> bool:
        """Whether some term must know which examples of the training set a batch has."""
        return any(term.needs_example_ids for term in self.terms.values())

    def settings_at(self, progress: float) -> dict[str, float]:
        """Weight and temperature of each term at a point of the training, for the logs.

        Args:
            progress: From 0 to 1.

        Returns:
            ``NAME_weight`` of each term, and ``NAME_temperature`` where its loss has one.

        Example:
            >>> from hf_distill.losses import SoftTargetLoss
            >>> from hf_distill.schedules import linear
            >>> objective = Objective(ce=LabelTerm(linear(0.8, 0.0)), kd=LogitTerm(SoftTargetLoss(temperature=4.0)))
            >>> objective.settings_at(0.5)
            {'ce_weight': 0.4, 'kd_weight': 1.0, 'kd_temperature': 4.0}
        """
        settings: dict[str, float] = {}
        for name, term in self.terms.items():
            settings[f"{name}_weight"] = term.weight(progress)
            if (temperature := term.temperature(progress)) is not None:
                settings[f"{name}_temperature"] = temperature
        return settings

    def describe(self) -> dict[str, str]:
        """Each term in words, for ``objective.json`` and the model card; numbers have at most six digits.

        Example:
            >>> Objective(ce=LabelTerm(1 - 0.9)).describe()
            {'ce': 'LabelTerm(weight=0.1)'}
        """
        return {
            name: LONG_NUMBER.sub(lambda found: str(float(f"{float(found[0]):.6g}")), repr(term))
            for name, term in self.terms.items()
        }
