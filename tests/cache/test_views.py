"""Kept answers about seeded views: student and teacher have seen the same pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from datasets import Dataset
from torch import Tensor
from transformers import default_data_collator

from hf_distill import CachedTeacher, DistillationTrainer, ModelTeacher, cache_teacher
from hf_distill.augmentation import Augmentation, ImageTransform
from hf_distill.cache import cached_teacher
from hf_distill.image_views import Views


def views(count: int | None = 3, seed: int = 0, rows: int = 10) -> Views:
    pixels = np.random.default_rng(0).integers(0, 256, (rows, 192), dtype=np.uint8)
    stored = Dataset.from_dict({"pixel_values": [image.tobytes() for image in pixels], "labels": [0, 1] * (rows // 2)})
    return Views(stored, ImageTransform((3, 8, 8), (0.5,) * 3, (0.5,) * 3, Augmentation(padding=2)), seed, count)


def trained(teacher: Any, rows: Views, folder: Path, **settings: Any) -> tuple[dict[str, Tensor], list[Tensor]]:
    """The student's weights, and all pixels that it saw."""
    seen: list[Tensor] = []

    def collate(batch: list[dict[str, Any]]) -> dict[str, Tensor]:
        made: dict[str, Tensor] = default_data_collator(batch)
        seen.append(made["pixel_values"])
        return made

    args = tiny.arguments(
        folder, num_train_epochs=4, per_device_train_batch_size=4, train_sampling_strategy="random", optim="sgd",
        learning_rate=0.1, **settings,
    )  # fmt: skip
    trainer = DistillationTrainer(tiny.vgg(2), args, collate, rows, teacher_model=teacher)
    seen.clear()
    trainer.train()
    return dict(trainer.model.state_dict()), seen


def test_the_kept_and_the_live_teacher_teach_the_same_over_all_views(tmp_path: Path) -> None:
    cached = cache_teacher(views(), tiny.vgg(2, seed=1), tmp_path / "cache", batch_size=4)
    assert len(cached.store) == 30
    found, seen = trained(cached, views(), tmp_path / "a")
    expected, seen_live = trained(ModelTeacher(tiny.vgg(2, seed=1)), views(), tmp_path / "b")
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-5)
    assert torch.equal(torch.cat(seen), torch.cat(seen_live))
    assert len({image.numpy().tobytes() for image in torch.cat(seen)}) == 30, "the fourth epoch shows the first views"


def test_every_answer_is_about_the_pixels_that_the_student_sees(tmp_path: Path) -> None:
    teacher, rows = tiny.vgg(2, seed=1), views()
    cached = cache_teacher(rows, teacher, tmp_path)
    for epoch in range(4):
        rows.set_epoch(epoch)
        batch = [rows[row] for row in range(10)]
        pixels = torch.stack([row["pixel_values"] for row in batch])
        with torch.no_grad():
            torch.testing.assert_close(cached(cached.collate(batch)).logits, teacher(pixels).logits)


def test_other_views_are_not_taken_for_these(tmp_path: Path) -> None:
    cache_teacher(views(), tiny.vgg(2, seed=1), tmp_path / "cache")
    teacher = CachedTeacher(tmp_path / "cache")
    missed = {
        r"[23]\d of 30": views(seed=1),
        "([789]|10) of 40": views(count=4),
        "([789]|10) of 10": views(None, seed=7),
    }
    for missing, others in missed.items():  # some crops of two seeds are the same
        others.set_epoch(2)
        with pytest.raises(ValueError, match=rf"{missing} examples of the data set have no answer.*images augmented"):
            teacher.check_dataset(others)
        assert others.view == 2


def test_an_endless_training_finds_the_first_views_only(tmp_path: Path) -> None:
    cache_teacher(views(), tiny.vgg(2, seed=1), tmp_path / "cache")
    with pytest.raises(KeyError, match="an example of this batch is not in"):  # the fourth view, in the fourth epoch
        trained(CachedTeacher(tmp_path / "cache"), views(count=None), tmp_path / "out")


def test_some_rows_of_each_view_are_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached_teacher, "ROWS_LOOKED_AT", 6)
    cache_teacher(views(), tiny.vgg(2, seed=1), tmp_path / "cache")
    with pytest.raises(ValueError, match="1 of 4 examples of the data set have no answer"):
        CachedTeacher(tmp_path / "cache").check_dataset(views(count=4))


def test_a_build_leaves_the_view_as_it_was_also_when_it_breaks(tmp_path: Path) -> None:
    rows = views()
    rows.set_epoch(2)
    cache_teacher(rows, tiny.vgg(2, seed=1), tmp_path / "cache")
    assert rows.view == 2
    lost = tiny.vgg(2)
    lost.classifier[-1].bias.data[:] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        cache_teacher(rows, lost, tmp_path / "other")
    assert rows.view == 2
