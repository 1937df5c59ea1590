"""A training is done once for its settings, goes on where it was killed, and is never mistaken for another."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from datasets import Dataset
from other_run import OtherRun
from transformers import TrainerCallback, default_data_collator

from hf_distill import (
    DistillationTrainer,
    DistillationTrainingArguments,
    LogitTerm,
    ModelTeacher,
    Objective,
    Tasks,
    joint_dataset,
    with_tasks,
)
from hf_distill.augmentation import Augmentation, ImageTransform
from hf_distill.fingerprints import rows_fingerprint
from hf_distill.image_views import Views
from hf_distill.losses import HardTargetLoss
from hf_distill.recipe import runs
from hf_distill.recipe.runs import Run, changed, check_sources, check_training, train_run, train_with_controls


class Tokenizer:
    """Stands in for a tokenizer that has nothing to save."""

    model_input_names = ("input_ids",)

    def save_pretrained(self, folder: str) -> None:
        (Path(folder) / "tokenizer.json").write_text("{}")


def train(folder: Path, rows: Dataset | None = None, **settings: Any) -> DistillationTrainer:
    return train_run(
        "student",
        lambda: tiny.bert(dropout=0.1),
        tiny.arguments(folder, **{"num_train_epochs": 2, **settings}),
        tiny.dataset() if rows is None else rows,
        None,
        processing_class=Tokenizer(),
        collator=default_data_collator,
        about={"student": "bert"},
    )


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of steps that each training took."""
    taken: list[int] = []
    original = DistillationTrainer.train

    def counted(self: DistillationTrainer, *args: Any, **kwargs: Any) -> Any:
        steps: list[int] = []

        class Count(TrainerCallback):
            def on_step_end(self, *_: Any, **__: Any) -> None:
                steps.append(1)

        self.add_callback(Count())
        try:
            return original(self, *args, **kwargs)
        finally:
            taken.append(len(steps))

    monkeypatch.setattr(DistillationTrainer, "train", counted)
    return taken


def test_what_is_finished_is_not_done_again(tmp_path: Path, trainings: list[int]) -> None:
    first, second = train(tmp_path), train(tmp_path)
    assert trainings == [10]
    assert second.state.log_history == first.state.log_history
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name])


def test_what_another_run_finishes_meanwhile_is_not_done_again(tmp_path: Path, trainings: list[int]) -> None:
    train(tmp_path / "first")
    (tmp_path / "second").mkdir()
    other = OtherRun(tmp_path / "second")

    def end() -> None:
        shutil.copytree(tmp_path / "first", tmp_path / "second", ignore=lambda *_: ["_lock"], dirs_exist_ok=True)
        other.leave()

    threading.Timer(0.2, end).start()
    train(tmp_path / "second")
    assert trainings == [10]


@pytest.mark.parametrize("change", [{"learning_rate": 1e-3}, {"seed": 7}, {"rows": tiny.dataset(seed=5)}])
def test_other_settings_or_data_are_trained_again(tmp_path: Path, trainings: list[int], change: dict[str, Any]) -> None:
    train(tmp_path)
    train(tmp_path, **change)
    assert trainings == [10, 10]


