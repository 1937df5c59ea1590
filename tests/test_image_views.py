"""A view depends on the seed, the image and its number: against a plain loop, and the same wherever it is shown."""

from __future__ import annotations

import copy
import random
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import xxhash
from datasets import Dataset, concatenate_datasets
from scipy.stats import chisquare
from test_draws import expected as expected_draws
from torch import Tensor
from torch.utils.data import DataLoader

from hf_distill import ColumnTeacher, DistillationTrainer
from hf_distill.augmentation import Augmentation, ImageTransform
from hf_distill.image_views import Views

SHAPE = (3, 8, 8)
HALVES = (0.5, 0.5, 0.5)


def pictures(count: int = 19, seed: int = 0) -> Dataset:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), dtype=np.uint8)
    return Dataset.from_dict({"pixel_values": [p.tobytes() for p in pixels], "labels": [i % 3 for i in range(count)]})


def transform(**augmentation: Any) -> ImageTransform:
    return ImageTransform(SHAPE, HALVES, HALVES, Augmentation(**{"padding": 2, **augmentation}), classes=3)


def views(rows: Dataset | None = None, seed: int = 0, count: int | None = None, **augmentation: Any) -> Views:
    return Views(pictures() if rows is None else rows, transform(**augmentation), seed, count)


def noisy(images: Tensor) -> Tensor:
    """A policy that draws from all three generators."""
    noise = torch.rand(images.shape) * random.random() * float(np.random.rand())
    return (images + noise).clamp(0, 1)


def shown(data: Views, epoch: int = 0, **loading: Any) -> Tensor:
    data.set_epoch(epoch)
    return torch.cat([batch["pixel_values"] for batch in DataLoader(data, **{"batch_size": 1, **loading})])


KINDS = pytest.mark.parametrize("augmentation", [{}, {"policy": noisy}], ids=["crop and flip", "policy"])


def test_views_are_those_of_a_plain_loop() -> None:
    rows = pictures(30)
    found = shown(views(rows, seed=5), epoch=2, batch_size=30)
    for stored, image in zip(rows["pixel_values"], found, strict=True):
        draws = expected_draws(5, xxhash.xxh3_64_intdigest(stored), 2, 3)
        down, right = (int(draw * 5) for draw in draws[:2])
        padded = np.pad(np.frombuffer(stored, np.uint8).reshape(SHAPE), ((0, 0), (2, 2), (2, 2)))
        crop = padded[:, down : down + 8, right : right + 8]
        expected = (crop[:, :, ::-1] if draws[2] < 0.5 else crop) / 127.5 - 1
        np.testing.assert_allclose(image.numpy(), expected, atol=1e-6)


@KINDS
def test_pixels_depend_neither_on_batches_nor_on_workers(augmentation: dict[str, Any]) -> None:
    data = views(**augmentation)
    expected = torch.stack([data[row]["pixel_values"] for row in range(19)])
    for loading in ({"batch_size": 4}, {"batch_size": 7}, {"batch_size": 4, "num_workers": 2}):
        assert torch.equal(shown(data, **loading), expected), loading
    order = torch.randperm(19).tolist()
    assert torch.equal(shown(data, batch_size=7, sampler=order), expected[order])


@KINDS
def test_nothing_is_drawn_from_the_global_generators(augmentation: dict[str, Any]) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    views(**augmentation).__getitems__([0, 1, 2])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


@KINDS
def test_rows_may_be_filtered_shuffled_and_mixed(augmentation: dict[str, Any]) -> None:
    rows = pictures()
    every = dict(zip(rows["pixel_values"], shown(views(rows, **augmentation)), strict=True))
    mixed = concatenate_datasets([pictures(5, seed=9), rows.shuffle(seed=3).filter(lambda row: row["labels"] != 1)])
    found = dict(zip(mixed["pixel_values"], shown(views(mixed, **augmentation), batch_size=8), strict=True))
    shared = every.keys() & found.keys()
    assert len(shared) == 13
    assert all(torch.equal(every[stored], found[stored]) for stored in shared)


@KINDS
def test_another_epoch_or_seed_is_another_view(augmentation: dict[str, Any]) -> None:
    endless, three = views(**augmentation), views(count=3, **augmentation)
    epochs = [shown(endless, epoch, batch_size=19) for epoch in range(5)]
    assert all(not torch.equal(epochs[e], epochs[f]) for e in range(5) for f in range(e))
    assert not torch.equal(shown(views(seed=1, **augmentation), batch_size=19), epochs[0])
    for epoch in range(5):
        assert torch.equal(shown(three, epoch, batch_size=19), epochs[epoch % 3])


