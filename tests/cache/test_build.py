"""A teacher is asked once about each example, and what was answered is not lost."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from cached_runs import pad, ragged
from datasets import Dataset, DatasetDict, concatenate_datasets
from PIL import Image
from torch import Tensor
from transformers import BertTokenizerFast, PreTrainedModel, default_data_collator

from hf_distill import (
    CachedTeacher,
    ColumnTeacher,
    DistillationTrainer,
    EnsembleTeacher,
    ModelTeacher,
    cache_teacher,
)
from hf_distill.cache import build
from hf_distill.cache.keys import keys_of_rows


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shape of every batch that a model teacher is asked about."""
    shapes: list[tuple[int, ...]] = []
    answer = ModelTeacher.__call__

    def counted(self: ModelTeacher, inputs: Any) -> Any:
        view = answer(self, inputs)
        shapes.append((len(view.logits), *(inputs["input_ids"].shape[1:] if "input_ids" in inputs else ())))
        return view

    monkeypatch.setattr(ModelTeacher, "__call__", counted)
    return shapes


def logits_of(model: PreTrainedModel, rows: Dataset) -> Tensor:
    model.eval()
    with torch.no_grad():
        batches = [pad([row]) for row in rows.remove_columns("labels")]
        return torch.cat([model(**batch).logits for batch in batches])


def answers(teacher: CachedTeacher, rows: Any) -> Tensor:
    return teacher(teacher.collate([rows[row] for row in range(len(rows))])).logits


def test_the_answers_are_the_models_and_the_longest_come_first(tmp_path: Path, asked: list[tuple[int, ...]]) -> None:
    rows, model = ragged(), tiny.bert(seed=1, dropout=0.5)
    teacher = cache_teacher(rows, model, tmp_path, data_collator=pad, batch_size=10)
    torch.testing.assert_close(answers(teacher, rows), logits_of(model, rows), atol=1e-6, rtol=1e-5)
    assert asked == [(10, 9), (10, 7), (10, 5)], "sorted by length, and one more for the padding"


def test_nothing_is_asked_twice(tmp_path: Path, asked: list[tuple[int, ...]]) -> None:
    rows, model = ragged(), tiny.bert(seed=1)
    cache_teacher(concatenate_datasets([rows, rows.select(range(5))]), model, tmp_path, data_collator=pad)
    assert sum(shape[0] for shape in asked) == 30
    again = cache_teacher(rows.shuffle(seed=3), model, tmp_path, data_collator=pad)
    assert sum(shape[0] for shape in asked) == 30
    more = concatenate_datasets([ragged(rows=4, seed=8), rows])
    grown = cache_teacher(more, model, tmp_path, data_collator=pad)
    assert sum(shape[0] for shape in asked) == 34
    torch.testing.assert_close(answers(grown, more), logits_of(model, more), atol=1e-6, rtol=1e-5)
    assert (len(again.store), len(grown.store)) == (30, 34)
    known = build._Collected(grown.store)
    assert not known.new(keys_of_rows(list(rows), grown.raw_columns)).any()
    assert not known.keys, "what is on the disk takes no memory"


