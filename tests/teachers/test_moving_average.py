"""The moving average of the student as its teacher; expected values are averaged here by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor
from transformers import TrainerCallback, default_data_collator

from hf_distill import (
    DistillationTrainer,
    EnsembleTeacher,
    ExitTerm,
    LabelTerm,
    LogitTerm,
    MovingAverageTeacher,
    Objective,
    cache_teacher,
    constant,
)
from hf_distill.losses import SoftTargetLoss
from hf_distill.recipe import train_run


class Weights(TrainerCallback):
    """Keeps the student's weights at the start and after each step."""

    def __init__(self) -> None:
        self.kept: list[dict[str, Tensor]] = []

    def on_train_begin(self, *_: Any, model: Any, **__: Any) -> None:
        self.kept.append({name: value.clone() for name, value in model.state_dict().items()})

    on_step_end = on_train_begin


class Stop(TrainerCallback):
    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = True


def trainer(folder: Path, model: Any = None, callbacks: Any = (), decay: float = 0.6, **changes: Any) -> Any:
    arguments = {"learning_rate": 1e-2, "max_steps": 6, "save_strategy": "steps", "save_steps": 3, **changes}
    extra = {} if model is None else {"model": model}
    return DistillationTrainer(
        **extra or {"model_init": lambda: tiny.bert(dropout=0.1)},
        args=tiny.arguments(folder, **arguments),
        train_dataset=tiny.dataset("vgg" if getattr(model, "main_input_name", "") == "pixel_values" else "bert"),
        eval_dataset=tiny.dataset(rows=8),
        teacher_model=MovingAverageTeacher(decay),
        objective=Objective(ce=LabelTerm(), mean_teacher=LogitTerm(SoftTargetLoss(), weight=0.5)),
        callbacks=list(callbacks),
    )


def averaged(kept: list[dict[str, Tensor]], decay: float) -> dict[str, Tensor]:
    average = kept[0]
    for step, weights in enumerate(kept[1:], start=1):
        share = min(decay, step / (step + 1))
        average = {name: share * average[name] + (1 - share) * weights[name] for name in average}
    return average


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor], **tolerance: Any) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], **tolerance)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_it_is_the_average_of_the_students_weights_step_by_step(tmp_path: Path, accumulation: int) -> None:
    weights = Weights()
    training = trainer(tmp_path, tiny.bert(), [weights], gradient_accumulation_steps=accumulation)
    training.train()
    assert len(weights.kept) == 7
    assert_same(averaged(weights.kept, 0.6), training.teachers["teacher"].model.state_dict())
    assert not training.teachers["teacher"].model.training


def test_it_teaches_what_it_knows_at_each_step(tmp_path: Path) -> None:
    """The part of the loss that it has is that of a model with these averaged weights."""
    weights, student = Weights(), tiny.bert()
    training = trainer(tmp_path, student, [weights], max_steps=3)
    training.train()
    batch = tiny.dataset().with_format("torch")[16:24]
    del batch["labels"]
    logits = []
    for known in (weights.kept[2], averaged(weights.kept[:3], 0.6)):
        model = tiny.bert()
        model.load_state_dict(known)
        logits.append(model.eval()(**batch).logits)
    expected = 0.5 * SoftTargetLoss()(*logits).mean()
    assert training.state.log_history[2]["mean_teacher"] == pytest.approx(expected.item(), rel=1e-5)
    assert expected > 1e-4


def test_statistics_of_batch_normalisation_are_the_students(tmp_path: Path) -> None:
    training = trainer(tmp_path, tiny.vgg(batch_norm=True))
    training.train()
    ours, students = (dict(model.named_buffers()) for model in (training.teachers["teacher"].model, training.model))
    assert any(name.endswith("running_mean") and value.abs().sum() > 0 for name, value in ours.items())
    assert_same(ours, students, rtol=0, atol=0)


def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole")
    whole.train()
    trainer(tmp_path / "cut", callbacks=[Stop()]).train()
    resumed = trainer(tmp_path / "cut")
    resumed.train(resume_from_checkpoint=True)
    assert_same(whole.model.state_dict(), resumed.model.state_dict(), rtol=0, atol=0)
    ours, theirs = (one.teachers["teacher"].model.state_dict() for one in (whole, resumed))
    assert_same(ours, theirs, rtol=0, atol=0)


def test_the_best_students_average_comes_back_with_it(tmp_path: Path) -> None:
    weights = Weights()
    training = trainer(
        tmp_path, tiny.bert(), [weights], load_best_model_at_end=True, eval_strategy="steps", eval_steps=3,
        metric_for_best_model="eval_loss", greater_is_better=True,
    )  # fmt: skip
    training.train()
    best = int(training.state.best_model_checkpoint.rsplit("-", 1)[1])
    assert best == 3
    assert_same(averaged(weights.kept[: best + 1], 0.6), training.teachers["teacher"].model.state_dict())


def test_every_new_student_begins_an_average_of_its_own(tmp_path: Path) -> None:
    """A search makes a student for each trial, and none of them may learn from the one before."""
    weights = Weights()
    training = trainer(tmp_path, callbacks=[weights], max_steps=2, save_strategy="no")
    training.train()
    training.optimizer = training.lr_scheduler = None  # as hyperparameter_search does
    training.train()
    assert_same(averaged(weights.kept[3:], 0.6), training.teachers["teacher"].model.state_dict())


