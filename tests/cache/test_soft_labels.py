"""Soft labels that others learn from: published and loaded again, and of images."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import datasets
import huggingface_hub
import numpy as np
import pytest
import tiny
import torch
from cached_runs import everything, named, pad, renamed
from datasets import Dataset, DatasetDict, load_dataset
from hub_server import HubServer
from hub_sessions import SOFT_LABELS, TOKEN
from PIL import Image
from test_hub import run
from torch import Tensor

from hf_distill import (
    CachedTeacher,
    ColumnTeacher,
    DistillationTrainer,
    EnsembleTeacher,
    cache_teacher,
    with_soft_labels,
)
from hf_distill.augmentation import Augmentation, ImageTransform
from hf_distill.cache import cached_teacher, soft_labels
from hf_distill.image_views import Views
from hf_distill.recipe import channels_last_collator

SHAPE = (3, 8, 8)
READ = ImageTransform(SHAPE, (0.5,) * 3, (0.5,) * 3)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    with HubServer(TOKEN, large=(".parquet",)) as server, mock.patch("huggingface_hub.utils._http.time.sleep"):
        for settings, name, value in (
            (huggingface_hub.constants, "HF_HUB_OFFLINE", False),
            (huggingface_hub.constants, "HF_HUB_DISABLE_XET", True),
            (huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache")),
            (datasets.config, "HF_HUB_OFFLINE", False),
            (datasets.config, "HF_ENDPOINT", server.url),
        ):
            monkeypatch.setattr(settings, name, value)
        yield server


def published(hub: HubServer, folder: Path) -> tuple[Dataset, CachedTeacher]:
    teacher = cache_teacher(everything(), named(), folder / "cache", data_collator=pad)
    rows = with_soft_labels(everything(), teacher)
    rows.push_to_hub(SOFT_LABELS, token=TOKEN)
    return rows, teacher


def loaded_from_hub(folder: Path, **settings: Any) -> Any:
    return load_dataset(SOFT_LABELS, split="train", cache_dir=str(folder / "loaded"), **settings)


def bits(logits: Any) -> bytes:
    return np.asarray(logits, dtype=np.float32).tobytes()


def answers(teacher: CachedTeacher, rows: Dataset) -> Tensor:
    return teacher(teacher.collate([rows[row] for row in range(len(rows))])).logits


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-5)


# ---- Published ----


def test_what_is_loaded_is_what_was_answered_and_says_of_which_classes(hub: HubServer, tmp_path: Path) -> None:
    rows, teacher = published(hub, tmp_path)
    loaded = loaded_from_hub(tmp_path)

    assert bits(loaded["teacher_logits"][:]) == bits(answers(teacher, everything()))
    assert loaded.features == rows.features
    assert loaded["teacher_logits_argmax"][:] == answers(teacher, everything()).argmax(dim=-1).tolist()
    column = ColumnTeacher("teacher_logits")
    assert_same(renamed(column, tmp_path / "a", loaded), renamed(named(), tmp_path / "b", everything()))
    assert column.classes == ["no", "yes", "1"]
    streamed = ColumnTeacher("teacher_logits")
    streamed.check_dataset(loaded_from_hub(tmp_path, streaming=True))
    assert streamed.classes == ["no", "yes", "1"]


@pytest.mark.slow
def test_a_fresh_process_learns_the_same_without_the_teacher(hub: HubServer, tmp_path: Path) -> None:
    _, teacher = published(hub, tmp_path)
    hub.save(tmp_path / "hub")
    expected = renamed(named(), tmp_path / "live", everything())
    found = run("learn", tmp_path)

    assert bits(found["logits"]) == bits(answers(teacher, everything()))
    assert found["classes"] == ["no", "yes", "1"]
    assert_same({name: torch.tensor(value) for name, value in found["student"].items()}, expected)


def test_class_names_follow_the_data_set_unless_they_are_given(tmp_path: Path) -> None:
    teacher = cache_teacher(everything(), named(), tmp_path / "named", data_collator=pad)
    rows = with_soft_labels(everything(), teacher)
    column, given = ColumnTeacher("teacher_logits"), ColumnTeacher("teacher_logits", classes=["a", "b", "c"])
    for each in (column, given):
        each.check_dataset(rows)
    assert (column.classes, given.classes) == (["no", "yes", "1"], ["a", "b", "c"])
    nameless = cache_teacher(everything(), tiny.bert(seed=2), tmp_path / "nameless", data_collator=pad)
    plain = with_soft_labels(everything(), nameless)
    assert plain.column_names == [*everything().column_names, "teacher_logits"]
    column.check_dataset(plain)
    assert column.classes == 3, "not those of the rows before"


def test_an_ensemble_hears_of_the_names_too(tmp_path: Path) -> None:
    teacher = cache_teacher(everything(), named(), tmp_path, data_collator=pad)
    rows = with_soft_labels(everything(), teacher)
    other = tiny.bert(seed=3, id2label={0: "1", 1: "no", 2: "yes"})
    ensemble = EnsembleTeacher([other, ColumnTeacher("teacher_logits")])
    ensemble.check_dataset(rows)
    chosen = [rows[0], rows[6]]  # of equal length
    batch = {name: torch.tensor([row[name] for row in chosen]) for name in ("input_ids", "attention_mask")}
    batch["token_type_ids"] = torch.tensor([row["token_type_ids"] for row in chosen])
    with torch.no_grad():
        found = ensemble({**batch, **ensemble.collate(chosen)}).logits
        expected = (other.eval()(**batch).logits + answers(teacher, everything().select([0, 6]))[:, [2, 0, 1]]) / 2
    torch.testing.assert_close(found, expected)


# ---- Images ----


def pixels(count: int = 12) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def normal(images: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(images).float() / 127.5 - 1


def stored(labels: Any = None) -> Dataset:
    images = [image.tobytes() for image in pixels()]
    return Dataset.from_dict({"pixel_values": images, "labels": labels or [0, 1, 2] * 4})


def png(image: np.ndarray[Any, Any]) -> dict[str, bytes]:
    file = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(file, "PNG")
    return {"bytes": file.getvalue()}


def from_pictures(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    return {"pixel_values": normal(np.stack([np.asarray(row["image"]).transpose(2, 0, 1) for row in rows]))}


PICTURES = Dataset.from_dict({"image": [png(image) for image in pixels()]}).cast_column("image", datasets.Image())
OF_PICTURES: dict[str, Any] = {"key_columns": ["image"], "data_collator": from_pictures}


@pytest.mark.parametrize(
    ("rows", "asking"),
    [
        (stored().with_transform(READ), {}),
        (PICTURES, OF_PICTURES),
        (Dataset.from_dict({"pixel_values": normal(pixels()).tolist()}), {}),
    ],
    ids=["bytes with a transform", "pictures", "lists"],
)
def test_images_have_a_column(rows: Dataset, asking: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soft_labels, "ROWS_AT_ONCE", 5)
    model, order = tiny.vgg(seed=1).eval(), [3, 1, 11, 0, 5, 7, 2, 4]
    made = with_soft_labels(rows.select(order), cache_teacher(rows, model, tmp_path, **asking))
    with torch.no_grad():
        expected = model(normal(pixels()[order])).logits
    torch.testing.assert_close(torch.tensor(made["teacher_logits"][:]), expected)
    assert made.remove_columns("teacher_logits")[:] == rows.with_format(None).select(order)[:]


def test_pictures_are_published_with_their_answers(hub: HubServer, tmp_path: Path) -> None:
    made = with_soft_labels(PICTURES, cache_teacher(PICTURES, tiny.vgg(seed=1), tmp_path / "cache", **OF_PICTURES))
    made.push_to_hub(SOFT_LABELS, token=TOKEN)
    loaded = loaded_from_hub(tmp_path)
    assert bits(loaded["teacher_logits"][:]) == bits(made["teacher_logits"][:])
    assert torch.equal(from_pictures(list(loaded))["pixel_values"], normal(pixels()))


@pytest.mark.parametrize("labels", [None, np.eye(3)[[0, 1, 2] * 4].tolist()], ids=["classes", "multi-label"])
def test_a_column_teaches_about_images_as_the_teacher_does(labels: Any, tmp_path: Path) -> None:
    rows = stored(labels).with_transform(READ)
    model = tiny.vgg(seed=1, id2label={0: "a", 1: "b", 2: "c"})
    made = with_soft_labels(rows, cache_teacher(rows, model, tmp_path / "cache")).with_transform(READ)
    students = []
    for teacher, data in ((model, rows), (ColumnTeacher("teacher_logits"), made)):
        student = tiny.vgg(id2label={0: "c", 1: "a", 2: "b"})
        args = tiny.arguments(tmp_path / "out", max_steps=3, optim="sgd", learning_rate=0.1)
        trainer = DistillationTrainer(student, args, channels_last_collator, data, data, teacher_model=teacher)
        trainer.train()
        students.append({**student.state_dict(), "loss": torch.tensor(trainer.evaluate()["eval_loss"])})
        assert trainer.problem_type == ("single_label" if labels is None else "multi_label") + "_classification"
    assert_same(students[1], students[0])


def test_a_live_teacher_has_no_answers_to_publish() -> None:
    with pytest.raises(TypeError, match=r"got BertForSequenceClassification: pass what cache_teacher\("):
        with_soft_labels(tiny.dataset(), tiny.bert())  # type: ignore[arg-type]


def test_random_views_and_other_rows_have_no_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = stored().with_transform(READ)
    teacher = cache_teacher(rows, tiny.vgg(seed=1), tmp_path)
    cropped = ImageTransform(SHAPE, (0.5,) * 3, (0.5,) * 3, Augmentation(padding=2))
    with pytest.raises(TypeError, match=r"got Views. Instead of random views .*rows.with_transform.*cache_teacher"):
        with_soft_labels(Views(stored(), cropped, seed=0, count=1), teacher)
    with pytest.raises(TypeError, match=r"got DatasetDict.*of several splits take one"):
        with_soft_labels(DatasetDict(train=rows), teacher)
    with pytest.raises(ValueError, match=r"12 of 12 examples .* have no answer .*images augmented, in another way"):
        with_soft_labels(stored().with_transform(cropped), teacher)
    monkeypatch.setattr(cached_teacher, "ROWS_LOOKED_AT", 1)
    images = stored()["pixel_values"][:]
    changed = Dataset.from_dict({"pixel_values": [*images[:7], images[7][::-1], *images[8:]]})
    with pytest.raises(KeyError, match=r"1 of 12 examples have no answer .*adds what is missing"):
        with_soft_labels(changed.with_transform(READ), teacher)
