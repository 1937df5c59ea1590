from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoTokenizer,
    BertModel,
    DataCollatorWithPadding,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    TimmWrapperConfig,
)

from hf_distill import ColumnTeacher, DistillationTrainer, EnsembleTeacher, ModelTeacher, load_classifier
from hf_distill.teachers.model import reads_images

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "bad", "film", "good", "plot", "the"]


def tokenizer(words: list[str]) -> PreTrainedTokenizerFast:
    vocabulary = {word: index for index, word in enumerate(words)}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=16, **special)


MINE, ITS = tokenizer(WORDS), tokenizer(WORDS[:4] + WORDS[:3:-1])
TEXTS = ["a good film", "the bad plot", "good", "the film a bad plot"] * 4


def rows(*, keep_text: bool = True) -> Dataset:
    data = Dataset.from_dict({"text": TEXTS, "labels": [1, 0, 1, 0] * 4})
    return data.map(lambda row: MINE(row["text"]), remove_columns=[] if keep_text else ["text"])


# ---- A model with its own tokenizer ----


def test_a_teacher_with_its_own_tokenizer_reads_the_text_again(tmp_path: Path) -> None:
    """With a permuted vocabulary it answers as it would to its own encoding of the text, and not to the student's."""
    teacher, seen = tiny.bert(labels=2, seed=1), []
    teacher.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True)
    args = tiny.arguments(tmp_path, max_steps=1, per_device_train_batch_size=4)
    trainer = DistillationTrainer(
        tiny.bert(labels=2),
        args,
        train_dataset=rows(),
        processing_class=MINE,
        teacher_model=ModelTeacher(teacher, processing_class=ITS, text_columns=["text"]),
    )
    trainer.train()
    expected = ITS(TEXTS[:4], padding=True, pad_to_multiple_of=8, return_tensors="pt")["input_ids"]
    assert torch.equal(seen[0]["input_ids"], expected)
    assert not torch.equal(
        expected, MINE(TEXTS[:4], padding=True, pad_to_multiple_of=8, return_tensors="pt")["input_ids"]
    )


def test_different_tokenizers_are_found_at_construction(tmp_path: Path) -> None:
    tiny.bert(labels=2, seed=1).save_pretrained(tmp_path / "teacher")
    ITS.save_pretrained(tmp_path / "teacher")
    data, args = rows(), tiny.arguments(tmp_path)
    with pytest.raises(ValueError, match=r"different tokenizers.*text_columns"):
        DistillationTrainer(
            tiny.bert(labels=2),
            args,
            train_dataset=data,
            processing_class=MINE,
            teacher_model=str(tmp_path / "teacher"),
        )
    own = ModelTeacher(tmp_path / "teacher", text_columns=["text"])
    DistillationTrainer(tiny.bert(labels=2), args, train_dataset=data, processing_class=MINE, teacher_model=own)


def test_a_missing_text_column_is_named(tmp_path: Path) -> None:
    teacher = ModelTeacher(tiny.bert(labels=2, seed=1), processing_class=ITS, text_columns=["text"])
    with pytest.raises(KeyError, match="'text'"):
        DistillationTrainer(
            tiny.bert(labels=2), tiny.arguments(tmp_path), train_dataset=rows(keep_text=False), teacher_model=teacher
        )
    with pytest.raises(ValueError, match="processing_class"):
        ModelTeacher(tiny.bert(), text_columns=["text"])


def test_a_text_is_cut_to_the_positions_that_a_model_has(tmp_path: Path) -> None:
    """RoBERTa numbers them from padding_idx + 1 on, so 18 are 16; a tokenizer need not know its longest text."""
    ITS.save_pretrained(tmp_path)
    unlimited = AutoTokenizer.from_pretrained(tmp_path, model_max_length=10**30)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = RobertaForSequenceClassification(RobertaConfig(**sizes, vocab_size=10, max_position_embeddings=18))
    teacher = ModelTeacher(model, unlimited, ["text"])
    made = teacher.collate([{"text": "the film " * 20}])
    assert made["encoded"]["input_ids"].shape == (1, 16)
    teacher(made)
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, 17), 5))
    with pytest.raises(ValueError, match=r"one text or two, got text_columns=\['a', 'b', 'c'\]"):
        ModelTeacher(model, unlimited, ["a", "b", "c"])


# ---- Loading by name ----