def test_a_model_that_was_saved_and_loaded_is_the_same_teacher(tmp_path: Path, asked: list[tuple[int, ...]]) -> None:
    rows, model = ragged(), tiny.bert(seed=1)
    cache_teacher(rows, model, tmp_path / "cache", data_collator=pad)
    model.save_pretrained(tmp_path / "elsewhere")
    teacher = cache_teacher(rows, tmp_path / "elsewhere", tmp_path / "cache", data_collator=pad)
    assert len(asked) == 1
    assert teacher.name == "elsewhere", "as it is called now"
    assert CachedTeacher(tmp_path / "cache").name == "BertForSequenceClassification", "as it was first called"
    identity = json.loads((tmp_path / "cache/identity.json").read_text())
    older = {name: value for name, value in identity.items() if name not in ("own_tokens", "images")}
    (tmp_path / "cache/identity.json").write_text(json.dumps(older))
    again = cache_teacher(rows, model, tmp_path / "cache", data_collator=pad)
    assert (len(asked), len(again.store)) == (1, 30), "what an older version has kept"
    assert json.loads((tmp_path / "cache/identity.json").read_text()) == identity, "and what it did not know is noted"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher": tiny.bert(seed=2)}, "weights"), ({"bf16": True}, "precision was 'float32' and is 'bfloat16'"),
        ({"dtype": torch.float16}, "dtype was 'float32' and is 'float16'"),
        ({"features": ["bert.pooler"]}, r"features was \[\] and is \['bert.pooler'\]"),
        ({"teacher": tiny.bert(seed=1, id2label={0: "a", 1: "b", 2: "c"})}, "classes was 3 and is"),
        ({"teacher": tiny.bert(seed=1, hidden_act="relu")}, "config"),
        ({"dataset": ragged().remove_columns("token_type_ids")}, "columns was"),
    ],
)  # fmt: skip
def test_another_cache_is_refused_with_the_difference(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    first = {"dataset": ragged(), "teacher": tiny.bert(seed=1), "data_collator": pad}
    cache_teacher(folder=tmp_path, **first)
    with pytest.raises(ValueError, match=rf"were made with something else: .*{message}.*Choose another folder"):
        cache_teacher(folder=tmp_path, **{**first, **change})


def test_a_new_version_of_the_models_code_is_another_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache_teacher(ragged(), tiny.bert(), tmp_path, data_collator=pad)
    monkeypatch.setattr(build.transformers, "__version__", "99.0")
    with pytest.raises(ValueError, match=r"transformers was '.*' and is '99.0'"):
        cache_teacher(ragged(), tiny.bert(), tmp_path, data_collator=pad)


def test_features_of_the_teacher_are_kept_without_padding(tmp_path: Path) -> None:
    rows, model = ragged(rows=7), tiny.bert(layers=2, seed=1)
    teacher = cache_teacher(rows, model, tmp_path, data_collator=pad, features=["bert.encoder.layer.0", "bert.pooler"])
    chosen = [rows[row] for row in (5, 0, 3)]
    batch = pad(chosen)
    view = teacher({**batch, **teacher.collate(chosen)})
    with torch.no_grad():
        model.eval()
        expected = model.bert(**{key: batch[key] for key in batch if key != "labels"}, output_hidden_states=True)
    hidden = expected.hidden_states[1] * batch["attention_mask"].unsqueeze(-1)
    torch.testing.assert_close(view.features["bert.encoder.layer.0"].float(), hidden, atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(view.features["bert.pooler"].float(), expected.pooler_output, atol=1e-3, rtol=1e-3)
    with pytest.raises(KeyError, match=r"no module 'bert.poler'; did you mean 'bert.pooler'"):
        cache_teacher(rows, model, tmp_path / "b", data_collator=pad, features=["bert.poler"])


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[2])
import tiny
from cached_runs import pad, ragged
from hf_distill import ModelTeacher, cache_teacher
from hf_distill.cache import build
build.BYTES_A_FILE = 200
answer, batches = ModelTeacher.__call__, []
def slow(self, inputs):
    batches.append(1)
    if len(batches) == 6:
        print("half", flush=True)
        sys.stdin.read()
    return answer(self, inputs)
ModelTeacher.__call__ = slow
cache_teacher(ragged(), tiny.bert(seed=1), sys.argv[1], data_collator=pad, batch_size=3)
"""


def test_a_killed_build_goes_on(tmp_path: Path, asked: list[tuple[int, ...]]) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(Path(tiny.__file__).parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    while b"half" not in process.stdout.readline():
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    kept = len(CachedTeacher(tmp_path).store)
    assert 9 <= kept < 30
    teacher = cache_teacher(ragged(), tiny.bert(seed=1), tmp_path, data_collator=pad)
    assert sum(shape[0] for shape in asked) == 30 - kept
    torch.testing.assert_close(answers(teacher, ragged()), logits_of(tiny.bert(seed=1), ragged()), atol=1e-6, rtol=1e-5)


def test_a_teacher_with_its_own_tokenizer_is_found_by_text(tmp_path: Path) -> None:
    words = ["good", "bad", "film", "a", "the"]
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    tokenizer = BertTokenizerFast(str(tmp_path / "vocab.txt"), model_max_length=8)
    rows = Dataset.from_dict({"text": ["a good film", "the bad film", "good"], "input_ids": [[5, 6], [7, 8], [9]]})
    model = tiny.bert(seed=1)
    teacher = cache_teacher(rows, ModelTeacher(model, tokenizer, ["text"]), tmp_path / "cache")
    assert teacher.raw_columns == {"text"}
    assert teacher.own_tokens
    encoded = tokenizer(rows["text"][:], padding=True, return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(answers(teacher, rows), model.eval()(**encoded).logits, atol=1e-6, rtol=1e-5)
    shorter = BertTokenizerFast(str(tmp_path / "vocab.txt"), model_max_length=4)
    with pytest.raises(ValueError, match="tokenizer"):
        cache_teacher(rows, ModelTeacher(model, shorter, ["text"]), tmp_path / "cache")


class Pictures(torch.utils.data.Dataset[dict[str, Any]]):
    """Rows that a collator makes tensors of."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, row: int) -> dict[str, Any]:
        pixels = np.random.default_rng(row % 4).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        return {"image": Image.fromarray(pixels), "label": row}


def to_tensors(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    arrays = [np.asarray(row["image"], dtype=np.float32).transpose(2, 0, 1) / 255 for row in rows]
    return {"pixel_values": torch.tensor(np.stack(arrays))}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_collator_may_make_what_the_teacher_reads(tmp_path: Path, asked: list[Any], workers: int) -> None:
    model, rows = tiny.resnet(), Pictures()
    with pytest.raises(KeyError, match=r"has \['image', 'label'\], and .* reads none .*key_columns="):
        cache_teacher(rows, model, tmp_path, data_collator=to_tensors)
    teacher = cache_teacher(
        rows, model, tmp_path, data_collator=to_tensors, key_columns=["image"], batch_size=4, num_workers=workers
    )
    assert sum(shape[0] for shape in asked[1:]) == len(teacher.store) == 4, "after one black picture"
    with torch.no_grad():
        expected = model.eval()(**to_tensors([rows[row] for row in range(6)])).logits
    torch.testing.assert_close(answers(teacher, rows), expected, atol=1e-5, rtol=1e-5)


def test_augmentation_without_a_seed_is_refused(tmp_path: Path) -> None:
    def noisy(batch: dict[str, Any]) -> dict[str, Any]:
        return {"pixel_values": [torch.rand(3, 8, 8) for _ in batch["pixel_values"]]}

    rows = tiny.dataset("resnet").with_transform(noisy)
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="its augmentation is random"):
        cache_teacher(rows, tiny.resnet(), tmp_path)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_collator_that_draws_at_random_is_refused(tmp_path: Path) -> None:
    def noisy(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        made: dict[str, Tensor] = default_data_collator(rows)
        return {"pixel_values": made["pixel_values"] + torch.randn(())}

    with pytest.raises(ValueError, match=r"collator, makes other inputs of the same rows.* Draw in the data set"):
        cache_teacher(tiny.dataset("resnet", rows=4), tiny.resnet(), tmp_path, data_collator=noisy)
    assert len(CachedTeacher(tmp_path).store) == 0


def test_keys_of_columns_hide_no_random_augmentation(tmp_path: Path) -> None:
    def noisy(batch: dict[str, Any]) -> dict[str, Any]:
        return {"number": batch["number"], "pixel_values": [torch.rand(3, 8, 8) for _ in batch["number"]]}

    rows = tiny.dataset("resnet", rows=4).add_column("number", range(4)).with_transform(noisy)
    with pytest.raises(ValueError, match=r"The data set, or its collator, makes other inputs of the same rows"):
        cache_teacher(rows, tiny.resnet(), tmp_path, key_columns=["number"])


class Seeded(torch.utils.data.Dataset[dict[str, Any]]):
    """As many views of each row as it says, one after another."""

    def __init__(self, count: int | None) -> None:
        self.count, self.view = count, 0

    def set_epoch(self, epoch: int) -> None:
        self.view = epoch % (self.count or 10**9)

    def __len__(self) -> int:
        return 5

    def __getitem__(self, row: int) -> dict[str, Any]:
        made = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(100 * self.view + row))
        return {"pixel_values": made, "labels": row % 3}


def test_every_view_is_asked_about(tmp_path: Path) -> None:
    rows = Seeded(count=3)
    teacher = cache_teacher(rows, tiny.resnet(), tmp_path, batch_size=2)
    assert len(teacher.store) == 15
    for epoch in range(5):
        rows.set_epoch(epoch)
        pixels = torch.stack([rows[row]["pixel_values"] for row in range(5)])
        with torch.no_grad():
            torch.testing.assert_close(
                answers(teacher, rows), tiny.resnet().eval()(pixels).logits, atol=1e-5, rtol=1e-5
            )
    with pytest.raises(ValueError, match="new random view of each example in every epoch"):
        cache_teacher(Seeded(count=None), tiny.resnet(), tmp_path / "b")


def test_nothing_random_is_drawn(tmp_path: Path) -> None:
    model = tiny.bert(dropout=0.5).train()
    state = torch.get_rng_state()
    cache_teacher(ragged(), model, tmp_path, data_collator=pad)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_answer_that_is_no_number_is_not_kept_and_the_others_are(tmp_path: Path) -> None:
    model = tiny.bert(layers=1)
    worst = int(ragged()[7]["input_ids"][0])
    model.bert.embeddings.word_embeddings.weight.data[worst] = float("nan")
    bad = sum(worst in row["input_ids"] for row in ragged())
    assert 0 < bad < 30
    with pytest.raises(ValueError, match=rf"answers {bad} examples with NaN or infinity, .*The other answers are kept"):
        cache_teacher(ragged(), model, tmp_path, data_collator=pad, batch_size=4)
    assert len(CachedTeacher(tmp_path).store) == 30 - bad
    huge = tiny.bert(seed=1)
    huge.bert.pooler.dense = torch.nn.Linear(16, 16)
    huge.bert.pooler.activation = torch.nn.Hardtanh(-1e6, 1e6)
    huge.bert.pooler.dense.bias.data[:] = 1e5
    with pytest.raises(ValueError, match="in a feature that float16 cannot hold"):
        cache_teacher(ragged(), huge, tmp_path / "b", data_collator=pad, features=["bert.pooler"])


def test_what_cannot_be_cached_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"ColumnTeacher\) are there already: use it as it is"):
        cache_teacher(Dataset.from_dict({"a": [[0.5, 0.5]]}), ColumnTeacher("a"), tmp_path)
    with pytest.raises(TypeError, match="without a length, as a stream, cannot be kept"):
        cache_teacher(ragged().to_iterable_dataset(), tiny.bert(), tmp_path, data_collator=pad)
    with pytest.raises(ValueError, match="the data set has no rows"):
        cache_teacher(ragged().select([]), tiny.bert(), tmp_path, data_collator=pad)
    with pytest.raises(ValueError, match=r"torch.float32 or torch.float16, got torch.bfloat16"):
        cache_teacher(ragged(), tiny.bert(), tmp_path, data_collator=pad, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="top_k must be >= 1, got 0"):
        cache_teacher(ragged(), tiny.bert(), tmp_path, data_collator=pad, top_k=0)


