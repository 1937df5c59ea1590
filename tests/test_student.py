from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from transformers import AutoModelForSequenceClassification

from hf_distill import student_from_teacher


def test_kept_layers_are_the_teachers_and_all_layers_are_the_teacher() -> None:
    teacher = tiny.bert(layers=4)
    student = student_from_teacher(teacher, layers=[1, 3])
    kept = student.bert.encoder.layer
    for mine, its in zip(kept, (teacher.bert.encoder.layer[1], teacher.bert.encoder.layer[3]), strict=True):
        for one, other in zip(mine.parameters(), its.parameters(), strict=True):
            assert torch.equal(one, other)
            assert one.data_ptr() != other.data_ptr()
    assert len(teacher.bert.encoder.layer) == teacher.config.num_hidden_layers == 4
    inputs = tiny.dataset(rows=2).remove_columns("labels").with_format("torch")[:]
    whole = student_from_teacher(teacher, layers=[0, 1, 2, 3]).eval()
    torch.testing.assert_close(whole(**inputs).logits, teacher.eval()(**inputs).logits)


@pytest.mark.parametrize("make", [lambda: tiny.bert(layers=3), tiny.distilbert, tiny.vit])
def test_a_student_survives_saving(tmp_path: Path, make: object) -> None:
    teacher = make()  # type: ignore[operator]
    student = student_from_teacher(teacher, layers=[0])
    student.save_pretrained(tmp_path)
    if hasattr(teacher, "vit"):
        return
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert again.config.num_hidden_layers == 1
    assert again.state_dict().keys() == student.state_dict().keys()


@pytest.mark.parametrize("layers", [[], [4], [-1]])
def test_a_layer_that_is_not_there_is_an_error(layers: list[int]) -> None:
    with pytest.raises(ValueError, match="layers 0 to 3"):
        student_from_teacher(tiny.bert(layers=4), layers)


def test_a_model_without_a_stack_is_an_error() -> None:
    teacher = tiny.bert(layers=4)
    teacher.config.num_hidden_layers = 5
    with pytest.raises(ValueError, match="0 stacks of 5 layers"):
        student_from_teacher(teacher, [0])
