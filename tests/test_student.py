from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from transformers import AutoModelForSequenceClassification

from hf_distill import DistillationTrainer, student_from_teacher
from hf_distill.evaluation import predict
from hf_distill.student import with_class_order


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
    again = type(teacher).from_pretrained(tmp_path)
    assert again.config.num_hidden_layers == 1
    assert again.state_dict().keys() == student.state_dict().keys()


def test_outputs_follow_the_class_names() -> None:
    teacher = tiny.bert(id2label={0: "c", 1: "a", 2: "b"}).eval()
    student = with_class_order(student_from_teacher(teacher, [0]), ["a", "b", "c"]).eval()
    inputs = tiny.dataset(rows=2).remove_columns("labels").with_format("torch")[:]
    torch.testing.assert_close(student(**inputs).logits, teacher(**inputs).logits[:, [1, 2, 0]])
    assert student.config.label2id == {"a": 0, "b": 1, "c": 2}
    assert teacher.config.id2label[0] == "c"


def test_a_copy_of_a_model_trained_in_bfloat16_is_a_plain_model(tmp_path: Path) -> None:
    args = tiny.arguments(tmp_path, max_steps=1, bf16=True)
    trainer = DistillationTrainer(tiny.bert(), args, train_dataset=tiny.dataset())
    trainer.train()
    inputs = tiny.dataset(rows=8)
    trainer.save_model(str(tmp_path / "saved"))
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    assert "forward" in vars(trainer.model)  # what accelerate leaves behind
    assert "forward" not in vars(student_from_teacher(trainer.model, [0]))
    np.testing.assert_array_equal(predict(trainer.model, inputs).logits, predict(saved, inputs).logits)


@pytest.mark.parametrize("layers", [[], [4], [-1]])
def test_a_layer_that_is_not_there_is_an_error(layers: list[int]) -> None:
    with pytest.raises(ValueError, match="layers 0 to 3"):
        student_from_teacher(tiny.bert(layers=4), layers)


def test_a_model_without_a_stack_is_an_error() -> None:
    teacher = tiny.bert(layers=4)
    teacher.config.num_hidden_layers = 5
    with pytest.raises(ValueError, match="0 stacks of 5 layers"):
        student_from_teacher(teacher, [0])
