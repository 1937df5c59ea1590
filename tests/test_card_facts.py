from pathlib import Path
from typing import Any

import pytest
import tiny
from huggingface_hub import ModelCard

from hf_distill import (
    DistillationTrainer,
    DistillationTrainingArguments,
    EnsembleTeacher,
    ExitTerm,
    LabelTerm,
    LogitTerm,
    MovingAverageTeacher,
    Objective,
)
from hf_distill import card_facts as card_facts_module
from hf_distill.card_facts import facts_of
from hf_distill.losses import HardTargetLoss, SoftTargetLoss, StandardizedLogits
from hf_distill.model_card import TeacherFacts, write_card


def trainer(folder: Path, student: Any = None, teacher: Any = None, **options: Any) -> DistillationTrainer:
    settings = options.pop("settings", {})
    args = DistillationTrainingArguments(str(folder / "my-student"), use_cpu=True, bf16=True, **settings)
    return DistillationTrainer(student or tiny.bert(), args, teacher_model=teacher, **options)


def test_settings_and_objective_are_the_trainers(tmp_path: Path) -> None:
    settings = {"learning_rate": 3e-4, "seed": 7, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 3}
    objective = Objective(
        ce=LabelTerm(0.3),
        soft=LogitTerm(StandardizedLogits(SoftTargetLoss(2.0)), 0.5),
        hard=LogitTerm(HardTargetLoss(), 0.2),
    )

    facts = facts_of(trainer(tmp_path, teacher=tiny.bert(seed=1), objective=objective, settings=settings))

    assert facts.model_name == "my-student"
    assert facts.task == "text-classification"
    assert facts.objective == objective.describe()
    assert facts.training["examples in a step"] == 12
    assert facts.training["learning rate"] == 3e-4
    assert facts.training["seed"] == 7
    assert facts.training["precision"] == "bfloat16 autocast"
    assert [reference.partition(":")[0] for reference in facts.references] == [
        "StandardizedLogits",
        "SoftTargetLoss",
        "HardTargetLoss",
    ]
    assert facts.base_model is None
    assert facts.labels == []


def test_terms_and_teachers_have_their_papers_too(tmp_path: Path) -> None:
    objective = Objective(own=LogitTerm(SoftTargetLoss()), exits=ExitTerm("bert.encoder.layer.0"))
    facts = facts_of(trainer(tmp_path, teacher=MovingAverageTeacher(), objective=objective))
    found = {reference.partition(":")[0]: reference for reference in facts.references}
    assert list(found) == ["MovingAverageTeacher", "ExitTerm", "SoftTargetLoss"]
    assert "1703.01780" in found["MovingAverageTeacher"]
    assert [teacher.name for teacher in facts.teachers] == ["the student's moving average, decay 0.999"]


@pytest.mark.parametrize("column", ["labels", "label", "label_ids"])
@pytest.mark.parametrize("task", ["single_label", "multi_label", "regression"])
def test_examples_without_a_label_are_counted(tmp_path: Path, task: str, column: str) -> None:
    rows = tiny.dataset(task=task, rows=12)
    missing = [-100.0] * 3 if task == "multi_label" else -100
    some = rows.map(lambda row, i: {"labels": missing if i % 3 == 0 else row["labels"]}, with_indices=True)
    for train, expected in ((rows, 0), (some, 4), (rows.remove_columns("labels"), 12)):
        named = train.rename_columns({name: column for name in train.column_names if name == "labels" != column})
        facts = facts_of(trainer(tmp_path, train_dataset=named))
        assert (facts.training["training examples"], facts.training["of them without a label"]) == (12, expected)


def test_arguments_that_are_not_at_their_defaults_are_settings(tmp_path: Path) -> None:
    said = {"optim": "sgd", "weight_decay": 0.1, "temperature": 3.0}
    more = {"optim_args": "momentum=0.9,nesterov=true", "max_grad_norm": 5.0, "dataloader_drop_last": True}
    silent = {"hub_token": "hf_" + "x" * 30, "run_name": "mine", "logging_steps": 3, "save_strategy": "no"}
    usual, changed = (
        facts_of(trainer(tmp_path, settings=settings)).training for settings in ({}, {**said, **more, **silent})
    )
    assert {name: value for name, value in changed.items() if name not in usual} == more
    assert (changed["optimizer"], changed["weight decay"]) == ("sgd", 0.1)


def test_an_example_with_some_of_its_labels_has_a_label(tmp_path: Path) -> None:
    rows = tiny.dataset(task="multi_label", rows=12).map(lambda row: {"labels": [-100.0, *row["labels"][1:]]})
    assert facts_of(trainer(tmp_path, train_dataset=rows)).training["of them without a label"] == 0


