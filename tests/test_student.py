from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import transformers
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from hf_distill import DistillationTrainer, student_from_teacher
from hf_distill.evaluation import predict
from hf_distill.student import with_class_order

TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}


def made(name: str, **config: object) -> PreTrainedModel:
    """A model of this family with random weights that are far from 0."""
    torch.manual_seed(0)
    head = "ForSequenceClassification" if "vocab_size" in config else "ForImageClassification"
    model = getattr(transformers, name + head)(getattr(transformers, f"{name}Config")(**config))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def text_model(name: str, **config: object) -> PreTrainedModel:
    sizes = {"hidden_size": 8, "num_hidden_layers": 6, "num_attention_heads": 2, "intermediate_size": 8}
    return made(name, vocab_size=40, **TOKENS, **sizes, **config)


def image_model(name: str) -> PreTrainedModel:
    sizes = {"hidden_size": 8, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 8}
    return made(name, image_size=32, patch_size=8, **sizes)


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


@pytest.mark.parametrize(
    ("name", "config", "layers"),
    [
        ("ModernBert", {}, [0, 4]),  # layers that differ with their place
        ("Qwen2", {"num_key_value_heads": 2}, [1, 4]),  # that know their place, and have a kind each
        ("Gemma2", {"num_key_value_heads": 2, "head_dim": 4}, [0, 3]),
        ("Roberta", {}, [1, 4]),
    ],
)
def test_what_is_loaded_answers_as_what_was_saved(
    name: str, config: dict[str, int], layers: list[int], tmp_path: Path
) -> None:
    student = student_from_teacher(text_model(name, **config), layers).eval()
    tokens = torch.tensor([[5, 6, 7, 8]])
    student.save_pretrained(tmp_path)
    again = type(student).from_pretrained(tmp_path).eval()
    torch.testing.assert_close(again(tokens).logits, student(tokens).logits)


def test_layers_that_could_not_be_loaded_again_are_refused() -> None:
    with pytest.raises(ValueError, match="differ with their place"):
        student_from_teacher(text_model("ModernBert"), [1, 4])  # the first layer of all has a part less
    for name in ("Dinov2", "Beit"):  # whose configs name a layer that is gone
        with pytest.raises(ValueError, match="cannot do with fewer layers"):
            student_from_teacher(image_model(name), [1, 3])
    with pytest.raises(ValueError, match="0 stacks of None layers"):
        student_from_teacher(tiny.resnet(), [0])


def test_random_numbers_are_left_alone() -> None:
    teacher = tiny.bert(layers=2)
    before = torch.get_rng_state()
    student_from_teacher(teacher, [0])
    assert torch.equal(torch.get_rng_state(), before)


def test_outputs_follow_the_class_names() -> None:
    teacher = tiny.bert(id2label={0: "c", 1: "a", 2: "b"}).eval()
    student = with_class_order(student_from_teacher(teacher, [0]), ["a", "b", "c"]).eval()
    inputs = tiny.dataset(rows=2).remove_columns("labels").with_format("torch")[:]
    torch.testing.assert_close(student(**inputs).logits, teacher(**inputs).logits[:, [1, 2, 0]])
    assert student.config.label2id == {"a": 0, "b": 1, "c": 2}
    assert teacher.config.id2label[0] == "c"


def test_a_head_that_is_no_linear_layer_is_not_renamed_alone() -> None:
    model = tiny.bert(id2label={0: "c", 1: "a", 2: "b"})
    model.classifier = nn.Conv1d(16, 3, 1)
    with pytest.raises(ValueError, match="cannot be put in order"):
        with_class_order(model, ["a", "b", "c"])
    assert model.config.id2label[0] == "c"


def test_both_heads_follow_the_class_names() -> None:
    config = transformers.DeiTConfig(
        image_size=8, patch_size=4, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
        id2label={0: "c", 1: "a", 2: "b"}, label2id={"c": 0, "a": 1, "b": 2}, initializer_range=0.5,
    )  # fmt: skip
    model = transformers.DeiTForImageClassificationWithTeacher(config).eval()
    images = torch.randn(2, 3, 8, 8)
    before = model(images).logits
    torch.testing.assert_close(with_class_order(model, ["a", "b", "c"])(images).logits, before[:, [1, 2, 0]])


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