def test_several_teachers_are_kept_as_one(tmp_path: Path) -> None:
    members = [tiny.bert(seed=1), tiny.bert(seed=2)]
    teacher = cache_teacher(ragged(), EnsembleTeacher(members, [3, 1]), tmp_path, data_collator=pad)
    expected = 0.75 * logits_of(members[0], ragged()) + 0.25 * logits_of(members[1], ragged())
    torch.testing.assert_close(answers(teacher, ragged()), expected, atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="weights of teachers"):
        cache_teacher(ragged(), EnsembleTeacher(members, [1, 1]), tmp_path, data_collator=pad)


def test_the_class_names_of_every_member_count(tmp_path: Path) -> None:
    def ask(*second: str) -> CachedTeacher:
        named = [tiny.bert(seed=seed, id2label=dict(enumerate(names))) for seed, names in ((1, "abc"), (2, second))]
        return cache_teacher(ragged(rows=2), EnsembleTeacher(named), tmp_path, data_collator=pad)

    ask(*"abc")
    with pytest.raises(ValueError, match=r"class orders was None and is '\[None, \[1, 0, 2\]\]'"):
        ask(*"bac")


def test_the_largest_of_many_classes(tmp_path: Path) -> None:
    model = tiny.bert(labels=50, seed=1)
    teacher = cache_teacher(ragged(), model, tmp_path / "top", data_collator=pad, top_k=5)
    found, expected = answers(teacher, ragged()).softmax(-1), logits_of(model, ragged()).softmax(-1)
    best = expected.topk(5).indices
    torch.testing.assert_close(found.gather(1, best), expected.gather(1, best), atol=1e-6, rtol=1e-5)
    few = cache_teacher(ragged(), tiny.bert(seed=1), tmp_path / "few", data_collator=pad, top_k=5)
    torch.testing.assert_close(answers(few, ragged()), logits_of(tiny.bert(seed=1), ragged()), atol=1e-6, rtol=1e-5)


