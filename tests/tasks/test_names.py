"""Which outputs, labels and rows are whose."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification

from hf_distill import Predictor, Tasks, compare, task_model, with_tasks

TASKS = Tasks({"tone": ["bad", "good"], "topic": ["film", "music", "art"]})


def test_outputs_lie_beside_each_other_in_the_order_of_the_tasks() -> None:
    assert list(TASKS) == ["tone", "topic"]
    assert (TASKS.outputs("tone"), TASKS.outputs("topic")) == (slice(0, 2), slice(2, 5))
    assert TASKS.joint == ("tone/bad", "tone/good", "topic/film", "topic/music", "topic/art")
    logits = torch.arange(10.0).reshape(2, 5)
    assert {task: own.tolist() for task, own in TASKS.split(logits).items()} == {
        "tone": [[0.0, 1.0], [5.0, 6.0]],
        "topic": [[2.0, 3.0, 4.0], [7.0, 8.0, 9.0]],
    }


def test_a_label_is_its_own_tasks_and_a_missing_one_is_for_all_teachers() -> None:
    labels = torch.tensor([0, 4, -100, 1, 2])
    assert TASKS.own_labels("tone", labels).tolist() == [0, -100, -100, 1, -100]
    assert TASKS.own_labels("topic", labels).tolist() == [-100, 2, -100, -100, 0]
    assert TASKS.judged_by("tone", labels).tolist() == [True, False, True, True, False]
    assert TASKS.judged_by("topic", labels).tolist() == [False, True, True, False, True]
    assert TASKS.judged_by("topic", labels.unsqueeze(1)).tolist() == [False, True, True, False, True]


@pytest.mark.parametrize("labels", [torch.tensor([0.0, 1.0]), torch.zeros(2, 5), torch.zeros(2, 5, dtype=torch.long)])
def test_labels_of_another_kind_are_refused(labels: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="one class, a whole number"):
        TASKS.own_labels("tone", labels)


def test_rows_of_a_data_set() -> None:
    rows = Dataset.from_dict({"label": [0, 4, -100, 1, 2]})
    assert (TASKS.rows("tone", rows), TASKS.rows("topic", rows)) == ([0, 2, 3], [1, 2, 4])
    assert TASKS.rows("tone", Dataset.from_dict({"input_ids": [[1]]})) is None
    assert TASKS.rows("tone", None) is None


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({}, "at least one task"),
        ({"a/b": ["x", "y"]}, "cannot be called 'a/b'"),
        ({"": ["x", "y"]}, "cannot be called ''"),
        ({"a": ["x"]}, "two or more classes"),
        ({"a": "xy"}, "two or more classes"),
        ({"a": ["x", "x"]}, "different names"),
    ],
)
def test_names_that_could_not_be_told_apart_are_refused(classes: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tasks(classes)


def test_an_unknown_task_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="no task 'tones'; there are \\['tone', 'topic'\\]"):
        TASKS.outputs("tones")


def test_the_order_of_tasks_counts() -> None:
    same, other = Tasks(dict(TASKS)), Tasks({task: TASKS[task] for task in ("topic", "tone")})
    assert same == TASKS
    assert hash(same) == hash(TASKS)
    assert other != TASKS


def test_a_saved_student_knows_its_tasks(tmp_path: Path) -> None:
    slashes = Tasks({"tone": ["n/a", "good"], "topic": ["film", "music", "tone/bad"]})
    with_tasks(tiny.bert(), slashes).save_pretrained(tmp_path)
    assert Tasks.of(AutoModelForSequenceClassification.from_pretrained(tmp_path).config) == slashes
    assert Tasks.of(tiny.bert().config) is None


def test_names_with_slashes_alone_make_no_tasks() -> None:
    config = tiny.bert(labels=4).config
    config.id2label = dict(enumerate(["sports/football", "sports/tennis", "arts/film", "arts/music"]))
    assert Tasks.of(config) is None


def test_where_all_classes_would_be_weighed_against_each_other_it_is_refused() -> None:
    student = with_tasks(tiny.bert(), TASKS)
    rows = tiny.dataset(rows=6)
    with pytest.raises(ValueError, match=r"Cut the classifier of one out: task_model\(model, 'tone'\)"):
        compare(student, tiny.bert(), rows)
    with pytest.raises(ValueError, match="task_model"):
        Predictor(student, object())
    Tasks.refuse(task_model(student, "tone").config)


def test_a_config_whose_classes_were_renamed_is_refused() -> None:
    student = with_tasks(tiny.bert(), TASKS)
    student.config.id2label[0] = "bad"
    with pytest.raises(ValueError, match="which are not theirs"):
        Tasks.of(student.config)