def test_images_are_recognised_and_a_given_task_wins(tmp_path: Path) -> None:
    images = trainer(tmp_path, student=tiny.vit())

    assert facts_of(images).task == "image-classification"
    assert facts_of(images, tasks="text-classification").task == "text-classification"
    assert facts_of(images, tasks=["something else"]).task == "image-classification"


@pytest.mark.parametrize(("student", "brings"), [(tiny.vgg, True), (tiny.resnet, False)])
def test_a_model_that_transformers_lacks_is_loaded_with_its_code(tmp_path: Path, student: Any, brings: bool) -> None:
    facts = facts_of(trainer(tmp_path, student=student()))
    assert facts.brings_code is brings
    assert ('model="my-student", trust_remote_code=True)' in write_card(facts).text) is brings


def test_architecture_onnx_file_and_plots_are_those_of_the_student(tmp_path: Path) -> None:
    facts = facts_of(trainer(tmp_path))
    assert (facts.architecture, facts.onnx_file) == ("bert", None)
    (tmp_path / "my-student" / "onnx").mkdir(parents=True)
    for name in ("onnx/model.onnx", "models.png", "other.png"):
        (tmp_path / "my-student" / name).touch()
    facts = facts_of(trainer(tmp_path))
    assert (facts.onnx_file, list(facts.plots)) == ("onnx/model.onnx", ["models.png"])


def test_an_ensemble_is_named_member_by_member(tmp_path: Path) -> None:
    first, second = tiny.bert(seed=1), tiny.bert(seed=2)
    first.config._name_or_path, second.config._name_or_path = "org/first", "org/second"

    facts = facts_of(trainer(tmp_path, teacher=EnsembleTeacher([first, second])))

    assert facts.teachers == [TeacherFacts("org/first"), TeacherFacts("org/second")]


def test_the_base_model_is_named_only_if_it_can_be_on_the_hub(tmp_path: Path) -> None:
    student = tiny.bert()
    student.config._name_or_path = "org/base"
    assert facts_of(trainer(tmp_path, student=student)).base_model == "org/base"

    student.config._name_or_path = str(tmp_path)
    assert facts_of(trainer(tmp_path, student=student)).base_model is None


def test_a_student_cut_from_its_teacher_is_no_finetune_of_it(tmp_path: Path) -> None:
    student, teacher = tiny.bert(), tiny.bert(layers=2)
    student.config._name_or_path = teacher.config._name_or_path = "org/teacher"

    data = write_card(facts_of(trainer(tmp_path, student=student, teacher=teacher))).data

    assert data.base_model == "org/teacher"
    assert "base_model_relation" not in data


@pytest.mark.parametrize(("commits", "expected"), [(["abc"], "abc"), (["abc", "def"], None)])
def test_a_revision_is_named_only_when_there_is_no_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commits: list[str], expected: str | None
) -> None:
    for commit in commits:
        (tmp_path / "snapshots" / commit).mkdir(parents=True)
    found = str(tmp_path / "snapshots" / "abc" / "config.json")
    monkeypatch.setattr(card_facts_module, "try_to_load_from_cache", lambda name, file: found)
    teacher = tiny.bert(seed=1)
    teacher.config._name_or_path = "org/teacher"

    assert facts_of(trainer(tmp_path, teacher=teacher)).teachers == [TeacherFacts("org/teacher", expected)]


def test_without_a_teacher_there_is_none(tmp_path: Path) -> None:
    assert facts_of(trainer(tmp_path)).teachers == []


def test_what_create_model_card_is_given_is_passed_on(tmp_path: Path) -> None:
    facts = facts_of(
        trainer(tmp_path, settings={"hub_model_id": "anna/student"}),
        language="en",
        license="mit",
        tags="sentiment",
        model_name="A name",
        finetuned_from="org/base",
        dataset=["stanfordnlp/sst2"],
    )

    assert (facts.language, facts.license, facts.tags, facts.model_name) == ("en", "mit", ["sentiment"], "A name")
    assert (facts.base_model, facts.datasets, facts.repo_id) == ("org/base", ["stanfordnlp/sst2"], "anna/student")


@pytest.mark.parametrize(("dataset", "shown"), [("reviews", ["reviews"]), (None, ["imdb"])])
def test_the_trainers_names_of_data_are_kept_apart(tmp_path: Path, dataset: str | None, shown: list[str]) -> None:
    student = trainer(tmp_path)
    student.create_model_card(dataset=dataset, dataset_tags="imdb")
    card = ModelCard.load(tmp_path / "my-student" / "README.md")
    assert card.data.datasets == ["imdb"]
    assert f"- Data: {shown[0]}\n" in card.text
    assert facts_of(student, dataset=dataset, dataset_tags="imdb").datasets == shown