def test_what_is_shared_out_among_more_devices_is_trained_again(
    tmp_path: Path, trainings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """36 examples, 8 or 16 in a step, twice; on one device nothing is said, so that older settings stay the same."""
    train(tmp_path)
    assert "examples_at_once" not in json.loads((tmp_path / runs.FINISHED_FILE).read_text())
    doubled = property(lambda args: 2 * args.per_device_train_batch_size)  # as with two GPUs in one process
    monkeypatch.setattr(DistillationTrainingArguments, "train_batch_size", doubled)
    train(tmp_path)
    assert trainings == [10, 6]
    monkeypatch.setattr(DistillationTrainingArguments, "world_size", 3)
    assert runs.shared_out(tiny.arguments(tmp_path)) == {"examples_at_once": 48}


@pytest.mark.parametrize(
    "change", [{"logging_steps": 5}, {"run_name": "another"}, {"disable_tqdm": False}, {"log_level": "debug"}]
)
def test_settings_that_do_not_matter_do_not_matter(
    tmp_path: Path, trainings: list[int], change: dict[str, Any]
) -> None:
    train(tmp_path)
    train(tmp_path, **change)
    assert trainings == [10]


def test_a_killed_training_goes_on_from_its_checkpoint(
    tmp_path: Path, trainings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tmp_path / "whole")
    step = DistillationTrainer.training_step

    def killed(self: DistillationTrainer, *args: Any) -> Any:
        if self.state.global_step == 7:
            raise KeyboardInterrupt
        return step(self, *args)

    saving = {"save_strategy": "steps", "save_steps": 3}
    with monkeypatch.context() as patch:
        patch.setattr(DistillationTrainer, "training_step", killed)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "killed", **saving)
    assert not (tmp_path / "killed" / runs.FINISHED_FILE).exists()
    resumed = train(tmp_path / "killed", **saving)
    assert trainings == [10, 7, 4]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name])


def test_half_a_checkpoint_is_passed_over(tmp_path: Path) -> None:
    run = Run(tmp_path, {"a": 1})
    run.begin()
    for step, name in ((3, "trainer_state.json"), (12, "trainer_state.json"), (15, "config.json")):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / name).write_text('{"global_step": 1}')
    (tmp_path / "checkpoint-18").mkdir()
    (tmp_path / "checkpoint-18" / "trainer_state.json").write_text('{"global_st')  # a full disk
    assert run.begin() == str(tmp_path / "checkpoint-12")


def test_a_checkpoint_of_other_settings_is_not_taken_up(tmp_path: Path, trainings: list[int]) -> None:
    saving = {"save_strategy": "steps", "save_steps": 3}
    train(tmp_path, **saving)
    train(tmp_path, **saving, learning_rate=1e-3)
    assert trainings == [10, 10]


def test_half_a_settings_file_is_not_taken_for_one(tmp_path: Path) -> None:
    run = Run(tmp_path, {"a": 1})
    assert run.begin() is None
    run.end()
    assert Run(tmp_path, {"a": 1}).finished
    assert not Run(tmp_path, {"a": 2}).finished
    Run(tmp_path, {"a": 2}).begin()  # and killed
    assert not Run(tmp_path, {"a": 1}).finished
    (tmp_path / runs.FINISHED_FILE).write_text('{"a"')
    assert not Run(tmp_path, {"a": 1}).finished


def test_each_student_has_a_control_with_the_same_start_and_steps(tmp_path: Path) -> None:
    rows = tiny.dataset()
    unlabelled = rows.map(lambda row, i: {"labels": row["labels"] if i < 20 else -100}, with_indices=True)
    teacher = tiny.bert(seed=9)
    args = tiny.arguments(tmp_path / "out", num_train_epochs=1, learning_rate=0.0)
    students, controls = train_with_controls(
        lambda seed: tiny.bert(seed=seed),
        args,
        unlabelled,
        unlabelled.select(range(20)),
        None,
        teacher=ModelTeacher(teacher),
        objective=Objective(hard=LogitTerm(HardTargetLoss())),
        seeds=[3, 4],
        processing_class=Tokenizer(),
        collator=default_data_collator,
        about={},
    )
    for student, control in zip(students, controls, strict=True):
        assert student.state.max_steps == control.state.global_step == 5
        assert control.teachers == {}
        for name, value in student.model.state_dict().items():  # nothing was learned at a rate of 0
            assert torch.equal(value, control.model.state_dict()[name])
    folders = [Path(trainer.args.output_dir).name for trainer in (*students, *controls)]
    assert folders == ["out", "_student-seed4", "_control-seed3", "_control-seed4"]


