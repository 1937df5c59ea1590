"""A student of two tasks in the trainer: gradients, checkpoints, evaluation, teachers of every kind."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest
import task_runs
import tiny
import torch
from datasets import Dataset, Value
from feature_runs import weights
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast, TrainerCallback
from two_processes import run as run_in_two_processes

from hf_distill import (
    BottleneckTerm,
    DistillationTrainer,
    ExitTerm,
    LabelTerm,
    LogitTerm,
    ModelTeacher,
    MovingAverageTeacher,
    Objective,
    Tasks,
    TaskTerm,
    cache_teacher,
    joint_dataset,
    task_metrics,
    task_model,
    with_tasks,
)
from hf_distill.losses import SoftTargetLoss


def assert_expected(found: dict[str, Tensor]) -> None:
    beside = {name.removeprefix("beside/"): value for name, value in found.items() if name.startswith("beside/")}
    expected = task_runs.expected(beside)
    assert found.keys() - {f"beside/{name}" for name in beside} == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name].float(), value.float(), atol=1e-6, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize(("batch", "accumulation"), [(16, 1), (4, 4)])
def test_gradients_and_logs_equal_those_of_the_whole_batch(batch: int, accumulation: int) -> None:
    assert_expected(task_runs.trained(batch, accumulation))


def test_two_processes_give_the_same(tmp_path: Path) -> None:
    """Also where one of them has no example of the task whose adapters it trains."""
    assert_expected(run_in_two_processes(task_runs, tmp_path / "found.safetensors"))


def test_resume_is_bit_exact(tmp_path: Path) -> None:
    class Kill(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 5:
                raise KeyboardInterrupt

    whole = task_runs.resumable(tmp_path / "whole", [])
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        task_runs.resumable(tmp_path / "killed", [Kill()]).train()
    resumed = task_runs.resumable(tmp_path / "killed", [])
    resumed.train(resume_from_checkpoint=True)
    expected, found = weights(whole), weights(resumed)
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


def trainer(folder: Path, **changes: Any) -> DistillationTrainer:
    settings = {"train_dataset": task_runs.rows(), "teacher_model": task_runs.teachers(), **changes}
    model = settings.pop("model", None) or task_runs.student()
    args = tiny.arguments(folder, max_steps=2, **settings.pop("args", {}))
    return DistillationTrainer(model, args, **settings)


# ---- Without an objective ----


def test_without_an_objective_it_is_the_usual_one_with_the_settings_of_the_arguments(tmp_path: Path) -> None:
    made = trainer(tmp_path, args={"temperature": 3.0, "distillation_weight": 0.6})
    expected = task_runs.multi_task_objective(task_runs.TASKS, ["tone", "topic"], 3.0, 0.6)
    assert made.distillation_objective.describe() == expected.describe()
    control = trainer(tmp_path, teacher_model=None)
    assert list(control.distillation_objective.terms) == ["ce_tone", "ce_topic"]
    control.train()


def test_a_model_init_is_as_good_as_a_model(tmp_path: Path) -> None:
    made = DistillationTrainer(
        None,
        tiny.arguments(tmp_path, max_steps=1),
        train_dataset=task_runs.rows(),
        model_init=lambda: task_runs.student(),
    )
    made.train()
    assert made.tasks == task_runs.TASKS


# ---- Evaluation ----


def test_the_evaluation_loss_is_that_of_the_tasks(tmp_path: Path) -> None:
    rows = task_runs.rows()
    made = trainer(tmp_path, eval_dataset=rows, compute_metrics=task_metrics(task_runs.TASKS))
    found = made.evaluate()
    batch = rows.with_format("torch")[:]
    labels = batch.pop("labels")
    with torch.no_grad():
        logits = task_runs.student().eval()(**batch).logits
    losses, right = {"tone": [], "topic": []}, {"tone": [], "topic": []}  # type: dict[str, list[float]], Any
    for row, label in zip(logits, labels.tolist(), strict=True):
        if label >= 0:
            task, own, first = ("tone", row[:2], 0) if label < 2 else ("topic", row[2:], 2)
            losses[task].append(-float(own.log_softmax(0)[label - first]))
            right[task].append(float(own.argmax() == label - first))
    assert found["eval_loss"] == pytest.approx(statistics.mean(losses["tone"] + losses["topic"]), rel=1e-5)
    for task in losses:
        assert found[f"eval_accuracy_{task}"] == pytest.approx(statistics.mean(right[task]))
    assert found["eval_accuracy"] == pytest.approx(statistics.mean(map(statistics.mean, right.values())))
    alone = made.evaluate(rows.select(task_runs.TASKS.rows("tone", rows)))
    assert alone["eval_loss"] == pytest.approx(statistics.mean(losses["tone"]), rel=1e-5)


def test_a_set_without_labels_is_judged_by_all_teachers(tmp_path: Path) -> None:
    rows = task_runs.rows().remove_columns("labels")
    found = trainer(tmp_path, eval_dataset=rows).evaluate()
    batch = rows.with_format("torch")[:]
    with torch.no_grad():
        logits = task_runs.student().eval()(**batch).logits
        goals = {name: teacher.eval()(**batch).logits for name, teacher in task_runs.teachers().items()}
    expected = 0.5 * F.kl_div(
        (logits[:, :2] / 2).log_softmax(-1), (goals["tone"] / 2).softmax(-1), reduction="batchmean"
    ) + 0.5 * F.kl_div(
        (logits[:, 2:] / 2).log_softmax(-1), (goals["topic"][:, [1, 2, 0]] / 2).softmax(-1), reduction="batchmean"
    )
    assert found["eval_loss"] == pytest.approx(4 * float(expected), rel=1e-4)


# ---- Teachers ----


def gradient(folder: Path, **changes: Any) -> dict[str, Tensor]:
    """Of the student in the first step, without moving it."""
    made = trainer(folder, args={"learning_rate": 0.0}, **changes)
    made.args.max_steps = 1
    recorder = task_runs.Recorder()
    recorder.trainer = made
    made.add_callback(recorder)
    made.train()
    return recorder.steps[0]


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-5)


def test_each_teacher_is_asked_about_its_own_rows_alone(tmp_path: Path) -> None:
    asked: dict[str, list[int]] = {"tone": [], "topic": []}
    teachers = task_runs.teachers()
    for name, teacher in teachers.items():
        teacher.register_forward_pre_hook(
            lambda _, args, kwargs, name=name: asked[name].append(len(kwargs["input_ids"])), with_kwargs=True
        )
    made = trainer(tmp_path, teacher_model=teachers)
    made.args.max_steps = 1
    made.train()
    labels = task_runs.rows()["labels"][:8]
    tone, topic = (sum(label in own or label == -100 for label in labels) for own in ((0, 1), (2, 3, 4)))
    assert asked == {"tone": [tone], "topic": [topic]}
    assert tone + topic < 16


def test_cached_teachers_need_answers_to_their_own_rows_alone(tmp_path: Path) -> None:
    rows, cached = task_runs.rows(), {}
    for name, teacher in task_runs.teachers().items():
        mine = task_runs.TASKS.rows(name, rows)
        assert mine is not None
        cached[name] = cache_teacher(rows.select(mine), teacher, tmp_path / name)
    assert_same(gradient(tmp_path, teacher_model=cached), gradient(tmp_path))
    lacking = {**cached, "tone": cached["topic"]}
    lacking["tone"].classes = 2
    with pytest.raises(ValueError, match="have no answer of"):
        trainer(tmp_path, teacher_model=lacking)


def test_kept_features_are_looked_at_where_the_first_rows_are_of_another_task(tmp_path: Path) -> None:
    rows, topic = task_runs.rows(), task_runs.teachers()["topic"]
    rows = rows.select(sorted(range(len(rows)), key=lambda row: rows[row]["labels"] not in (0, 1)))
    mine = task_runs.TASKS.rows("topic", rows)
    assert mine is not None
    assert mine[0] > 2
    kept = cache_teacher(rows.select(mine), topic, tmp_path / "kept", features=[task_runs.LAYER])
    hint = Objective(ce=LabelTerm(), hint=task_runs.objective(features=True).terms["hint"])
    found = gradient(tmp_path, train_dataset=rows.select(mine), teacher_model={"topic": kept}, objective=hint)
    assert found["hint_term.adapters.0.weight"].any()
    found = gradient(tmp_path, train_dataset=rows, teacher_model={"topic": kept}, objective=hint)
    assert not found["hint_term.adapters.0.weight"].any()  # the first batch is of the other task


def test_a_teacher_with_its_own_tokenizer_reads_the_text_of_its_own_rows(tmp_path: Path) -> None:
    """Rows of the other task have no text for it at all."""
    words = {f"w{number}": number for number in range(tiny.VOCABULARY - 1)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({**words, "[UNK]": tiny.VOCABULARY - 1}, unk_token="[UNK]")),
        pad_token="w0", unk_token="[UNK]",
    )  # fmt: skip
    tokenizer.backend_tokenizer.pre_tokenizer = WhitespaceSplit()

    def with_text(rows: Dataset) -> Dataset:
        return rows.map(lambda row: {"text": " ".join(f"w{number}" for number in row["input_ids"])})

    tone, topic = task_runs.data("tone", 12), task_runs.data("topic", 24)
    plain = {"token_type_ids": [0] * 8}  # which the tokenizer does not make
    tone, topic = (rows.map(lambda row: {**plain, "labels": max(row["labels"], 0)}) for rows in (tone, topic))
    joint = joint_dataset({"tone": with_text(tone), "topic": topic}, task_runs.TASKS)
    assert None in joint["text"][:]
    teachers = task_runs.teachers()
    expected = gradient(tmp_path, train_dataset=joint, teacher_model=teachers)
    reads = ModelTeacher(teachers["tone"], processing_class=tokenizer, text_columns=["text"])
    assert_same(gradient(tmp_path, train_dataset=joint, teacher_model={**teachers, "tone": reads}), expected)
    topics_first = joint.select(sorted(range(36), key=lambda row: joint[row]["labels"] < 2))  # none of its own at first
    gradient(tmp_path, train_dataset=topics_first, teacher_model={**teachers, "tone": reads})


def test_one_teacher_of_all_tasks_is_put_into_the_students_order(tmp_path: Path) -> None:
    """The same weights under one name, its tasks the other way round."""
    large = with_tasks(tiny.bert(seed=7), Tasks({task: task_runs.TASKS[task] for task in ("topic", "tone")}))
    own = {task: task_model(large, task) for task in task_runs.TASKS}
    assert_same(gradient(tmp_path, teacher_model=large), gradient(tmp_path, teacher_model=own))


def test_teachers_are_scored_on_their_own_tasks(tmp_path: Path) -> None:
    """Every tenth row is of the small task: among 40 rows of the whole set it would have 4, too few to tell."""
    few = Dataset.from_dict({"input_ids": [[5 + row % 2] * 4 for row in range(40)], "labels": [0, 1] * 20})
    many = Dataset.from_dict({"input_ids": [[10 + row % 3] * 4 for row in range(360)], "labels": [0, 1, 2] * 120})
    rows = joint_dataset({"tone": few, "topic": many}, task_runs.TASKS)

    def Knowing(classes: int, first: int) -> Any:
        """A teacher that reads its class off the first word."""
        model = tiny.bert(labels=classes)
        model.forward = lambda input_ids, **_: {
            "logits": 9 * F.one_hot((input_ids[:, 0] - first) % classes, classes).float()
        }
        return model

    good = {"tone": Knowing(2, 5), "topic": Knowing(3, 10)}
    args = {"teacher_score_examples": 40}
    assert trainer(tmp_path, train_dataset=rows, teacher_model=good, args=args).score_teachers() == {
        "tone": 1.0,
        "topic": 1.0,
    }
    for task, model in {"tone": tiny.bert(labels=2, seed=3), "topic": Knowing(3, 11)}.items():
        made = trainer(tmp_path, train_dataset=rows, teacher_model={**good, task: model}, args=args)
        with pytest.raises(ValueError, match="nothing to teach"):
            made.score_teachers()


def test_one_that_knows_all_tasks_may_stand_beside_their_own(tmp_path: Path) -> None:
    """By name, in terms of its own; without any, an objective that nobody gave would leave it out."""
    teachers = {**task_runs.teachers(), "average": MovingAverageTeacher(0.5)}
    with pytest.raises(ValueError, match=r"No task follows the teacher 'average'.*teacher='average'\), tasks, TASK"):
        trainer(tmp_path, teacher_model=teachers)
    terms = {
        f"{name}_{task}": TaskTerm(LogitTerm(SoftTargetLoss(), teacher=name), task_runs.TASKS, task)
        for task in task_runs.TASKS
        for name in (task, "average")
    }
    made = trainer(tmp_path, teacher_model=teachers, objective=Objective(**terms), args={"learning_rate": 1e-2})
    made.train()
    logged = [log for log in made.state.log_history if "loss" in log]
    assert logged[0]["average_tone"] == pytest.approx(0.0, abs=1e-6)  # it is the student itself
    assert logged[-1]["average_tone"] > 1e-4
    assert logged[-1]["average_topic"] > 1e-4


# ---- What is refused ----


def test_exits_over_all_tasks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"looks at all tasks.*TaskTerm\(ExitTerm\(...\), tasks, TASK\)"):
        trainer(tmp_path, objective=Objective(ce=LabelTerm(), exits=ExitTerm(task_runs.LAYER)), teacher_model=None)


def test_a_bottleneck_is_for_all_tasks() -> None:
    with pytest.raises(ValueError, match="for all tasks at once: put it beside"):
        TaskTerm(BottleneckTerm("bert.pooler"), task_runs.TASKS, "tone")


def test_a_student_may_have_been_one_of_numbers_before() -> None:
    assert with_tasks(tiny.bert(problem_type="regression"), task_runs.TASKS).config.problem_type is None


def test_a_teacher_of_other_classes_is_refused(tmp_path: Path) -> None:
    swapped = dict(zip(["tone", "topic"], reversed(task_runs.teachers().values()), strict=True))
    with pytest.raises(ValueError, match=r"Teacher 'tone': The student has 2 labels .bad, good. and the teacher 3"):
        trainer(tmp_path, teacher_model=swapped)
    with pytest.raises(ValueError, match=r"named after it, one of \['tone', 'topic'\]"):
        trainer(tmp_path, teacher_model=task_runs.teachers()["tone"])


def test_a_training_set_without_one_of_the_tasks_is_refused(tmp_path: Path) -> None:
    rows = task_runs.rows()
    tones = [row for row, label in enumerate(rows["labels"][:]) if label in (0, 1)]
    with pytest.raises(ValueError, match=r"No row of the training set is of task 'topic'.*joint_dataset"):
        trainer(tmp_path, train_dataset=rows.select(tones))


def test_labels_of_another_kind_are_refused(tmp_path: Path) -> None:
    rows = task_runs.rows().cast_column("labels", Value("float32"))
    with pytest.raises(ValueError, match="one class, a whole number, as joint_dataset writes it"):
        trainer(tmp_path, train_dataset=rows)


def test_data_of_the_tasks_in_another_order_is_refused(tmp_path: Path) -> None:
    turned = Tasks({task: task_runs.TASKS[task] for task in ("topic", "tone")})
    rows = joint_dataset({task: task_runs.data(task, 12) for task in turned}, turned)
    with pytest.raises(ValueError, match="give both one order"):
        trainer(tmp_path, train_dataset=rows)


def test_classes_that_read_like_tasks_without_being_any_are_named(tmp_path: Path, caplog: Any) -> None:
    plain = tiny.bert(labels=5)
    plain.config.id2label = dict(enumerate(task_runs.TASKS.joint))
    trainer(tmp_path, model=plain, teacher_model=None)
    assert "with_tasks" in caplog.text
    caplog.clear()
    trainer(tmp_path, teacher_model=None)
    assert caplog.text == ""


def test_the_card_says_that_it_has_several_tasks_and_cites_the_losses_within(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    made.create_model_card()
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "hf_distill.task_model(model, TASK)" in card
    assert "1503.02531" in card
    assert "TaskTerm(LogitTerm(SoftTargetLoss(temperature=2.0), weight=0.5), 'topic')" in card
