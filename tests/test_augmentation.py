"""Random views: against plain loops with the same draws, and by counting."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from datasets import Dataset
from torch import Tensor
from transformers import TrainerCallback, set_seed

from hf_distill import DistillationTrainer
from hf_distill.augmentation import Augmentation, ImageTransform, Sometimes, crop_and_flip, mix, shares_of_classes
from hf_distill.image_views import Views

SHAPE = (3, 8, 8)
HALVES = (0.5, 0.5, 0.5)


def pictures(count: int = 36, seed: int = 0) -> Dataset:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), dtype=np.uint8)
    return Dataset.from_dict({"pixel_values": [p.tobytes() for p in pixels], "labels": [i % 3 for i in range(count)]})


def transform(augmentation: Augmentation | None = None) -> ImageTransform:
    return ImageTransform(SHAPE, HALVES, HALVES, augmentation, classes=3)


@pytest.mark.parametrize("flip", [False, True])
def test_crops_and_flips_are_those_of_a_plain_loop(flip: bool) -> None:
    images = torch.randint(1, 256, (40, 2, 5, 7), dtype=torch.uint8)
    down, right, mirrored = torch.randint(7, (40,)), torch.randint(7, (40,)), torch.rand(40) < 0.5
    within = torch.rand(40, 3, dtype=torch.float64)
    draws = torch.stack([(down + within[:, 0]) / 7, (right + within[:, 1]) / 7, (~mirrored + within[:, 2]) / 2], dim=1)
    found = crop_and_flip(images, draws, padding=3, flip=flip)
    expected = torch.zeros_like(images)
    for i in range(40):
        for row in range(5):
            for column in range(7):
                y, x = row + int(down[i]) - 3, column + int(right[i]) - 3
                if 0 <= y < 5 and 0 <= x < 7:
                    expected[i, :, row, 6 - column if flip and mirrored[i] else column] = images[i, :, y, x]
    assert torch.equal(found, expected)


def test_the_largest_draw_is_the_last_crop() -> None:
    image = torch.arange(1, 10).reshape(1, 1, 3, 3)
    largest = torch.full((1, 3), 1 - 2.0**-53, dtype=torch.float64)
    for padding in (1, 2, 3, 4, 7, 8):
        found = crop_and_flip(image, largest, padding)
        last = torch.zeros_like(image)
        if padding < 3:
            last[..., : 3 - padding, : 3 - padding] = image[..., padding:, padding:]
        assert torch.equal(found, last)


def test_without_given_draws_every_view_is_another() -> None:
    rows = pictures(8)
    set_seed(0)
    first, second = (transform(Augmentation(padding=2))(rows[:])["pixel_values"] for _ in range(2))
    set_seed(0)
    again = transform(Augmentation(padding=2))(rows[:])["pixel_values"]
    assert all(not torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert torch.equal(first, again)


def test_without_augmentation_pixels_are_only_normalised() -> None:
    rows = pictures(2)
    read = ImageTransform(SHAPE, (0.1, 0.2, 0.3), (0.5, 1.0, 2.0))(rows[:])["pixel_values"]
    pixels = np.stack([np.frombuffer(stored, np.uint8).reshape(SHAPE) for stored in rows["pixel_values"]])
    expected = (pixels / 255 - np.array([0.1, 0.2, 0.3])[:, None, None]) / np.array([0.5, 1.0, 2.0])[:, None, None]
    np.testing.assert_allclose(read.numpy(), expected, atol=1e-6)


def test_a_policy_works_between_the_flip_and_the_normalisation() -> None:
    seen: list[Tensor] = []

    def darker(images: Tensor) -> Tensor:
        seen.append(images)
        return images * 0

    values = transform(Augmentation(padding=0, flip=False, policy=darker))(pictures(4)[:])["pixel_values"]
    assert torch.equal(values, torch.full((4, *SHAPE), -1.0))
    assert 0 <= seen[0].min() < 0.05 < 0.95 < seen[0].max() <= 1


def test_mixup_mixes_images_and_labels_in_the_same_share() -> None:
    images = torch.randn(6, 3, 4, 4)
    labels = torch.eye(6)  # so that a label says which images were mixed
    shares = []
    for seed in range(200):
        set_seed(seed)
        mixed, found = mix(images, labels, mixup=0.5, cutmix=0.0)
        torch.testing.assert_close(mixed, torch.einsum("ij,jchw->ichw", found, images))
        shares.append(found.diagonal().min().item())
    # Beta(1/2, 1/2) is below 0.1 with probability (2 / pi) asin(sqrt(0.1)) = 0.205, and its mean is 1/2.
    assert 0.1 < np.mean(np.array(shares) < 0.1) < 0.31
    assert np.mean(shares) == pytest.approx(0.5, abs=0.1)


def test_cutmix_gives_a_label_the_share_of_the_area() -> None:
    images = torch.arange(6.0)[:, None, None, None].expand(6, 3, 8, 12)
    largest = 0.0
    for seed in range(50):
        set_seed(seed)
        cut, found = mix(images, torch.eye(6), mixup=0.0, cutmix=1.0)
        for i in range(6):
            counted = torch.stack([(cut[i] == j).float().mean() for j in range(6)])
            torch.testing.assert_close(found[i], counted)
        [where] = [(cut[i, 0] != i).nonzero() for i in range(6) if found[i, i] < 1][:1] or [torch.zeros(0, 2)]
        if len(where):  # one rectangle
            height, width = (where.max(0).values - where.min(0).values + 1).tolist()
            assert height * width == len(where)
            largest = max(largest, len(where) / 96)
    assert largest > 0.5


def test_with_both_every_batch_gets_one_of_them() -> None:
    images = torch.arange(4.0)[:, None, None, None].expand(4, 1, 8, 8)
    whole = 0
    for seed in range(40):
        set_seed(seed)
        mixed, _ = mix(images, torch.eye(4), mixup=1.0, cutmix=1.0)
        whole += bool((mixed != mixed.round()).any())  # mixup alone gives values in between
    assert 8 < whole < 32


def test_where_one_of_a_pair_has_no_label_the_mixture_has_none() -> None:
    labels = shares_of_classes(torch.tensor([0, -100, 2, 1]), 3)
    assert labels.tolist() == [[1, 0, 0], [-100, -100, -100], [0, 0, 1], [0, 1, 0]]
    for seed in range(10):
        set_seed(seed)
        _, mixed = mix(torch.zeros(4, 1, 2, 2), labels, mixup=1.0, cutmix=0.0)
        known = (mixed >= 0).all(dim=1)
        assert not known[1]
        assert (mixed[~known] == -100).all()
        torch.testing.assert_close(mixed[known].sum(1), torch.ones(int(known.sum())))


@pytest.mark.parametrize(
    "wrong",
    [{"padding": -1}, {"padding": 1.5}, {"mixup": -0.1}, {"mixup": np.nan}, {"cutmix": -1.0}, {"cutmix": np.inf}],
)
def test_numbers_that_no_image_can_be_changed_by(wrong: dict[str, Any]) -> None:
    [(name, value)] = wrong.items()
    with pytest.raises(ValueError, match=f"{name}.* must be .* >= 0, got .*{value}"):
        Augmentation(**wrong)


@pytest.mark.parametrize(
    ("shape", "mean", "std", "message"),
    [
        ((8, 8), HALVES, HALVES, "shape must be channels, height and width"),
        ((3, 8, 0), HALVES, HALVES, "shape must be channels, height and width"),
        (SHAPE, (0.5,), HALVES, "a finite number for each of 3 channels"),
        (SHAPE, HALVES, (0.5,), "a finite number for each of 3 channels"),
        (SHAPE, (0.5, 0.5, np.nan), HALVES, "a finite number for each of 3 channels"),
        (SHAPE, HALVES, (0.5, 0.0, 0.5), "std > 0"),
    ],
)
def test_what_no_image_can_be_read_by(shape: Any, mean: Any, std: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageTransform(shape, mean, std)


@pytest.mark.parametrize("stored", [[bytes(16)] * 3, [bytes(48), bytes(47)]])  # three grey images are one in colour
def test_images_of_another_size_than_was_said(stored: list[bytes]) -> None:
    with pytest.raises(ValueError, match=r"has (16|47) bytes, where 3 x 4 x 4 \(channels, height, width\) take 48"):
        ImageTransform((3, 4, 4), HALVES, HALVES)({"pixel_values": stored})


def test_mixing_needs_the_number_of_classes() -> None:
    with pytest.raises(ValueError, match="classes >= 2, got 0"):
        ImageTransform(SHAPE, HALVES, HALVES, Augmentation(mixup=0.2))


# ---- In a training ----


def test_teacher_and_student_see_the_same_new_view_each_time(tmp_path: Path) -> None:
    student, teacher = tiny.vgg(), tiny.vgg(seed=1)
    seen: dict[str, list[Tensor]] = {"student": [], "teacher": []}
    rows = pictures(8).with_transform(transform(Augmentation(padding=2)))
    evaluation = pictures(8).with_transform(transform())
    args = tiny.arguments(tmp_path, num_train_epochs=2, eval_strategy="epoch")
    trainer = DistillationTrainer(student, args, teacher_model=teacher, train_dataset=rows, eval_dataset=evaluation)
    for name, model in (("student", student), ("teacher", teacher)):
        model.vgg.register_forward_pre_hook(lambda _, given, name=name: seen[name].append(given[0].clone()))
    trainer.train()
    training, tested = [seen["student"][0], seen["student"][2]], [seen["student"][1], seen["student"][3]]
    assert all(torch.equal(one, other) for one, other in zip(training, seen["teacher"], strict=True))
    assert not torch.equal(*training)
    assert torch.equal(*tested)
    assert torch.equal(tested[0], transform()(pictures(8)[:])["pixel_values"])


@pytest.mark.parametrize("augmentation", [Augmentation(padding=2), Augmentation(mixup=0.4, cutmix=1.0)])
def test_a_training_resumed_after_a_whole_epoch_sees_the_same_views(tmp_path: Path, augmentation: Augmentation) -> None:
    class Kill(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == self.step:
                raise KeyboardInterrupt

        def __init__(self, step: int | None) -> None:
            self.step = step

    def weights(folder: str, kill_at: int | None = None, resume: bool = False) -> dict[str, Tensor]:
        args = tiny.arguments(tmp_path / folder, num_train_epochs=2, save_strategy="steps", save_steps=1)
        student = tiny.vgg(batch_norm=True, problem_type="single_label_classification")
        rows = pictures(20).with_transform(transform(augmentation))
        trainer = DistillationTrainer(
            student, args, teacher_model=tiny.vgg(seed=1), train_dataset=rows, callbacks=[Kill(kill_at)]
        )
        with contextlib.suppress(KeyboardInterrupt):
            trainer.train(resume_from_checkpoint=resume)
        return dict(student.state_dict())

    whole = weights("whole")
    weights("killed", kill_at=4)  # in the second epoch; the last checkpoint ends the first
    resumed = weights("killed", resume=True)
    assert [name for name, value in whole.items() if not torch.equal(value, resumed[name])] == []


def test_a_teacher_is_scored_on_mixed_images_by_their_larger_share(tmp_path: Path) -> None:
    student = tiny.vgg(problem_type="single_label_classification")
    rows = pictures(60).with_transform(transform(Augmentation(padding=0, flip=False, mixup=0.2)))
    args = tiny.arguments(tmp_path, teacher_score_examples=60, max_steps=1)
    with pytest.raises(ValueError, match=r"where guessing gives 0\.333"):
        DistillationTrainer(student, args, teacher_model=tiny.vgg(seed=1), train_dataset=rows).train()


def test_a_share_of_the_views_is_strong_and_the_others_are_as_without_a_policy() -> None:
    strong = Augmentation(policy=Sometimes(invert, share=0.25))
    rows = pictures(400)

    def shown(augmentation: Augmentation, view: int = 0) -> Tensor:
        views = Views(rows, transform(augmentation), seed=0)
        views.set_epoch(view)
        return torch.stack([row["pixel_values"] for row in views.__getitems__(range(400))])

    weak, mixed = shown(Augmentation()), shown(strong)
    inverted = torch.isclose(mixed, -weak, atol=1e-6).flatten(1).all(dim=1)
    unchanged = torch.isclose(mixed, weak, atol=1e-6).flatten(1).all(dim=1)
    assert bool((inverted ^ unchanged).all())
    assert 70 <= int(inverted.sum()) <= 130, "100 +- 3.5 standard errors"
    later = torch.isclose(shown(strong, 1), -shown(Augmentation(), 1), atol=1e-6).flatten(1).all(dim=1)
    assert not torch.equal(later, inverted), "each view of an image draws for itself"


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_that_is_none(share: float) -> None:
    with pytest.raises(ValueError, match="share must be > 0 and <= 1"):
        Sometimes(invert, share)


def invert(images: Tensor) -> Tensor:
    return 1 - images