@pytest.mark.parametrize("held", ["checkpoint-500", "config.json", "model.safetensors", "adapter_config.json"])
def test_a_model_or_checkpoints_of_others_are_not_touched(tmp_path: Path, held: str) -> None:
    (tmp_path / held).mkdir() if "-" in held else (tmp_path / held).write_text("{}")
    for check in (Run(tmp_path, {"a": 1}).begin, lambda: check_training(tiny.arguments(tmp_path))):
        with pytest.raises(ValueError, match=r"holds (checkpoints of another training|a model that is not ours)"):
            check()
    assert [path.name for path in tmp_path.iterdir()] == [held]
    (tmp_path / runs.SETTINGS_FILE).write_text('{"a": 2}')
    check_training(tiny.arguments(tmp_path))
    assert Run(tmp_path, {"a": 1}).begin() is None


def test_what_is_missing_is_said_before_anything_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "get_available_reporting_integrations", lambda: ["tensorboard"])
    check_training(tiny.arguments(tmp_path, report_to=["tensorboard"]))
    with pytest.raises(ValueError, match="--report_to wandb: it is not installed here"):
        check_training(tiny.arguments(tmp_path, report_to=["tensorboard", "wandb"]))
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file, and a folder is needed"):
        check_training(tiny.arguments(tmp_path / "file"))


LOST = [
    "{}",
    "{}/../out",
    "{}:0,1",
    "config:{}",
    "{}/checkpoint-8",
    "{}/../shared/_control-seed0:1",
    "{}/_student-seed1",
]


@pytest.mark.parametrize("name", LOST)
def test_a_student_is_not_put_in_the_place_of_what_it_comes_from(tmp_path: Path, name: str) -> None:
    (folder := tmp_path / "out").mkdir()
    (folder / runs.SETTINGS_FILE).write_text('{"a": 2}')  # so it is ours, and would be made anew
    shared = tmp_path / "shared"
    kept = [str(tmp_path), f"{folder}/_teacher", f"{folder}s", "out", str(shared), f"{shared}/_student-seed1"]
    check_sources(["layers:0,1", "", *kept], folder, shared)
    with pytest.raises(ValueError, match="would take the place of"):
        check_sources([*kept, name.format(folder)], folder, shared)


def test_what_was_written_about_a_model_goes_with_it(tmp_path: Path) -> None:
    Run(tmp_path, {"a": 1}).begin()
    about = ("README.md", "report.json", "report.html", "models.png")
    for name in (*about, "LICENSE", "notes.txt"):
        (tmp_path / name).write_text("{}")
    Run(tmp_path, {"a": 1}).begin()
    assert all((tmp_path / name).is_file() for name in about)
    Run(tmp_path, {"a": 2}).begin()
    assert {path.name for path in tmp_path.iterdir()} == {runs.SETTINGS_FILE, "LICENSE", "notes.txt"}


@pytest.mark.parametrize(
    ("change", "cure"),
    [
        ({"seed": 7}, "--seeds"),
        ({"resume_from_checkpoint": "checkpoint-3"}, "The same command, given again"),
        ({"load_best_model_at_end": True, "eval_strategy": "epoch", "save_strategy": "epoch"}, "The last epoch counts"),
        ({"teacher_dtype": "bfloat16"}, "--bf16"),
    ],
)
def test_what_a_recipe_does_not_go_by_is_refused(tmp_path: Path, change: dict[str, Any], cure: str) -> None:
    check_training(tiny.arguments(tmp_path))
    with pytest.raises(ValueError, match=f"--{next(iter(change))} has no place in a recipe: leave it out.*{cure}"):
        check_training(tiny.arguments(tmp_path, **change))


def test_runs_that_differ_in_the_teachers_part_share_their_controls(tmp_path: Path, trainings: list[int]) -> None:
    rows = tiny.dataset()

    def run(name: str, teacher: int = 9, **settings: Any) -> list[DistillationTrainer]:
        return train_with_controls(
            lambda seed: tiny.bert(seed=seed),
            tiny.arguments(tmp_path / name, num_train_epochs=1, **settings),
            rows,
            rows,
            None,
            teacher=ModelTeacher(tiny.bert(seed=teacher)),
            objective=None,
            seeds=[3],
            processing_class=Tokenizer(),
            collator=default_data_collator,
            about={},
            about_teacher={"teacher": teacher},
            control_folder=tmp_path / "shared",
        )[1]

    first = run("a", temperature=4.0, distillation_weight=1.0)
    second = run("b", temperature=1.0, distillation_weight=0.3)
    assert trainings == [5, 5, 5], "two students and one control"
    assert first[0].args.output_dir == second[0].args.output_dir == str(tmp_path / "shared" / "_control-seed3")
    run("c", learning_rate=1e-3)
    assert trainings == [5] * 5, "another learning rate is another control"
    run("c", learning_rate=1e-3, teacher=8)
    assert trainings == [5] * 6, "another teacher is another student, but no other control"