def test_every_crop_and_flip_is_as_likely() -> None:
    ramp = np.arange(64, dtype=np.uint8).reshape(1, 8, 8) + 1
    many = [np.concatenate([ramp, np.full((1, 8, 8), i % 256), np.full((1, 8, 8), i // 256)]) for i in range(2000)]
    rows = Dataset.from_dict({"pixel_values": [image.astype(np.uint8).tobytes() for image in many]})
    found = shown(views(rows), batch_size=500)[:, 0]
    # The pixels beside the centre, which no crop moves out, say which of 5 x 5 crops it is and whether it is mirrored.
    counts = Counter((float(image[3, 3]), float(image[3, 4])) for image in found)
    assert len(counts) == 50
    assert chisquare(list(counts.values())).pvalue > 0.001


@pytest.mark.parametrize("mixing", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_mixed_images_depend_on_their_batch_alone(mixing: dict[str, float]) -> None:
    data = views(**mixing)
    torch.manual_seed(1)
    first = data.__getitems__([3, 4, 5, 6])
    torch.manual_seed(2)
    again, other = data.__getitems__([3, 4, 5, 6]), data.__getitems__([3, 4, 5, 7])
    shares = [torch.stack([row["labels"] for row in batch]) for batch in (first, again, other)]
    assert all(torch.equal(one["pixel_values"], two["pixel_values"]) for one, two in zip(first, again, strict=True))
    assert torch.equal(shares[0], shares[1])
    assert not torch.equal(shares[0], shares[2])
    data.set_epoch(1)
    assert not torch.equal(torch.stack([row["labels"] for row in data.__getitems__([3, 4, 5, 6])]), shares[0])


@pytest.mark.parametrize("begin", [lambda data: data, copy.deepcopy], ids=["itself", "a copy"])
def test_persistent_workers_hear_of_a_new_epoch(begin: Any) -> None:
    data = begin(views())
    loader = DataLoader(data, batch_size=4, num_workers=2, persistent_workers=True)
    for epoch in range(3):
        data.set_epoch(epoch)
        found = torch.cat([batch["pixel_values"] for batch in loader])
        assert torch.equal(found, shown(data, epoch))


def test_the_views_of_a_training_have_its_seed_unless_their_number_is_fixed() -> None:
    assert (views().for_training(7).seed, views(count=2).for_training(7).seed) == (7, 0)
    fixed = views(count=2)
    assert fixed.for_training(7) is fixed


def test_other_columns_come_along_as_they_are() -> None:
    rows = pictures(3).add_column("teacher_logits", [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert views(rows)[1]["teacher_logits"] == [3.0, 4.0]
    assert int(views(rows)[1]["labels"]) == 1
    assert views(rows.with_format("torch"))[-1]["pixel_values"].shape == SHAPE
    with pytest.raises(IndexError):
        views(rows)[3]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(views, count=0), "count must be >= 1"),
        (partial(views, count=3, mixup=0.2), "mixup and CutMix mix the images of a batch"),
        (partial(views, count=3, cutmix=1.0), "no image has a fixed number of views"),
        (lambda: views(pictures().with_transform(transform())), "have a transform of their own already"),
    ],
)
def test_views_that_cannot_be(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_rows_without_images() -> None:
    with pytest.raises(KeyError, match=r"a column 'pixel_values'; there are \['labels'\]"):
        views(pictures().remove_columns("pixel_values"))


# ---- In the trainer ----


def test_the_checks_of_the_trainer_look_at_the_rows(tmp_path: Path) -> None:
    train = partial(DistillationTrainer, tiny.vgg(), tiny.arguments(tmp_path))
    wrong = pictures().map(lambda row, i: {"labels": 7 if i == 4 else row["labels"]}, with_indices=True)
    with pytest.raises(ValueError, match="Row 4 of the training set has label 7"):
        train(train_dataset=views(wrong))
    holes = pictures(2).add_column("soft", [[1.0, 2.0, 3.0], [1.0, float("nan"), 3.0]])
    with pytest.raises(ValueError, match="NaN or infinity in row 1"):
        train(train_dataset=views(holes), teacher_model=ColumnTeacher("soft"))
    with pytest.raises(KeyError, match="hard"):
        train(train_dataset=views(holes), teacher_model=ColumnTeacher("hard"))


def test_mixed_images_have_one_class_each(tmp_path: Path) -> None:
    """Their labels are shares, which must not be taken for several classes at once."""
    mixing = transform(mixup=0.4)
    for rows in (views(mixup=0.4), pictures().with_transform(mixing)):
        trainer = DistillationTrainer(tiny.vgg(), tiny.arguments(tmp_path, max_steps=1), train_dataset=rows)
        assert trainer.problem_type == trainer.model.config.problem_type == "single_label_classification"
        trainer.train()
        trainer.evaluate(pictures(4).with_transform(transform()))


def test_a_column_says_nothing_of_mixed_images(tmp_path: Path) -> None:
    rows = pictures(6).add_column("soft", np.eye(3)[[0, 1, 2] * 2].tolist())
    for mixed in (views(rows, cutmix=1.0), rows.with_transform(transform(mixup=0.4))):
        with pytest.raises(ValueError, match="'soft' speaks of each as it was"):
            DistillationTrainer(
                tiny.vgg(), tiny.arguments(tmp_path), teacher_model=ColumnTeacher("soft"), train_dataset=mixed
            )


def test_a_teacher_is_scored_on_views_and_a_column_goes_with_its_image(tmp_path: Path) -> None:
    rows = pictures(60)
    rows = rows.add_column("soft", np.eye(3)[rows["labels"]].tolist()).add_column("unused", ["x"] * 60)
    args = tiny.arguments(tmp_path, teacher_score_examples=60, num_train_epochs=1)
    teacher = ColumnTeacher("soft")
    trainer = DistillationTrainer(tiny.vgg(), args, teacher_model=teacher, train_dataset=views(rows))
    assert trainer.score_teachers() == {"teacher": 1.0}
    trainer.train()
    assert trainer.state.global_step == 8
