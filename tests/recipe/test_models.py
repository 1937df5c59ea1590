"""Models by name: what has a trained head, what gets a new one, and which layers are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import BertForSequenceClassification, BertModel, PreTrainedModel

from hf_distill.recipe import about_start, check_names, new_classifier, new_student, split_layers
from hf_distill.recipe import models as module
from hf_distill.recipe.models import check_model, has_trained_head, load_tokenizer, named_by, warn_of_unnamed_classes
from hf_distill.recipe.vision import check_image_model

CLASSES = ("negative", "positive")


@pytest.fixture
def config_only(tmp_path: Path) -> str:
    tiny.bert().config.save_pretrained(tmp_path / "config_only")
    return f"config:{tmp_path / 'config_only'}"


@pytest.fixture
def pretrained(tmp_path: Path) -> str:
    """A model with weights and no head."""
    BertModel(tiny.bert(layers=2).config).save_pretrained(tmp_path / "pretrained")
    return str(tmp_path / "pretrained")


@pytest.fixture
def fine_tuned(tmp_path: Path) -> str:
    tiny.bert(labels=2).save_pretrained(tmp_path / "fine_tuned")
    return str(tmp_path / "fine_tuned")


def same(first: PreTrainedModel, second: PreTrainedModel, part: str = "") -> bool:
    other = second.state_dict()
    return all(torch.equal(value, other[name]) for name, value in first.state_dict().items() if part in name)


def test_who_has_a_trained_head(config_only: str, pretrained: str, fine_tuned: str) -> None:
    assert [has_trained_head(name) for name in (config_only, pretrained, fine_tuned)] == [False, False, True]


def test_a_folder_without_weights_is_not_taken_for_a_new_model(config_only: str) -> None:
    check_model(config_only, "--teacher")
    with pytest.raises(FileNotFoundError, match=r"no weights.*or write config:"):
        check_model(config_only.removeprefix("config:"), "--teacher")


def test_random_weights_have_no_base_model(config_only: str, pretrained: str) -> None:
    assert new_classifier(config_only, CLASSES, seed=0).config.name_or_path == ""
    assert new_classifier(pretrained, CLASSES, seed=0).config.name_or_path == pretrained


def test_a_new_head_has_the_classes_and_the_body_its_weights(pretrained: str) -> None:
    model = new_classifier(pretrained, CLASSES, seed=0)
    assert model.config.id2label == {0: "negative", 1: "positive"}
    assert model.config.label2id == {"negative": 0, "positive": 1}
    body = BertModel.from_pretrained(pretrained).state_dict()
    assert all(torch.equal(value, body[name]) for name, value in model.bert.state_dict().items())


def named(folder: Path, names: list[str]) -> str:
    tiny.bert(labels=len(names), id2label=dict(enumerate(names))).save_pretrained(folder)
    return str(folder)


def test_a_head_for_other_classes_gets_a_new_one_also_of_the_same_size(tmp_path: Path) -> None:
    """A head that only has the right size means nothing for these classes."""
    name = named(tmp_path, ["cold", "warm"])
    saved = BertForSequenceClassification.from_pretrained(name)
    model, again, other = (new_classifier(name, CLASSES, seed) for seed in (1, 1, 2))  # 0 made the old one
    assert same(model, saved, "bert")
    assert not torch.equal(model.classifier.weight, saved.classifier.weight)
    assert same(model, again)
    assert not torch.equal(model.classifier.weight, other.classifier.weight)
    assert model.config.id2label == {0: "negative", 1: "positive"}
    assert model.config._name_or_path == name, "for the card"


@pytest.mark.parametrize(
    ("names", "order"), [(CLASSES, [0, 1]), (["Positive", "Negative"], [1, 0]), (["LABEL_0", "LABEL_1"], [0, 1])]
)
def test_a_head_for_these_classes_stays_in_their_order(tmp_path: Path, names: list[str], order: list[int]) -> None:
    name = named(tmp_path, names)
    saved, model = BertForSequenceClassification.from_pretrained(name), new_classifier(name, CLASSES, seed=0)
    assert torch.equal(model.classifier.weight, saved.classifier.weight[order])
    assert torch.equal(model.classifier.bias, saved.classifier.bias[order])
    assert same(model, saved, "bert")
    assert model.config.id2label == {0: "negative", 1: "positive"}


def test_classes_that_only_their_number_joins_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    for names, classes, warned in (
        (["a", "b"], ["a", "b"], False), (["LABEL_0", "LABEL_1"], ["a", "b"], True),
        (["a", "b"], ["LABEL_0", "LABEL_1"], True),
    ):  # fmt: skip
        caplog.clear()
        warn_of_unnamed_classes("t", tiny.bert(labels=2, id2label=dict(enumerate(names))).config, classes)
        assert ("That both are 2 is all" in caplog.text) == warned


def test_the_seed_decides_what_is_random(config_only: str, pretrained: str) -> None:
    for name in (config_only, pretrained):
        first, again, other = (new_classifier(name, CLASSES, seed) for seed in (0, 0, 1))
        assert same(first, again)
        assert not same(first, other, "classifier")
        assert same(first, other, "encoder") == (name == pretrained)


def test_a_head_of_another_size_is_replaced(fine_tuned: str) -> None:
    assert new_classifier(fine_tuned, ("a", "b", "c"), seed=0).config.num_labels == 3


def test_weights_in_half_precision_are_trained_in_float32(tmp_path: Path) -> None:
    tiny.bert().to(torch.bfloat16).save_pretrained(tmp_path)
    assert new_classifier(str(tmp_path), CLASSES, seed=0).dtype == torch.float32


def test_a_student_of_the_teachers_layers() -> None:
    teacher = tiny.bert(labels=2, layers=3).to(torch.bfloat16)
    student = new_student("layers:0,2", teacher, CLASSES, seed=0)
    assert student.config.num_hidden_layers == 2
    assert (student.dtype, teacher.dtype) == (torch.float32, torch.bfloat16), "the teacher stays as it is"
    for kept, layer in enumerate((0, 2)):
        ours, theirs = student.bert.encoder.layer[kept], teacher.bert.encoder.layer[layer]
        assert all(torch.equal(value, theirs.state_dict()[name].float()) for name, value in ours.state_dict().items())


def test_a_training_is_also_about_what_lies_in_the_folder_that_it_starts_from(tmp_path: Path) -> None:
    def found(folder: Path) -> list[str]:
        names = (f"config:{folder}", f"config:{folder}:0", f"{folder}", f"{folder}:0")
        return [about_start(name)["start"] for name in names]

    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        tiny.bert().save_pretrained(folder)
    before = found(first)
    assert before == found(second), "wherever it lies"
    assert before[0] == before[1] != before[2] == before[3], "of a new model the weights are drawn"
    tiny.bert(seed=1).save_pretrained(first)
    assert [one == old for one, old in zip(found(first), before, strict=True)] == [True, True, False, False]
    tiny.bert(dropout=0.2).save_pretrained(first)
    assert not set(found(first)) & set(before)
    assert about_start(str(first), new=[str(first)]) == {}
    assert [about_start(name) for name in ("layers:0", "org/model", "org/model:0", "vgg8")] == [{}] * 4


def test_a_training_is_also_about_the_commit_on_the_hub_that_it_starts_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--org--model"
    (repository / "refs").mkdir(parents=True)
    for commit in ("a" * 40, "b" * 40):
        (repository / "snapshots" / commit).mkdir(parents=True)
        (repository / "snapshots" / commit / "config.json").write_text("{}")
        (repository / "refs" / "main").write_text(commit)
        for name in ("org/model", "org/model:0", "config:org/model"):
            assert about_start(name) == {"start": commit}


def test_a_student_of_another_models_layers(pretrained: str) -> None:
    student = new_student(f"{pretrained}:1", tiny.bert(labels=2), CLASSES, seed=0)
    body = BertModel.from_pretrained(pretrained)
    assert student.config.num_hidden_layers == 1
    theirs = body.encoder.layer[1].state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in student.bert.encoder.layer[0].state_dict().items())


@pytest.mark.parametrize("name", ["layers:3", "layers:0,9"])
def test_layers_that_are_not_there(name: str) -> None:
    with pytest.raises(ValueError, match=r"layers 0 to 2; cannot keep"):
        new_student(name, tiny.bert(labels=2, layers=3), CLASSES, seed=0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("org/model", ("org/model", [])),
        ("org/model:0,5", ("org/model", [0, 5])),
        ("layers:1", ("layers", [1])),
        ("C:\\models\\bert", ("C:\\models\\bert", [])),
        ("C:\\models\\bert:2", ("C:\\models\\bert", [2])),
    ],
)
def test_layers_in_a_name(name: str, expected: tuple[str, list[int]]) -> None:
    assert split_layers(name) == expected


def test_layers_are_checked_before_anything_is_trained(fine_tuned: str, pretrained: str) -> None:
    check_names(fine_tuned, f"{pretrained}:1,0")
    for student in ("layers:1", f"{pretrained}:0,2"):
        with pytest.raises(ValueError, match=r"--student: .* has the layers 0 to \d, there is no layer [12]"):
            check_names(fine_tuned, student)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"--teacher .*this folder holds no model"):
        check_model(str(tmp_path), "--teacher")


def test_a_missing_model_names_its_neighbours(tmp_path: Path, fine_tuned: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "hub_reachable", lambda: False)
    with pytest.raises(
        FileNotFoundError, match=r"--student .*fine_tune: there is no such folder.*near it is .*fine_tuned"
    ):
        check_names(fine_tuned, str(tmp_path / "fine_tune") + ":0")
    with pytest.raises(FileNotFoundError, match=r"--teacher org/x: .*Hub cannot be reached.*--preset quick"):
        check_names("org/x", "layers:0")


def test_a_model_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def gated(name: str) -> None:
        raise OSError("You are trying to access a gated repo.\nMore of that.")

    monkeypatch.setattr(module, "hub_reachable", lambda: True)
    monkeypatch.setattr(module.AutoConfig, "from_pretrained", gated)
    with pytest.raises(FileNotFoundError, match=r"no such model .*\(You are .* a gated repo\).*`hf auth login`"):
        check_model("org/x", "--teacher")


def test_a_model_of_another_kind(tmp_path: Path, fine_tuned: str) -> None:
    tiny.resnet().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"--teacher .* is a resnet, of which there is no classifier of texts"):
        check_model(str(tmp_path), "--teacher")
    with pytest.raises(ValueError, match=r"--student .* is a bert, of which there is no classifier of images"):
        check_image_model(fine_tuned, "--student", {})


def test_classes_without_names_are_called_as_the_teacher_calls_them() -> None:
    teacher = tiny.bert(id2label={0: "a", 1: "b", 2: "c"})
    assert named_by(teacher, ("LABEL_0", "LABEL_1", "LABEL_2")) == ("a", "b", "c")
    assert named_by(teacher, ("c", "b", "a")) == ("c", "b", "a")
    assert named_by(tiny.bert(), ("LABEL_0", "LABEL_1", "LABEL_2")) == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_a_model_without_a_tokenizer(fine_tuned: str) -> None:
    with pytest.raises(FileNotFoundError, match="No tokenizer was saved with the model"):
        load_tokenizer(fine_tuned)


def test_names_of_local_models_do_not_ask_the_hub(fine_tuned: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: Any) -> bool:
        raise AssertionError("asked the Hub")

    monkeypatch.setattr(module, "hub_reachable", asked)
    check_names(fine_tuned, f"{fine_tuned}:0")
    check_names(fine_tuned, "layers:0")