def test_a_folder_without_a_tokenizer_has_none(tmp_path: Path) -> None:
    """The library would make up one that knows no word."""
    tiny.bert(labels=2, seed=1).save_pretrained(tmp_path)
    assert ModelTeacher(tmp_path).tokenizer is None
    with pytest.raises(ValueError, match="needs its tokenizer"):
        ModelTeacher(tmp_path, text_columns=["text"])
    args = tiny.arguments(tmp_path / "out")
    DistillationTrainer(
        tiny.bert(labels=2), args, train_dataset=rows(), processing_class=MINE, teacher_model=str(tmp_path)
    )


def test_a_teacher_is_loaded_by_name_in_the_wanted_precision(tmp_path: Path) -> None:
    tiny.bert(seed=1).save_pretrained(tmp_path / "large")
    args = tiny.arguments(tmp_path, teacher_dtype="bfloat16", max_steps=1)
    trainer = DistillationTrainer(
        tiny.bert(), args, train_dataset=tiny.dataset(), teacher_model=str(tmp_path / "large")
    )
    trainer.train()
    trainer.save_model()
    assert next(trainer.teachers["teacher"].parameters()).dtype == torch.bfloat16
    saved = json.loads((tmp_path / "objective.json").read_text())
    assert saved["teachers"] == {"teacher": "large"}  # never the path


def test_a_model_that_is_not_there_or_has_no_head_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no-such-model.*Check the spelling"):
        load_classifier(str(tmp_path / "no-such-model"))
    BertModel(tiny.bert().config).save_pretrained(tmp_path / "headless")
    with pytest.raises(ValueError, match=r"no fine-tuned classification head \(classifier.*Fine-tune it"):
        load_classifier(str(tmp_path / "headless"))


def test_an_image_teacher_is_loaded_as_one(tmp_path: Path) -> None:
    tiny.vit().save_pretrained(tmp_path)
    assert type(load_classifier(str(tmp_path))).__name__ == "ViTForImageClassification"


def test_a_model_of_timm_is_known_as_one_of_images_though_its_config_names_no_channels() -> None:
    assert reads_images(TimmWrapperConfig())
    assert not hasattr(TimmWrapperConfig(), "num_channels")
    assert not reads_images(tiny.bert().config)


# ---- A column ----


def soft(values: Any) -> Dataset:
    return Dataset.from_dict(
        {"soft": values, "input_ids": [[5, 6]] * len(values), "labels": [i % 2 for i in range(len(values))]}
    )


@pytest.mark.parametrize("probabilities", [True, False])
def test_a_column_teaches_as_the_model_that_wrote_it(tmp_path: Path, probabilities: bool) -> None:
    teacher, data = tiny.bert(seed=1), tiny.dataset()
    with torch.no_grad():
        inputs = data.remove_columns("labels").with_format("torch")[:]
        logits = teacher.eval()(**inputs).logits
    column = (logits.softmax(-1) if probabilities else logits).tolist()
    trained = []
    for teaching, rows in (
        (teacher, data),
        (ColumnTeacher("soft", probabilities=probabilities), data.add_column("soft", column)),
    ):
        student = tiny.bert()
        args = tiny.arguments(tmp_path, max_steps=3, optim="sgd", learning_rate=0.1)
        DistillationTrainer(student, args, train_dataset=rows, teacher_model=teaching).train()
        trained.append(student.state_dict())
    for name in trained[0]:
        torch.testing.assert_close(trained[0][name], trained[1][name], atol=1e-6, rtol=1e-5)


def test_an_evaluation_set_needs_no_teacher_column(tmp_path: Path) -> None:
    data = tiny.dataset().add_column("soft", [[1.0, 2.0, 3.0]] * 36)
    sets = {"with": data, "without": tiny.dataset(), "bare": tiny.dataset().remove_columns("labels")}
    sets["taught"] = data.remove_columns("labels")
    args = tiny.arguments(tmp_path)
    trainer = DistillationTrainer(
        tiny.bert(), args, train_dataset=data, eval_dataset=sets, teacher_model=ColumnTeacher("soft")
    )
    found = trainer.evaluate()
    assert found["eval_with_loss"] == found["eval_without_loss"]
    assert found["eval_taught_loss"] > 0
    assert "eval_bare_loss" not in found


def test_a_column_survives_a_collator_that_pads() -> None:
    teacher = ColumnTeacher("soft")
    made = teacher.collate([{"soft": [1.0, 2.0], "text": "a"}, {"soft": [3.0, 4.0], "text": "b"}])
    assert torch.equal(made["soft"], torch.tensor([[1.0, 2.0], [3.0, 4.0]]))