def test_a_student_of_several_tasks_is_scored_by_task_and_taken_up_with_them(tmp_path: Path) -> None:
    tasks = Tasks({"a": ["x", "y"], "b": ["x", "y", "z"]})
    rows = joint_dataset({"a": tiny.dataset(rows=8).map(lambda row: {"labels": row["labels"] % 2}),
                          "b": tiny.dataset(rows=8)}, tasks)  # fmt: skip

    def run() -> DistillationTrainer:
        return train_run(
            "student", lambda: with_tasks(tiny.bert(), tasks), tiny.arguments(tmp_path, max_steps=1), rows, rows,
            teacher={"a": ModelTeacher(tiny.bert(labels=2)), "b": ModelTeacher(tiny.bert())},
            processing_class=Tokenizer(), collator=default_data_collator, about={},
        )  # fmt: skip

    assert {"eval_accuracy", "eval_accuracy_a", "eval_accuracy_b"} <= run().evaluate().keys()
    again = run()
    assert again.tasks == tasks
    assert "eval_accuracy_b" in again.evaluate()


def test_nothing_is_pushed_by_a_run(tmp_path: Path) -> None:
    args = tiny.arguments(tmp_path, hub_token="hf_secret")
    copy = changed(args, push_to_hub=False, output_dir=str(tmp_path / "b"))
    assert (copy.output_dir, copy.hub_token, args.output_dir) == (str(tmp_path / "b"), "hf_secret", str(tmp_path))


def test_the_fingerprint_of_views_is_about_all_that_they_depend_on() -> None:
    def views(rows: Dataset, padding: int = 1, **settings: Any) -> Views:
        transform = ImageTransform((1, 2, 2), (0.5,), (0.5,), Augmentation(padding))
        return Views(rows, transform, **{"seed": 0, **settings})

    def fresh(pixels: Sequence[int]) -> Dataset:
        return Dataset.from_dict({"pixel_values": [bytes([pixel] * 4) for pixel in pixels]})

    rows = fresh(range(3))
    later = views(rows)
    later.set_epoch(5)
    assert rows_fingerprint(views(rows)) == rows_fingerprint(views(fresh(range(3)))) == rows_fingerprint(later)
    others = [views(rows, seed=1), views(rows, count=2), views(rows, padding=2), views(fresh([0, 1, 3])), rows]
    assert len({rows_fingerprint(other) for other in [views(rows), *others]}) == 6


def test_each_training_has_views_of_its_own_unless_their_number_is_fixed(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 192), dtype=np.uint8)
    rows = Dataset.from_dict({"pixel_values": [image.tobytes() for image in pixels], "labels": [0, 1] * 4})
    transform = ImageTransform((3, 8, 8), (0.5,) * 3, (0.5,) * 3, Augmentation())
    found = []
    for count, seeds in ((None, [3, 4]), (3, [4])):
        students, controls = train_with_controls(
            lambda seed: tiny.vgg(2, seed=seed),
            tiny.arguments(tmp_path / str(count), num_train_epochs=1),
            Views(rows, transform, seed=0, count=count),
            Views(rows.select(range(4)), transform, seed=0, count=count),
            None,
            teacher=ModelTeacher(tiny.vgg(2, seed=9)),
            objective=None,
            seeds=seeds,
            processing_class=Tokenizer(),
            collator=default_data_collator,
            about={},
        )
        found.append([(t.train_dataset.seed, t.train_dataset.count) for t in (*students, *controls)])
    assert found == [[(3, None), (4, None)] * 2, [(0, 3)] * 2]