def test_a_tokenizer_that_was_used_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "film"]))
    tokenizer = BertTokenizerFast(str(tmp_path / "vocab.txt"), model_max_length=8)
    rows = Dataset.from_dict({"text": ["good film", "film"], "other": ["film", "good good"]})
    model = tiny.bert(seed=1)

    def ask(*columns: str) -> CachedTeacher:
        return cache_teacher(rows, ModelTeacher(model, tokenizer, list(columns)), tmp_path / "cache")

    first = ask("text", "other")
    tokenizer(["good"], truncation=True, padding="max_length", max_length=4)
    assert len(ask("text", "other").store) == len(first.store) == 2
    with pytest.raises(ValueError, match="teacher's texts was 'text, other' and is 'other, text'"):
        ask("other", "text")


def test_an_ensemble_reads_which_column_whom(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "film"]))
    tokenizer = BertTokenizerFast(str(tmp_path / "vocab.txt"), model_max_length=8)
    rows = Dataset.from_dict({"a": ["good film", "film"], "b": ["film", "good good"]})
    members = [ModelTeacher(tiny.bert(seed=seed), tokenizer, [column]) for seed, column in ((1, "a"), (2, "b"))]
    cache_teacher(rows, EnsembleTeacher(members), tmp_path / "cache")
    swapped = [ModelTeacher(tiny.bert(seed=seed), tokenizer, [column]) for seed, column in ((1, "b"), (2, "a"))]
    with pytest.raises(ValueError, match="texts"):
        cache_teacher(rows, EnsembleTeacher(swapped), tmp_path / "cache")