@pytest.mark.parametrize(
    ("values", "probabilities", "message"),
    [
        ([[0.1, 0.2], [float("nan"), 0.5]], False, "NaN or infinity in row 1"),
        ([[0.1, 0.2], None], False, "empty value"),
        ([[0.1, 0.2], [0.1]], False, r"different lengths: \[1, 2\]"),
        ([[0.5, 0.5], [2.0, -1.0]], True, "said to hold probabilities, but row 1"),
        ([[0.5, 0.5], [0.5, 0.6]], True, "leave out probabilities=True"),
        ([0, 1], False, r"holds int64 .*a list of numbers is needed.*call the column `labels`"),
        (["bad", "good"], False, r"holds string .*Class numbers or names"),
        ([["a", "b"], ["c", "d"]], False, r"holds list<.*string> in each row"),
    ],
)
def test_an_unusable_column_is_refused(values: Any, probabilities: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ColumnTeacher("soft", probabilities=probabilities).check_dataset(soft(values))


def test_a_column_that_is_not_there_or_too_narrow_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="'logits'"):
        ColumnTeacher("logits").check_dataset(soft([[0.5, 0.5]]))
    with pytest.raises(ValueError, match=r"3 labels.*2"):
        DistillationTrainer(
            tiny.bert(),
            tiny.arguments(tmp_path),
            train_dataset=soft([[0.5, 0.5]] * 8),
            teacher_model=ColumnTeacher("soft"),
        )


def test_a_column_with_class_names_is_aligned(tmp_path: Path) -> None:
    student = tiny.bert(labels=2, id2label={0: "bad", 1: "good"})
    teacher = ColumnTeacher("soft", classes=["good", "bad"])
    trainer = DistillationTrainer(
        student, tiny.arguments(tmp_path), train_dataset=soft([[3.0, 1.0]] * 8), teacher_model=teacher
    )
    view = trainer.ask("teacher", teacher.collate([{"soft": [3.0, 1.0]}]))
    assert torch.equal(view.logits, torch.tensor([[1.0, 3.0]]))


# ---- Ensembles ----


def test_an_ensemble_mixes_models_columns_and_label_orders(tmp_path: Path) -> None:
    one = tiny.bert(labels=2, seed=1, id2label={0: "bad", 1: "good"})
    column = ColumnTeacher("soft", classes=["good", "bad"])
    own = ModelTeacher(tiny.bert(labels=2, seed=2), processing_class=ITS, text_columns=["text"])
    ensemble = EnsembleTeacher([one, column, own], weights=[2, 1, 1])
    assert ensemble.raw_columns == {"soft", "text"}
    data = rows().add_column("soft", [[1.0, 2.0]] * len(TEXTS))
    trainer = DistillationTrainer(
        tiny.bert(labels=2, id2label={0: "bad", 1: "good"}),
        tiny.arguments(tmp_path, max_steps=2),
        train_dataset=data,
        teacher_model=ensemble,
        data_collator=DataCollatorWithPadding(MINE),
    )
    batch = next(iter(trainer.get_train_dataloader()))
    answer = trainer.ask("teacher", batch).logits
    with torch.no_grad():
        mine = {key: batch[key] for key in ("input_ids", "attention_mask")}
        its = dict(ITS(TEXTS[:8], padding=True, pad_to_multiple_of=8, return_tensors="pt"))
        its.pop("token_type_ids", None)
        parts = one(**mine).logits, torch.tensor([[2.0, 1.0]]), own.model(**its).logits
    torch.testing.assert_close(answer, 0.5 * parts[0] + 0.25 * parts[1] + 0.25 * parts[2])
    trainer.train()


def test_an_ensemble_that_shares_tokens_has_one_vocabulary(tmp_path: Path) -> None:
    def named(tokenizer: PreTrainedTokenizerFast, folder: str) -> ModelTeacher:
        tiny.bert(labels=2).save_pretrained(tmp_path / folder)
        tokenizer.save_pretrained(tmp_path / folder)
        return ModelTeacher(tmp_path / folder)

    unnamed, mine, its = tiny.bert(labels=2), named(MINE, "mine"), named(ITS, "its")
    own = ModelTeacher(tiny.bert(labels=2), ITS, ["text"])
    assert EnsembleTeacher([own, unnamed, mine]).vocabulary() == mine.vocabulary()
    for others in ([unnamed, mine, its], [unnamed, tiny.bert(labels=2, vocab_size=50)]):
        with pytest.raises(ValueError, match=r"have different tokenizers .*text_columns="):
            EnsembleTeacher(others).vocabulary()


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0]])
def test_weights_that_do_not_fit_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="2 teachers need as many weights > 0"):
        EnsembleTeacher([ColumnTeacher("a"), ColumnTeacher("b")], weights)
    with pytest.raises(ValueError, match="at least one"):
        EnsembleTeacher([])
