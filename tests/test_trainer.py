"""What a Trainer subclass must honour, each point on a model that trains in a fraction of a second."""

from __future__ import annotations

import copy
import json
import logging
import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import tiny
import torch
from accelerate.utils.deepspeed import DummyOptim
from datasets import ClassLabel
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

from hf_distill import (
    DistillationTrainer,
    EnsembleTeacher,
    LabelTerm,
    LogitTerm,
    ModelTeacher,
    Objective,
    cosine,
    linear,
    warmup,
)
from hf_distill.batches import COUNTS, TEACHER_INPUTS
from hf_distill.losses import HardTargetLoss, PairLoss, SoftTargetLoss


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_identical(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


def losses(trainer: Trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


# ---- What the two numbers mean ----


def plain_fine_tuning(rows: Any, steps: int, batch: int, rate: float) -> dict[str, Tensor]:
    """Cross-entropy and SGD written out, for comparison."""
    model = tiny.bert().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for step in range(steps):
        inputs = rows.with_format("torch")[step * batch : (step + 1) * batch]
        labels = inputs.pop("labels")
        F.cross_entropy(model(**inputs).logits, labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    return weights(model)


@pytest.mark.parametrize("teacher", [False, True])
@pytest.mark.parametrize("accumulation", [1, 4])
def test_without_a_teachers_share_it_is_plain_fine_tuning(tmp_path: Path, teacher: bool, accumulation: int) -> None:
    student, rows = tiny.bert(), tiny.dataset(rows=32)
    args = tiny.arguments(
        tmp_path,
        distillation_weight=0.0 if teacher else 0.5,
        num_train_epochs=1,
        per_device_train_batch_size=16 // accumulation,
        gradient_accumulation_steps=accumulation,
        lr_scheduler_type="constant",
        learning_rate=0.1,
        optim="sgd",
    )
    trainer = DistillationTrainer(
        student, args, train_dataset=rows, teacher_model=tiny.bert(seed=1) if teacher else None
    )
    trainer.train()
    expected = plain_fine_tuning(rows, steps=2, batch=16, rate=0.1)
    for name, value in student.state_dict().items():
        torch.testing.assert_close(value, expected[name], atol=2e-6, rtol=1e-5)


def test_without_a_teachers_share_the_teacher_is_not_asked(tmp_path: Path) -> None:
    teacher = tiny.bert(seed=1)
    teacher.forward = lambda *_, **__: pytest.fail("the teacher was asked")
    args = tiny.arguments(tmp_path, distillation_weight=0.0, max_steps=1)
    DistillationTrainer(tiny.bert(), args, train_dataset=tiny.dataset(), teacher_model=teacher).train()


def test_a_full_share_ignores_the_labels(tmp_path: Path) -> None:
    rows = tiny.dataset()
    other = rows.map(lambda row: {"labels": (row["labels"] + 1) % 3})
    trained = []
    for data in (rows, other, rows.remove_columns("labels")):
        student = tiny.bert()
        args = tiny.arguments(tmp_path, distillation_weight=1.0, max_steps=3)
        trainer = DistillationTrainer(student, args, train_dataset=data, teacher_model=tiny.bert(seed=1))
        trainer.train()
        assert all("ce" not in entry and entry["kd"] == entry["loss"] for entry in trainer.state.log_history[:-1])
        trained.append(weights(student))
    assert_identical(trained[0], trained[1])
    assert_identical(trained[0], trained[2])


def test_a_student_equal_to_its_teacher_has_no_loss(tmp_path: Path) -> None:
    student = tiny.bert()
    args = tiny.arguments(tmp_path, distillation_weight=1.0, max_steps=2, learning_rate=0.0)
    trainer = DistillationTrainer(student, args, train_dataset=tiny.dataset(), teacher_model=copy.deepcopy(student))
    trainer.train()
    assert max(losses(trainer)) < 1e-9


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_evaluation_equals_a_plain_trainers(tmp_path: Path, smoothing: float) -> None:
    student, rows = tiny.bert(), tiny.dataset(rows=20)
    args = tiny.arguments(tmp_path, label_smoothing_factor=smoothing, per_device_eval_batch_size=8)
    plain = TrainingArguments(
        str(tmp_path), use_cpu=True, report_to="none", label_smoothing_factor=smoothing, per_device_eval_batch_size=8
    )
    ours = DistillationTrainer(student, args, eval_dataset=rows, teacher_model=tiny.bert(seed=1)).evaluate()
    theirs = Trainer(student, plain, eval_dataset=rows).evaluate()
    assert ours["eval_loss"] == pytest.approx(theirs["eval_loss"], abs=1e-6)


def test_evaluation_runs_no_teacher_where_there_are_labels(tmp_path: Path) -> None:
    teacher = tiny.bert(seed=1)
    trainer = DistillationTrainer(
        tiny.bert(), tiny.arguments(tmp_path), eval_dataset=tiny.dataset(), teacher_model=teacher
    )
    teacher.forward = lambda *_, **__: pytest.fail("the teacher was asked")
    assert trainer.evaluate()["eval_loss"] > 0


def test_unlabelled_evaluation_reports_the_loss_against_the_teacher(tmp_path: Path) -> None:
    student, teacher, rows = tiny.bert(), tiny.bert(seed=1), tiny.dataset(rows=8).remove_columns("labels")
    args = tiny.arguments(tmp_path, temperature=2.0, distillation_weight=1.0)
    trainer = DistillationTrainer(student, args, eval_dataset=rows, teacher_model=teacher)
    inputs = rows.with_format("torch")[:]
    with torch.no_grad():
        p = (teacher(**inputs).logits / 2).softmax(-1)
        q = (student.eval()(**inputs).logits / 2).softmax(-1)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(float(4 * (p * (p / q).log()).sum(-1).mean()), abs=1e-5)
    assert trainer.predict(rows).predictions.shape == (8, 3)
    without = DistillationTrainer(student, args, eval_dataset=rows)
    assert "eval_loss" not in without.evaluate()


@pytest.mark.parametrize("ends", [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_unlabelled_evaluations_compare_whatever_the_schedules(tmp_path: Path, ends: tuple[float, float]) -> None:
    """The student stays as it is, and so must its loss; else the last checkpoint would always be the best, or worst."""
    losses = []
    for weight, temperature in ((1.0, 2.0), (linear(*ends), linear(4.0, 2.0))):
        objective = Objective(ce=LabelTerm(), kd=LogitTerm(SoftTargetLoss(temperature), weight))
        rows, args = tiny.dataset(rows=8), tiny.arguments(tmp_path, max_steps=2, learning_rate=0.0)
        models = {"model": tiny.bert(), "teacher_model": tiny.bert(seed=1)}
        trainer = DistillationTrainer(args=args, train_dataset=rows, objective=objective, **models)
        unlabelled = rows.remove_columns("labels")
        losses.append(trainer.evaluate(unlabelled)["eval_loss"])
        trainer.train()
        losses.append(trainer.evaluate(unlabelled)["eval_loss"])
    assert losses == pytest.approx([losses[0]] * 4)
    assert losses[0] > 0


class WithoutLabels(nn.Module):
    """A student as people write them, with no loss of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = tiny.bert()
        self.config = self.inner.config

    def forward(self, input_ids: Tensor, attention_mask: Tensor, weights: Tensor | None = None) -> dict[str, Tensor]:
        return {"logits": self.inner(input_ids=input_ids, attention_mask=attention_mask).logits}


def left_as_they_are(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    """A collator that renames nothing, and puts something of another length in front."""
    return {"weights": torch.ones(3)} | {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.parametrize("column", ["labels", "label"])
@pytest.mark.parametrize("collator", [None, left_as_they_are])
def test_labels_are_found_whatever_student_and_collator_make_of_them(
    tmp_path: Path, column: str, collator: Any
) -> None:
    found = []
    plain = tiny.dataset(rows=8)
    for rows, student in ((plain, tiny.bert()), (plain.rename_columns({"labels": column}), WithoutLabels())):
        rows = rows.remove_columns("token_type_ids")
        given = {"train_dataset": rows, "eval_dataset": rows, "teacher_model": tiny.bert(seed=1)}
        args = tiny.arguments(tmp_path, max_steps=1, distillation_weight=0.5)
        trainer = DistillationTrainer(student, args, data_collator=collator if found else None, **given)
        trainer.train()
        found.append([*losses(trainer), trainer.evaluate()["eval_loss"]])
    assert found[1] == pytest.approx(found[0])


def test_missing_labels_of_glue_are_none_in_a_prediction(tmp_path: Path) -> None:
    trainer = DistillationTrainer(tiny.bert(), tiny.arguments(tmp_path), train_dataset=tiny.dataset())
    rows = tiny.dataset(rows=4).map(lambda row: {"labels": -1})
    assert (trainer.predict(rows).label_ids == -100).all()


def test_the_data_must_count_the_classes_as_the_student_does(tmp_path: Path) -> None:
    def train(student: list[str], data: list[str]) -> None:
        rows = tiny.dataset().cast_column("labels", ClassLabel(names=data))
        names = {"id2label": dict(enumerate(student)), "label2id": {name: i for i, name in enumerate(student)}}
        DistillationTrainer(tiny.bert(**names), tiny.arguments(tmp_path), train_dataset=rows)

    with pytest.raises(ValueError, match=r"align_labels_with_mapping\(model.config.label2id, 'labels'\)"):
        train(["a", "b", "c"], ["b", "A", "c"])
    train(["a", "b", "c"], ["A", "b ", "C"])
    train(["a", "b", "c"], ["x", "y", "z"])  # which may mean the same
    train(["a", "b", "c"], ["LABEL_0", "LABEL_1", "LABEL_2"])


@pytest.mark.parametrize("words", [["c", "a", "b"], ["x", "y", "z"]])
def test_a_student_without_names_goes_by_those_of_the_data(tmp_path: Path, words: list[str]) -> None:
    """Other words than the teacher's may mean the same."""
    teacher = tiny.bert(seed=1, id2label={0: "a", 1: "b", 2: "c"}, label2id={"a": 0, "b": 1, "c": 2})
    rows = tiny.dataset().cast_column("labels", ClassLabel(names=words))
    trainer = DistillationTrainer(tiny.bert(), tiny.arguments(tmp_path), train_dataset=rows, teacher_model=teacher)
    batch = next(trainer.collated(range(4)))
    with torch.no_grad():
        expected = teacher(**batch).logits
    order = [2, 0, 1] if words[0] == "c" else [0, 1, 2]
    torch.testing.assert_close(trainer.ask("teacher", batch).logits, expected[:, order])


def test_a_column_of_labels_that_goes_unseen_is_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, said in (("labels", False), ("kind", True)):
        rows = tiny.dataset().rename_columns({"labels": name})
        DistillationTrainer(tiny.bert(), tiny.arguments(tmp_path), train_dataset=rows, teacher_model=tiny.bert(seed=1))
        assert ("the student learns from the teacher alone" in caplog.text) is said


def test_a_teacher_that_no_term_follows_is_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for term, said in ((LogitTerm(SoftTargetLoss(), weight=0.0), False), (LabelTerm(0.5), True)):
        objective = Objective(ce=LabelTerm(), other=term)
        args, rows = tiny.arguments(tmp_path), tiny.dataset()
        DistillationTrainer(tiny.bert(), args, train_dataset=rows, teacher_model=tiny.bert(seed=1), objective=objective)
        assert ("follows the teacher teacher: it teaches nothing" in caplog.text) is said


def test_the_student_is_no_teacher_of_itself(tmp_path: Path) -> None:
    model = tiny.bert()
    with pytest.raises(ValueError, match=r"The teacher is the student itself.*copy\.deepcopy"):
        DistillationTrainer(model, tiny.arguments(tmp_path), teacher_model=model)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_compiled_teacher_answers_as_it_did(tmp_path: Path) -> None:
    found = []
    for wrap in (lambda model: model, partial(torch.compile, backend="eager")):
        rows, args = tiny.dataset(rows=8), tiny.arguments(tmp_path, max_steps=1)
        trainer = DistillationTrainer(tiny.bert(), args, train_dataset=rows, teacher_model=wrap(tiny.bert(seed=1)))
        trainer.train()
        found.append(losses(trainer))
    assert found[0] == pytest.approx(found[1])


def test_a_compiled_student_is_refused_for_it_could_not_be_loaded_again(tmp_path: Path) -> None:
    student = torch.compile(tiny.bert(), backend="eager")
    with pytest.raises(ValueError, match=r"compiled already.*torch_compile=True"):
        DistillationTrainer(student, tiny.arguments(tmp_path), train_dataset=tiny.dataset())


def test_several_evaluation_sets_before_and_after_training(tmp_path: Path) -> None:
    sets = {
        "seen": tiny.dataset(seed=0),
        "unseen": tiny.dataset(seed=1),
        "bare": tiny.dataset().remove_columns("labels"),
    }
    args = tiny.arguments(tmp_path, max_steps=2)
    trainer = DistillationTrainer(
        tiny.bert(), args, train_dataset=tiny.dataset(), eval_dataset=sets, teacher_model=tiny.bert(seed=1)
    )
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    for name in sets:
        assert before[f"eval_{name}_loss"] != after[f"eval_{name}_loss"]


@pytest.mark.parametrize("batch", [1, 3, 16])
@pytest.mark.parametrize("teacher", [False, True])
def test_a_partly_labelled_set_is_evaluated_on_its_labelled_rows(tmp_path: Path, batch: int, teacher: bool) -> None:
    rows = tiny.dataset(rows=16)
    partly = rows.map(lambda row, i: {"labels": row["labels"] if i % 5 == 0 else -100}, with_indices=True)
    args = tiny.arguments(tmp_path, per_device_eval_batch_size=batch)
    trainer = DistillationTrainer(tiny.bert(), args, teacher_model=tiny.bert(seed=1) if teacher else None)
    expected = trainer.evaluate(rows.select(range(0, 16, 5)))["eval_loss"]
    assert trainer.evaluate(partly)["eval_loss"] == pytest.approx(expected, abs=1e-6)


def test_hidden_states_are_not_gathered_in_evaluation(tmp_path: Path) -> None:
    student = tiny.bert(output_hidden_states=True)
    trainer = DistillationTrainer(student, tiny.arguments(tmp_path))
    predictions = trainer.predict(tiny.dataset(rows=8)).predictions
    assert isinstance(predictions, np.ndarray)
    assert predictions.shape == (8, 3)


# ---- The teacher is left alone, and stays out of everything that is saved ----


def test_the_teacher_is_untouched_and_saved_nowhere(tmp_path: Path) -> None:
    student, teacher = tiny.resnet(), tiny.MODELS["resnet"](seed=1)
    for module in teacher.modules():
        module.__dict__.pop("train", None)  # an ordinary ResNet, whose statistics would move in training mode
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    teacher.train()
    before = weights(teacher)
    args = tiny.arguments(tmp_path, max_steps=4, save_strategy="steps", save_steps=2)
    trainer = DistillationTrainer(student, args, train_dataset=tiny.dataset("resnet"), teacher_model=teacher)
    trainer.train()
    assert_identical(before, weights(teacher))
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())

    owned = {parameter.data_ptr() for parameter in teacher.parameters()}
    assert not owned & {p.data_ptr() for group in trainer.optimizer.param_groups for p in group["params"]}
    assert not owned & {parameter.data_ptr() for parameter in trainer.model.parameters()}
    checkpoint = tmp_path / "checkpoint-4"
    assert safetensors.torch.load_file(checkpoint / "model.safetensors").keys() == student.state_dict().keys()
    assert (checkpoint / "training_args.bin").stat().st_size < 20_000


def test_the_token_is_in_no_file(tmp_path: Path) -> None:
    args = tiny.arguments(tmp_path, max_steps=1, save_strategy="steps", save_steps=1, hub_token="hf_secret")
    trainer = DistillationTrainer(tiny.bert(), args, train_dataset=tiny.dataset())
    trainer.train()
    trainer.save_model()
    assert args.hub_token == "hf_secret"
    assert [path for path in tmp_path.rglob("*") if path.is_file() and b"hf_secret" in path.read_bytes()] == []


def test_the_batch_is_not_changed(tmp_path: Path) -> None:
    trainer = DistillationTrainer(tiny.bert(), tiny.arguments(tmp_path), teacher_model=tiny.bert(seed=1))
    inputs = tiny.dataset(rows=4).with_format("torch")[:]
    before = {name: value.clone() for name, value in inputs.items()}
    trainer.compute_loss(trainer.model.train(), inputs)
    assert_identical(before, inputs)


def test_the_model_argument_is_called(tmp_path: Path) -> None:
    """Under DDP it is the wrapper: bypassing it would let the processes drift apart."""

    class Wrapper(nn.Module):
        calls = 0

        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, **inputs: Any) -> Any:
            Wrapper.calls += 1
            return self.module(**inputs)

    trainer = DistillationTrainer(tiny.bert(), tiny.arguments(tmp_path), teacher_model=tiny.bert(seed=1))
    trainer.compute_loss(Wrapper(trainer.model).train(), tiny.dataset(rows=4).with_format("torch")[:])
    assert Wrapper.calls == 1


def test_a_distilbert_student_leaves_its_bert_teacher_the_segments(tmp_path: Path) -> None:
    rows, seen = tiny.dataset(rows=8), []
    teacher = tiny.bert(seed=1)
    teacher.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True)
    args = tiny.arguments(tmp_path, max_steps=1)
    DistillationTrainer(tiny.distilbert(), args, train_dataset=rows, teacher_model=teacher).train()
    assert torch.equal(seen[0]["token_type_ids"], torch.tensor(rows["token_type_ids"][:]))


# ---- Logs ----


def test_the_components_add_up_to_the_loss_between_logs(tmp_path: Path) -> None:
    objective = Objective(
        ce=LabelTerm(weight=linear(1.0, 0.2)),
        soft=LogitTerm(SoftTargetLoss(cosine(4.0, 1.0)), weight=0.5),
        hard=LogitTerm(HardTargetLoss(), weight=0.25),
    )
    args = tiny.arguments(tmp_path, max_steps=9, logging_steps=3, gradient_accumulation_steps=2)
    trainer = DistillationTrainer(
        tiny.bert(dropout=0.1), args, train_dataset=tiny.dataset(), teacher_model=tiny.bert(seed=1), objective=objective
    )
    trainer.train()
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(entries) == 3
    for entry in entries:
        assert entry["ce"] + entry["soft"] + entry["hard"] == pytest.approx(entry["loss"], rel=1e-5)
        assert entry["ce_weight"] == pytest.approx(1.0 - 0.8 * entry["step"] / 9)
        assert (entry["soft_weight"], entry["hard_weight"]) == (0.5, 0.25)
        # By hand: half a cosine from 4 to 1.
        assert entry["soft_temperature"] == pytest.approx(1.0 + 1.5 * (1.0 + math.cos(math.pi * entry["step"] / 9)))
        assert "hard_temperature" not in entry


def test_a_component_that_is_not_finite_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(SoftTargetLoss):
        def forward(self, *args: Any, **kwargs: Any) -> Tensor:
            return super().forward(*args, **kwargs) * float("nan")

    objective = Objective(ce=LabelTerm(), broken=LogitTerm(Broken()))
    args = tiny.arguments(tmp_path, max_steps=1, logging_nan_inf_filter=False)  # as in the recipes
    trainer = DistillationTrainer(
        tiny.bert(), args, train_dataset=tiny.dataset(), teacher_model=tiny.bert(seed=1), objective=objective
    )
    with caplog.at_level(logging.WARNING, logger="hf_distill"):
        trainer.train()
    assert "'broken' is nan at step 1" in caplog.text
    assert math.isnan(trainer.state.log_history[0]["loss"])


# ---- Resume ----


class Stop(TrainerCallback):
    """Ends a training the hard way, as a kill would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


def resumable(folder: Path, callbacks: list[TrainerCallback], weight: float = 0.5) -> DistillationTrainer:
    objective = Objective(
        ce=LabelTerm(weight=linear(1.0, 0.0)), kd=LogitTerm(SoftTargetLoss(cosine(4.0, 1.0)), weight=weight)
    )
    args = tiny.arguments(
        folder, num_train_epochs=2, gradient_accumulation_steps=2, save_strategy="steps", save_steps=2,
        train_sampling_strategy="random", max_grad_norm=1.0, learning_rate=1e-3,
    )  # fmt: skip
    return DistillationTrainer(
        tiny.bert(dropout=0.2, layers=2), args, train_dataset=tiny.dataset(), eval_dataset=tiny.dataset(),
        teacher_model=tiny.bert(seed=1), objective=objective, callbacks=callbacks,
    )  # fmt: skip


def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole = resumable(tmp_path / "whole", [])
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        resumable(tmp_path / "killed", [Stop(3)]).train()
    resumed = resumable(tmp_path / "killed", [])
    resumed.train(resume_from_checkpoint=True)
    assert_identical(weights(whole.model), weights(resumed.model))
    assert losses(whole)[-3:] == losses(resumed)[-3:]


def test_resuming_with_other_settings_warns_and_names_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KeyboardInterrupt):
        resumable(tmp_path, [Stop(3)]).train()
    with caplog.at_level(logging.WARNING, logger="hf_distill"):
        resumable(tmp_path, []).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
        assert "Resuming" not in caplog.text
        resumable(tmp_path, [], weight=0.9).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert "another term 'kd'" in caplog.text
    assert "weight=0.5" in caplog.text
    assert "weight=0.9" in caplog.text


def test_the_best_model_is_loaded_at_the_end(tmp_path: Path) -> None:
    args = tiny.arguments(
        tmp_path, max_steps=6, save_strategy="steps", save_steps=2, eval_strategy="steps", eval_steps=2,
        load_best_model_at_end=True, learning_rate=0.05,
    )  # fmt: skip
    trainer = DistillationTrainer(
        tiny.bert(),
        args,
        train_dataset=tiny.dataset(),
        eval_dataset=tiny.dataset(seed=3),
        teacher_model=tiny.bert(seed=1),
    )
    trainer.train()
    best = safetensors.torch.load_file(Path(trainer.state.best_model_checkpoint) / "model.safetensors")
    assert_identical(best, weights(trainer.model))


# ---- Several teachers, label names, search ----


def test_several_named_teachers_share_the_weight(tmp_path: Path) -> None:
    args = tiny.arguments(tmp_path, max_steps=1, distillation_weight=0.8)
    teachers = {"one": tiny.bert(seed=1), "two": tiny.bert(seed=2)}
    trainer = DistillationTrainer(tiny.bert(), args, train_dataset=tiny.dataset(), teacher_model=teachers)
    trainer.train()
    entry = trainer.state.log_history[0]
    assert entry["ce"] + entry["kd_one"] + entry["kd_two"] == pytest.approx(entry["loss"], rel=1e-5)
    settings = json.loads(json.dumps(trainer.distillation_objective.describe()))
    assert "weight=0.4" in settings["kd_one"]


def test_an_ensemble_answers_with_the_weighted_mean_of_logits(tmp_path: Path) -> None:
    one, two = tiny.bert(seed=1), tiny.bert(seed=2)
    inputs = tiny.dataset(rows=4).with_format("torch")[:]
    answer = EnsembleTeacher([one, two], weights=[3, 1])(inputs).logits
    with torch.no_grad():
        inputs.pop("labels")
        torch.testing.assert_close(answer, 0.75 * one(**inputs).logits + 0.25 * two(**inputs).logits)


def test_labels_are_aligned_by_name(tmp_path: Path) -> None:
    """A teacher with its classes in another order gives the same training as one in the student's order."""
    names = ["bad", "fair", "good"]
    student = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    order = [2, 0, 1]
    teacher = tiny.bert(seed=1, **student)
    shuffled = tiny.bert(seed=1, id2label={i: names[j].upper() for i, j in enumerate(order)})
    shuffled.load_state_dict(teacher.state_dict())
    shuffled.classifier.weight.data = teacher.classifier.weight.data[order]
    shuffled.classifier.bias.data = teacher.classifier.bias.data[order]
    trained = []
    for one in (teacher, shuffled):
        pupil = tiny.bert(**student)
        args = tiny.arguments(tmp_path, max_steps=2)
        DistillationTrainer(pupil, args, train_dataset=tiny.dataset(), teacher_model=one).train()
        trained.append(weights(pupil))
    for name in trained[0]:
        torch.testing.assert_close(trained[0][name], trained[1][name])


def test_optuna_searches_temperature_and_weight(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    args = tiny.arguments(tmp_path, max_steps=2, eval_strategy="steps", eval_steps=2, temperature=2)
    seen, evaluated = [], []

    class Watch(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            seen.append(trainer.distillation_objective.describe()["kd"])

        def on_evaluate(self, *_: Any, metrics: dict[str, float], **__: Any) -> None:
            evaluated.append(metrics["eval_loss"])

    trainer = DistillationTrainer(
        args=args, model_init=lambda: tiny.bert(), train_dataset=tiny.dataset(), eval_dataset=tiny.dataset(seed=3),
        teacher_model=tiny.bert(seed=1), callbacks=[Watch()],
    )  # fmt: skip
    best = trainer.hyperparameter_search(
        hp_space=lambda trial: {
            "temperature": trial.suggest_float("temperature", 1.0, 8.0),
            "distillation_weight": trial.suggest_float("distillation_weight", 0.1, 0.9),
        },
        backend="optuna",
        n_trials=3,
    )
    assert set(best.hyperparameters) == {"temperature", "distillation_weight"}
    assert len(set(seen)) == 3
    assert trainer.args.temperature % 1  # though it was 2 and not 2.0
    assert best.objective == min(evaluated)  # the task loss: nothing of ours is added to the metrics


def test_a_student_made_by_model_init_knows_its_task(tmp_path: Path) -> None:
    args = tiny.arguments(tmp_path, max_steps=1)
    rows = tiny.dataset(task="multi_label")
    trainer = DistillationTrainer(
        args=args, model_init=lambda: tiny.bert(), train_dataset=rows, teacher_model=tiny.bert(seed=1)
    )
    trainer.train()
    assert trainer.model.config.problem_type == "multi_label_classification"


def test_the_task_is_seen_in_any_data_set_with_rows(tmp_path: Path) -> None:
    rows = list(tiny.dataset(task="multi_label").with_format("torch"))
    args = tiny.arguments(tmp_path, max_steps=1)
    trainer = DistillationTrainer(tiny.bert(), args, train_dataset=rows, teacher_model=tiny.bert(seed=1))
    trainer.train()
    assert trainer.problem_type == "multi_label_classification"


# ---- Bad input, before training ----


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (lambda i: 7 if i == 5 else i % 3, "Row 5 of the training set has label 7, but the student has 3 classes"),
        (lambda i: -1 if i == 4 else i % 3, "Row 4 .* label -1"),
        (lambda i: 2, "All labels of the training set are 2"),
    ],
)
def test_labels_that_cannot_be_learnt_are_refused(tmp_path: Path, labels: Any, message: str) -> None:
    rows = tiny.dataset().map(lambda row, i: {"labels": labels(i)}, with_indices=True)
    with pytest.raises(ValueError, match=message):
        DistillationTrainer(tiny.bert(), tiny.arguments(tmp_path), train_dataset=rows)


def test_the_objective_and_the_numbers_exclude_each_other(tmp_path: Path) -> None:
    objective = Objective(kd=LogitTerm(SoftTargetLoss(4.0)))
    args = tiny.arguments(tmp_path, temperature=4.0)
    with pytest.raises(ValueError, match="temperature"):
        DistillationTrainer(tiny.bert(), args, teacher_model=tiny.bert(seed=1), objective=objective)


def test_a_term_without_its_teacher_is_refused(tmp_path: Path) -> None:
    args, objective = tiny.arguments(tmp_path), Objective(kd=LogitTerm(SoftTargetLoss(4.0), teacher="larg"))
    with pytest.raises(ValueError, match="needs a teacher"):
        DistillationTrainer(tiny.bert(), args, objective=objective)
    with pytest.raises(KeyError, match="did you mean 'large'"):
        DistillationTrainer(tiny.bert(), args, objective=objective, teacher_model={"large": tiny.bert(seed=1)})


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (lambda: tiny.bert(labels=4, seed=1), "3 labels.*teacher 4"),
        (lambda: tiny.bert(seed=1, vocab_size=41), "knows 41 tokens.*text_columns"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(tmp_path: Path, teacher: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DistillationTrainer(tiny.bert(), tiny.arguments(tmp_path), teacher_model=teacher())


def test_student_and_teacher_must_not_share_weights(tmp_path: Path) -> None:
    model = tiny.bert()
    with pytest.raises(ValueError, match="deepcopy"):
        DistillationTrainer(model, tiny.arguments(tmp_path), teacher_model=ModelTeacher(model))


@pytest.mark.parametrize("teacher", [[], [tiny.bert], nn.Linear(2, 2)])
def test_what_is_no_teacher_is_refused(tmp_path: Path, teacher: Any) -> None:
    with pytest.raises(TypeError, match=r"neither a Teacher nor a model with a config.*EnsembleTeacher"):
        DistillationTrainer(tiny.bert(), tiny.arguments(tmp_path), teacher_model=teacher)


def test_a_student_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a Linear, has no config.*model\.config = PreTrainedConfig"):
        DistillationTrainer(nn.Linear(2, 2), tiny.arguments(tmp_path))


def test_labels_of_another_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"label_names=.*rename the column"):
        DistillationTrainer(tiny.bert(), tiny.arguments(tmp_path, label_names=["target"]), train_dataset=tiny.dataset())


def test_plain_training_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="DistillationTrainingArguments"):
        DistillationTrainer(tiny.bert(), TrainingArguments(str(tmp_path), use_cpu=True))


def test_nothing_to_learn_from_is_an_error(tmp_path: Path) -> None:
    rows = tiny.dataset().remove_columns("labels")
    with pytest.raises(ValueError, match="nothing to learn from"):
        DistillationTrainer(tiny.bert(), tiny.arguments(tmp_path, max_steps=1), train_dataset=rows).train()


# ---- Where something could be lost without a word ----


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_the_task_of_a_streamed_data_set_is_seen_too(tmp_path: Path, weight: float) -> None:
    rows = tiny.dataset(task="multi_label").to_iterable_dataset()
    student = tiny.bert()
    trainer = DistillationTrainer(
        student,
        tiny.arguments(tmp_path, max_steps=1, distillation_weight=weight),
        train_dataset=rows,
        teacher_model=tiny.bert(seed=1),
    )
    assert trainer.problem_type == student.config.problem_type == "multi_label_classification"
    trainer.train()


def test_a_trainer_for_evaluation_alone_sees_the_task_there(tmp_path: Path) -> None:
    trainer = DistillationTrainer(
        tiny.bert(), tiny.arguments(tmp_path), eval_dataset={"a": tiny.dataset(task="multi_label")}
    )
    assert trainer.evaluate()["eval_a_loss"] > 0
    assert DistillationTrainer(tiny.bert(), tiny.arguments(tmp_path)).model.config.problem_type is None, "unseen"


def test_numbers_that_a_search_changes_beside_an_objective_are_an_error(tmp_path: Path) -> None:
    trainer = DistillationTrainer(
        tiny.bert(),
        tiny.arguments(tmp_path, max_steps=1),
        train_dataset=tiny.dataset(),
        teacher_model=tiny.bert(seed=1),
        objective=Objective(kd=LogitTerm(SoftTargetLoss(2.0))),
    )
    trainer.args.temperature = 8.0
    with pytest.raises(ValueError, match="Both an objective and temperature were given"):
        trainer.train()


def test_label_smoothing_is_read_when_it_is_used(tmp_path: Path) -> None:
    trainer = DistillationTrainer(tiny.bert(), tiny.arguments(tmp_path), eval_dataset=tiny.dataset())
    plain = trainer.evaluate()["eval_loss"]
    trainer.args.label_smoothing_factor = 0.5
    assert trainer.evaluate()["eval_loss"] != pytest.approx(plain, rel=1e-3)


class Wrapped(nn.Module):
    """As an adapter library wraps a model: its ``forward`` names only some of the inputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.config, self.seen = model, model.config, set()

    def get_base_model(self) -> nn.Module:
        return self.model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Any = None, **others: Any) -> Any:
        self.seen |= set(others)
        return self.model(input_ids=input_ids, attention_mask=attention_mask, **others)


def test_a_wrapped_student_gets_all_that_the_model_inside_reads(tmp_path: Path) -> None:
    student = Wrapped(tiny.bert())
    DistillationTrainer(
        student,
        tiny.arguments(tmp_path, max_steps=1, remove_unused_columns=False),
        train_dataset=tiny.dataset(),
        teacher_model=tiny.bert(seed=1),
    ).train()
    assert "token_type_ids" in student.seen


@pytest.mark.parametrize(
    ("setting", "marks"),
    [
        ({}, [1.0, 0.0]),
        ({"dataloader_drop_last": True}, None),
        ({"accelerator_config": {"even_batches": False}}, None),
    ],
)
def test_examples_count_once_where_the_loader_repeats_some_and_always_where_it_does_not(
    tmp_path: Path, setting: dict[str, Any], marks: list[float] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = DistillationTrainer(tiny.bert(), tiny.arguments(tmp_path, **setting), train_dataset=tiny.dataset())
    state = SimpleNamespace(end_of_dataloader=True, active_dataloader=None)
    monkeypatch.setattr(type(trainer.accelerator), "num_processes", 2)
    monkeypatch.setattr(trainer.accelerator, "gradient_state", state)
    # 5 rows, 2 for each of two processes: the first has the last row, and one that is repeated.
    found = trainer._marked({"labels": torch.zeros(2)}, range(5)).get(COUNTS)
    assert (None if found is None else found.tolist()) == marks


@pytest.mark.parametrize(("strategy", "marked"), [("sequential", True), ("batch_rebalance", False)])
def test_examples_count_where_processes_get_batches_of_unequal_sizes(
    tmp_path: Path, strategy: str, marked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = DistillationTrainer(tiny.bert(), tiny.arguments(tmp_path), train_dataset=tiny.dataset(rows=5))
    trainer.args.train_sampling_strategy = strategy
    monkeypatch.setattr(
        trainer.accelerator, "gradient_state", SimpleNamespace(end_of_dataloader=True, active_dataloader=None)
    )
    monkeypatch.setattr(type(trainer.accelerator), "num_processes", 2)
    monkeypatch.setattr(type(trainer.accelerator), "reduce", lambda _, tensor, reduction: tensor)
    [batch], count = trainer.get_batch_samples(iter([{"labels": torch.zeros(2)}]), 1, torch.device("cpu"))
    assert (COUNTS in batch, int(count)) == (marked, 1 if marked else 2)


def test_deepspeeds_precision_is_not_for_what_the_teachers_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = DistillationTrainer(tiny.bert(), tiny.arguments(tmp_path), train_dataset=tiny.dataset())
    plugin = SimpleNamespace(hf_ds_config=SimpleNamespace(dtype=lambda: torch.bfloat16))
    monkeypatch.setattr(trainer, "is_deepspeed_enabled", True)
    monkeypatch.setattr(type(trainer.accelerator.state), "deepspeed_plugin", plugin)
    logits = torch.tensor([[1.001, -2.003]])
    found = trainer._prepare_inputs({"pixel_values": logits, TEACHER_INPUTS: {"teacher": {"logits": logits}}})
    assert found["pixel_values"].dtype == torch.bfloat16
    assert torch.equal(found[TEACHER_INPUTS]["teacher"]["logits"], logits)


def test_an_optimizer_that_deepspeed_will_make_is_let_through(tmp_path: Path) -> None:
    trainer = DistillationTrainer(tiny.bert(), tiny.arguments(tmp_path), train_dataset=tiny.dataset())
    trainer.optimizer = stand_in = DummyOptim(trainer.model.parameters())
    assert trainer.create_optimizer() is stand_in


def test_buffers_are_shared_while_the_processes_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared: list[nn.Module] = []
    monkeypatch.setattr("hf_distill.trainer.share_buffers", shared.append)
    args = tiny.arguments(tmp_path, max_steps=1, eval_strategy="steps", eval_steps=1)
    trainer = DistillationTrainer(tiny.bert(), args, train_dataset=tiny.dataset(), eval_dataset=tiny.dataset())
    trainer.evaluate()  # the model may still lie where the processes cannot exchange anything
    assert shared == []
    trainer.train()
    assert shared == [trainer.model] * 2


def test_a_loss_of_a_wrong_shape_is_named(tmp_path: Path) -> None:
    class Unreduced(PairLoss):
        def forward(self, student: Tensor, teacher: Tensor, **_: Any) -> Tensor:
            return (student - teacher.detach()) ** 2

    trainer = DistillationTrainer(
        tiny.bert(),
        tiny.arguments(tmp_path, max_steps=1),
        train_dataset=tiny.dataset(),
        teacher_model=tiny.bert(seed=1),
        objective=Objective(mine=LogitTerm(Unreduced())),
    )
    with pytest.raises(ValueError, match=r"term 'mine' returned shape \(8, 3\) for a batch of 8"):
        trainer.train()


def test_a_sole_term_may_begin_at_a_weight_of_zero(tmp_path: Path) -> None:
    trainer = DistillationTrainer(
        tiny.bert(),
        tiny.arguments(tmp_path, max_steps=4),
        train_dataset=tiny.dataset(),
        teacher_model=tiny.bert(seed=1),
        objective=Objective(kd=LogitTerm(SoftTargetLoss(2.0), weight=warmup(0.5, 1.0))),
    )
    trainer.train()
    assert losses(trainer)[0] == 0.0
    assert losses(trainer)[-1] > 0.0


def test_components_add_up_after_a_start_with_smaller_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = DistillationTrainer(
        tiny.bert(),
        tiny.arguments(tmp_path, max_steps=3, logging_steps=3, auto_find_batch_size=True),
        train_dataset=tiny.dataset(),
        teacher_model=tiny.bert(seed=1),
    )
    step, calls = DistillationTrainer.training_step, []

    def short_of_memory(self: DistillationTrainer, *args: Any) -> Any:
        calls.append(None)
        if len(calls) == 2:
            raise RuntimeError("CUDA out of memory. ")
        return step(self, *args)

    monkeypatch.setattr(DistillationTrainer, "training_step", short_of_memory)
    trainer.train()
    logged = next(entry for entry in trainer.state.log_history if "loss" in entry)
    assert len(calls) == 5
    assert logged["ce"] + logged["kd"] == pytest.approx(logged["loss"], abs=1e-4)


@pytest.mark.slow
def test_compiled_student_and_teacher_do_the_same(tmp_path: Path) -> None:
    def run(name: str, teacher: PreTrainedModel, **settings: Any) -> dict[str, Tensor]:
        args = tiny.arguments(tmp_path / name, num_train_epochs=1, optim="sgd", learning_rate=0.1, **settings)
        trainer = DistillationTrainer(tiny.bert(), args, train_dataset=tiny.dataset(rows=24), teacher_model=teacher)
        trainer.train()
        return dict(trainer.model.state_dict())

    compiled = tiny.bert(seed=1)
    compiled.compile()
    found, expected = run("compiled", compiled, torch_compile=True), run("plain", tiny.bert(seed=1))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-4)
    assert ModelTeacher(compiled).fingerprint() == ModelTeacher(tiny.bert(seed=1)).fingerprint()