def test_each_trainer_has_an_average_of_its_own(tmp_path: Path) -> None:
    given, found = MovingAverageTeacher(0.6), []
    for seed in (0, 1):
        model, rows = tiny.bert(seed=seed), tiny.dataset()
        args = tiny.arguments(tmp_path, max_steps=2, learning_rate=1e-2)
        found.append(DistillationTrainer(model, args, train_dataset=rows, teacher_model=given))
        found[-1].train()
    first, second = (one.teachers["teacher"].model for one in found)
    assert not torch.equal(first.classifier.weight, second.classifier.weight)


class Looker(TrainerCallback):
    """Notes what the average is at each step."""

    def __init__(self) -> None:
        self.trainer: Any = None
        self.seen: list[Tensor] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seen.append(self.trainer.teachers["teacher"].model.classifier.weight.clone())


def test_callbacks_see_the_average_of_their_step(tmp_path: Path) -> None:
    weights, looker = Weights(), Looker()
    looker.trainer = trainer(tmp_path, tiny.bert(), [weights, looker], max_steps=2)
    looker.trainer.train()
    for step in (1, 2):
        expected = averaged(weights.kept[: step + 1], 0.6)["classifier.weight"]
        torch.testing.assert_close(looker.seen[step - 1], expected)


def test_it_does_not_judge_the_student_where_there_are_no_labels(tmp_path: Path) -> None:
    """The two are nearly the same at the start: the best of all checkpoints would be the first."""
    training = trainer(tmp_path, tiny.bert(), decay=0.9)
    training.train()
    assert "eval_loss" not in training.evaluate(tiny.dataset(rows=8).remove_columns("labels"))


def test_a_checkpoint_of_another_teacher_is_not_resumed(tmp_path: Path) -> None:
    objective = Objective(ce=LabelTerm(), exits=ExitTerm("bert.encoder.layer.0"))
    args = tiny.arguments(tmp_path, max_steps=6, save_strategy="steps", save_steps=3)
    before = DistillationTrainer(tiny.bert(), args, train_dataset=tiny.dataset(), objective=objective)
    before.train()
    with pytest.raises(ValueError, match=r"beside the student, \['teacher_teacher'\], is not what .*\['exits_term'\]"):
        trainer(tmp_path, tiny.bert(), max_steps=9).train(resume_from_checkpoint=True)


def test_an_average_that_is_never_asked_is_ready_to_be_used(tmp_path: Path) -> None:
    training = trainer(tmp_path, tiny.bert())
    training.distillation_objective.terms["mean_teacher"].weight = constant(0.0)
    training.train()
    assert not training.teachers["teacher"].model.training


def test_a_finished_run_would_not_have_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not kept with a finished run"):
        train_run(
            "student", tiny.bert, tiny.arguments(tmp_path), tiny.dataset(), None, processing_class=None,  # type: ignore[arg-type]
            collator=default_data_collator, teacher=MovingAverageTeacher(), about={},
        )  # fmt: skip


def test_the_saved_student_has_no_trace_of_it(tmp_path: Path) -> None:
    training = trainer(tmp_path, tiny.bert())
    training.train()
    training.save_model()
    saved = tiny.bert().from_pretrained(tmp_path)
    assert_same(saved.state_dict(), training.model.state_dict())
    assert not list(tmp_path.glob("_adapters*"))


def test_it_is_not_scored_before_it_can_know_anything(tmp_path: Path) -> None:
    training = trainer(tmp_path, tiny.bert(), teacher_score_examples=36)
    assert training.score_teachers() == {}
    training.train()


def test_a_student_in_few_digits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"torch.bfloat16, in which an average does not move.*torch.float32"):
        trainer(tmp_path, tiny.bert().bfloat16())


def test_frozen_weights_may_have_few_digits(tmp_path: Path) -> None:
    student = tiny.bert()
    student.bert.embeddings.bfloat16().requires_grad_(False)
    teacher, before = MovingAverageTeacher(), student.classifier.weight.detach().clone()
    teacher.begin(student)
    student.classifier.weight.data += 1.0
    teacher.follow(student, 1)
    torch.testing.assert_close(teacher.model.classifier.weight, before + 0.5)
    assert teacher.model.bert.embeddings.word_embeddings.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_that_is_none_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=f"decay must be at least 0 and below 1, got {decay}"):
        MovingAverageTeacher(decay)


def test_it_is_no_part_of_an_ensemble_and_not_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no part of an ensemble"):
        EnsembleTeacher([tiny.bert(), MovingAverageTeacher()])
    with pytest.raises(TypeError, match="changes with every step"):
        cache_teacher(tiny.dataset(), MovingAverageTeacher(), tmp_path / "answers")


@pytest.mark.parametrize("setting", ["is_fsdp_enabled", "is_deepspeed_enabled"])
def test_it_is_refused_where_weights_are_spread(tmp_path: Path, setting: str) -> None:
    training = trainer(tmp_path, tiny.bert())
    setattr(training, setting, True)
    with pytest.raises(ValueError, match="FSDP and DeepSpeed leave a part"):
        training.check_layers()
