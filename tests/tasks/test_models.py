"""The head of several tasks, and the models that are cut out of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from hf_distill import Tasks, student_from_teacher, task_model, with_tasks
from hf_distill.tasks.names import FIELD

TASKS = Tasks({"tone": ["bad", "good"], "topic": ["film", "music", "art"]})


@pytest.mark.parametrize("name", ["bert", "distilbert", "vit", "resnet", "vgg"])
def test_a_cut_out_model_answers_as_the_student_does_within_the_task(name: str, tmp_path: Path) -> None:
    student = with_tasks(tiny.MODELS[name](), TASKS).eval()
    inputs = tiny.dataset(name, rows=3).remove_columns("labels").with_format("torch")[:]
    if name == "distilbert":
        del inputs["token_type_ids"]
    logits = student(**inputs).logits
    assert logits.shape == (3, 5)
    for task, part in TASKS.split(logits).items():
        cut = task_model(student, task)
        cut.save_pretrained(tmp_path / task)
        again = type(cut).from_pretrained(tmp_path / task).eval()
        torch.testing.assert_close(again(**inputs).logits, part)
        assert again.config.id2label == dict(enumerate(TASKS[task]))
        assert again.config.label2id[TASKS[task][1]] == 1
        assert not hasattr(again.config, FIELD)
        assert again(**inputs, labels=torch.tensor([0, 1, 1])).loss.isfinite()  # its head knows its size
    assert student.config.num_labels == 5
    assert torch.equal(student(**inputs).logits, logits)


def test_the_new_head_is_drawn_as_the_models_own_and_learns() -> None:
    torch.manual_seed(0)
    model = tiny.bert(initializer_range=0.02, hidden_size=64)
    old = model.classifier.weight
    student = with_tasks(model, TASKS)
    assert 0.01 < student.classifier.weight.std() < 0.03
    assert not torch.equal(student.classifier.weight[:3], old)
    assert len(student.classifier.weight.unique(dim=0)) == 5
    assert student.classifier.bias.tolist() == [0.0] * 5
    assert student.classifier.weight.requires_grad
    assert student.num_labels == 5


def test_a_student_of_several_tasks_may_be_made_of_a_teachers_layers(tmp_path: Path) -> None:
    student = with_tasks(student_from_teacher(tiny.bert(labels=2, layers=4), layers=[0, 2]), TASKS)
    student.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert (again.config.num_hidden_layers, Tasks.of(again.config)) == (2, TASKS)


def test_what_cannot_be_cut_is_refused() -> None:
    student = with_tasks(tiny.bert(), TASKS)
    with pytest.raises(KeyError, match="no task 'tones'"):
        task_model(student, "tones")
    with pytest.raises(ValueError, match="a model of one task"):
        task_model(tiny.bert(), "tone")
    odd = tiny.bert()
    odd.classifier = nn.Sequential(nn.Conv1d(16, 3, 1))
    with pytest.raises(ValueError, match="no linear layer"):
        with_tasks(odd, TASKS)