def test_nested_ensembles_keep_their_members_apart(tmp_path: Path) -> None:
    rows = ragged(rows=6)
    models = [tiny.bert(seed=seed) for seed in (1, 2, 3)]
    cached = [cache_teacher(rows, model, tmp_path / str(n), data_collator=pad) for n, model in enumerate(models)]
    nested = EnsembleTeacher([EnsembleTeacher(cached[:2]), cached[2]])
    batch = [rows[row] for row in range(6)]
    found = nested(nested.collate(batch)).logits
    expected = [logits_of(model, rows) for model in models]
    torch.testing.assert_close(found, (expected[0] + expected[1]) / 4 + expected[2] / 2, atol=1e-6, rtol=1e-5)
    unknown = [dict(row) for row in ragged(rows=6, seed=9)]
    assert nested.collate(unknown) == {}


def test_pictures_in_a_column(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (5, 8, 8, 3), dtype=np.uint8)
    rows = Dataset.from_dict({"image": [Image.fromarray(image) for image in pixels]})
    teacher = cache_teacher(rows, tiny.resnet(), tmp_path, data_collator=to_tensors, key_columns=["image"])
    assert len(teacher.store) == 5
    teacher.check_dataset(rows)


def test_a_transform_may_make_what_the_teacher_reads(tmp_path: Path) -> None:
    def transform(batch: dict[str, Any]) -> dict[str, Any]:
        return {"pixel_values": [torch.tensor(image) for image in batch["stored"]], "labels": batch["label"]}

    source = tiny.dataset("resnet", rows=8).rename_columns({"pixel_values": "stored", "labels": "label"})
    rows = source.with_transform(transform)
    teacher = cache_teacher(rows, tiny.resnet(seed=1), tmp_path / "cache")
    args = tiny.arguments(
        tmp_path / "out", num_train_epochs=1, remove_unused_columns=False, optim="sgd", learning_rate=0.1
    )
    students = []
    for follows in (teacher, tiny.resnet(seed=1)):
        trainer = DistillationTrainer(tiny.resnet(), args, train_dataset=rows, teacher_model=follows)
        trainer.train()
        students.append(trainer.model.state_dict())
    for name, value in students[1].items():
        torch.testing.assert_close(students[0][name], value, atol=1e-6, rtol=1e-5)


def test_bf16_answers_are_those_of_autocast(tmp_path: Path) -> None:
    model, rows = tiny.bert(seed=1), ragged()
    teacher = cache_teacher(rows, model, tmp_path, data_collator=pad, bf16=True, batch_size=10)
    order = sorted(range(30), key=lambda row: -len(rows[row]["input_ids"]))
    found = answers(teacher, rows)[order]
    with torch.no_grad():
        batches = [pad(list(rows.select(order[start : start + 10]))) for start in range(0, 30, 10)]
        with torch.autocast("cpu", torch.bfloat16):
            halved = torch.cat([model(**batch).logits.float() for batch in batches])
    torch.testing.assert_close(found, halved, atol=0, rtol=0)
    assert not torch.equal(found, logits_of(model, rows)[order])


def test_data_workers_get_the_folder_not_the_answers(tmp_path: Path) -> None:
    teacher = cache_teacher(ragged(), tiny.bert(seed=1), tmp_path, data_collator=pad)
    assert len(pickle.dumps(teacher)) < 1000
    copy = pickle.loads(pickle.dumps(teacher))
    assert torch.equal(answers(copy, ragged()), answers(teacher, ragged()))
    assert (copy.name, copy.own_tokens) == (teacher.name, teacher.own_tokens)


def test_mistakes_are_named_with_their_cure(tmp_path: Path) -> None:
    def ask(**changes: Any) -> CachedTeacher:
        return cache_teacher(**{"dataset": ragged(), "teacher": tiny.bert(), "folder": tmp_path / "cache", **changes})

    with pytest.raises(ValueError, match=r"something has to pad them: data_collator=DataCollatorWithPadding"):
        ask()
    with pytest.raises(ValueError, match=r"logits of shape \(60, 3\), where one row an example is needed"):
        ask(data_collator=lambda rows: pad([row for row in rows for _ in range(2)]))
    with pytest.raises(ValueError, match=r"features must be a list, got 'bert.pooler': features=\['bert.pooler'\]"):
        ask(data_collator=pad, features="bert.pooler")
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        ask(data_collator=pad, batch_size=0)
    with pytest.raises(TypeError, match=r"Choose one of the splits \['train'\]"):
        ask(dataset=DatasetDict(train=ragged()))
    with pytest.raises(KeyError, match=r"Cut texts into tokens first, or pass ModelTeacher.*text_columns"):
        ask(dataset=Dataset.from_dict({"text": ["a"]}))
    with pytest.raises(ValueError, match="has no modules of its own"):
        ask(teacher=EnsembleTeacher([tiny.bert()]), data_collator=pad, features=["bert.pooler"])
    many = tiny.bert(labels=6, problem_type="multi_label_classification")
    with pytest.raises(ValueError, match="only where classes exclude each other: leave top_k out"):
        ask(teacher=many, data_collator=pad, top_k=2)
    labelled = ragged().map(lambda row: {"labels": None if row["labels"] else "word"})
    assert len(ask(dataset=labelled, data_collator=pad).store) == 30, "labels are not looked at"


class Shifting(Seeded):
    """Other values in each epoch, and nobody says how many."""

    def __init__(self) -> None:
        super().__init__(None)
        del self.count

    def set_epoch(self, epoch: int) -> None:
        self.view = epoch


def test_rows_that_change_from_epoch_to_epoch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="other values for the same row each time"):
        cache_teacher(Shifting(), tiny.resnet(), tmp_path)


def test_a_teacher_given_by_name_brings_what_pads(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]))
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "model")
    model = tiny.bert(seed=1)
    model.save_pretrained(tmp_path / "model")
    teacher = cache_teacher(ragged(), tmp_path / "model", tmp_path / "cache")
    torch.testing.assert_close(answers(teacher, ragged()), logits_of(model, ragged()), atol=1e-6, rtol=1e-5)


def test_a_slow_build_writes_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "SECONDS_A_FILE", 0.0)
    monkeypatch.setattr(build, "SHARE_A_FILE", 0.0)
    teacher = cache_teacher(ragged(), tiny.bert(seed=1), tmp_path, data_collator=pad, batch_size=10)
    assert len(list(tmp_path.glob("*.arrow"))) == 3
    torch.testing.assert_close(answers(teacher, ragged()), logits_of(tiny.bert(seed=1), ragged()), atol=1e-6, rtol=1e-5)


def test_a_model_trained_in_bf16_is_asked_in_float32(tmp_path: Path) -> None:
    """accelerate leaves its autocast around such a model, alone and in an ensemble."""
    model, plain = tiny.bert(seed=1), tiny.bert(seed=1)
    args = tiny.arguments(tmp_path / "out", max_steps=1, learning_rate=0.0, bf16=True)
    DistillationTrainer(model, args, train_dataset=tiny.dataset()).train()
    for name, teacher in (("alone", model), ("ensemble", EnsembleTeacher([model]))):
        found = answers(cache_teacher(ragged(), teacher, tmp_path / name, data_collator=pad), ragged())
        torch.testing.assert_close(found, logits_of(plain, ragged()), atol=1e-6, rtol=1e-5)
