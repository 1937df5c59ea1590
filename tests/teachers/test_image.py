"""Teachers with images of another size and normalisation. What they should see, their own image processors say."""

from __future__ import annotations

import pickle
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import image_models
import numpy as np
import pytest
import tiny
import torch
from datasets import Dataset
from image_models import FAMILIES
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import MobileViTImageProcessorPil, ViTImageProcessorPil, default_data_collator

from hf_distill import CachedTeacher, DistillationTrainer, EnsembleTeacher, ImageTeacher, ModelTeacher, cache_teacher
from hf_distill.augmentation import Augmentation, ImageTransform
from hf_distill.image_views import Views

SMALL, LARGE = 16, 24
TRANSFORM = ImageTransform((3, SMALL, SMALL), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), Augmentation(padding=2))
STUDENTS = ViTImageProcessorPil(
    size={"height": SMALL, "width": SMALL}, image_mean=TRANSFORM.mean, image_std=TRANSFORM.std
)


def views(count: int | None = None, rows: int = 8) -> Views:
    pixels = np.random.default_rng(0).integers(64, 192, (rows, *TRANSFORM.shape), dtype=np.uint8)
    stored = {"pixel_values": [image.tobytes() for image in pixels], "labels": [row % 3 for row in range(rows)]}
    return Views(Dataset.from_dict(stored), TRANSFORM, seed=0, count=count)


def pictures(pixel_values: Tensor) -> list[Image.Image]:
    """What the student reads, as pictures."""
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (TRANSFORM.mean, TRANSFORM.std))
    levels = ((pixel_values * std + mean) * 255).round().byte().permute(0, 2, 3, 1)
    return [Image.fromarray(array) for array in levels.numpy()]


def seen_by(model: Any) -> list[Tensor]:
    """What a model reads from now on."""
    seen: list[Tensor] = []
    model.register_forward_pre_hook(lambda _, __, kwargs: seen.append(kwargs["pixel_values"]), with_kwargs=True)
    return seen


def learn(tmp_path: Path, student: Any, teacher: Any, **changes: Any) -> DistillationTrainer:
    given = {"train_dataset": views(), "processing_class": STUDENTS, **changes}
    return DistillationTrainer(student, tiny.arguments(tmp_path, max_steps=1), teacher_model=teacher, **given)


@pytest.mark.parametrize(("student", "teacher"), list(zip(FAMILIES, FAMILIES[1:] + FAMILIES[:1], strict=True)))
def test_every_family_learns_and_teaches_and_the_teacher_sees_the_same_crop(
    student: str, teacher: str, tmp_path: Path
) -> None:
    pupil, model = image_models.model(student, SMALL), image_models.model(teacher, LARGE, seed=1)
    own = image_models.processor(teacher, LARGE)
    trainer = learn(tmp_path, pupil, ImageTeacher(model, student=STUDENTS, processor=own))
    before = {name: value.clone() for name, value in pupil.state_dict().items()}
    read, shown = seen_by(pupil), seen_by(model)
    trainer.train()
    [students], [teachers] = read, shown
    expected = own(pictures(students), return_tensors="pt")["pixel_values"]
    assert teachers.shape == expected.shape == (8, 3, LARGE, LARGE)
    levels = (teachers - expected).abs() * torch.tensor(own.image_std).reshape(3, 1, 1) * 255
    assert levels.max() <= 2
    assert any(not torch.equal(value, before[name]) for name, value in pupil.state_dict().items())
    with torch.no_grad():
        logits = model(pixel_values=teachers).logits
    answer = trainer.ask("teacher", {"pixel_values": students}).logits
    torch.testing.assert_close(answer, logits)


def test_its_answers_can_be_kept_and_are_told_apart_from_those_to_other_images(tmp_path: Path) -> None:
    model = image_models.model("vit", LARGE)
    own = image_models.processor("vit", LARGE)
    teacher = ImageTeacher(model, student=TRANSFORM, processor=own)
    kept = cache_teacher(views(count=2), teacher, tmp_path / "answers")
    trainer = learn(tmp_path, image_models.model("resnet", SMALL), kept, train_dataset=views(count=2))
    batch = next(iter(trainer.get_train_dataloader()))
    torch.testing.assert_close(trainer.ask("teacher", batch).logits, teacher(batch).logits)
    own.image_mean = [0.5, 0.4, 0.4]
    other = ImageTeacher(model, student=TRANSFORM, processor=own)
    assert other.fingerprint() != teacher.fingerprint()
    with pytest.raises(ValueError, match="images"):
        cache_teacher(views(count=2), other, tmp_path / "answers")


def test_a_processor_is_found_beside_a_model_given_by_name(tmp_path: Path) -> None:
    model, own = image_models.model("convnext", LARGE), image_models.processor("convnext", LARGE)
    model.save_pretrained(tmp_path / "large")
    with pytest.raises(ValueError, match=r"No image processor was saved with large: give the one"):
        ImageTeacher(tmp_path / "large", student=STUDENTS)
    with pytest.raises(ValueError, match="No image processor was saved with ConvNextForImageClassification"):
        ImageTeacher(model, student=STUDENTS)
    own.save_pretrained(tmp_path / "large")
    named, given = ImageTeacher(tmp_path / "large", STUDENTS), ImageTeacher(model, STUDENTS, own)
    assert named.conversion == given.conversion
    images = {"pixel_values": torch.randn(2, 3, SMALL, SMALL)}
    torch.testing.assert_close(named(images).logits, given(images).logits)


def test_images_of_another_kind_are_found_at_construction(tmp_path: Path) -> None:
    folder = tmp_path / "large"
    image_models.model("resnet", LARGE).save_pretrained(folder)
    pupil = image_models.model("resnet", SMALL, seed=1)
    learn(tmp_path, pupil, str(folder))  # nobody knows what it was trained on
    image_models.processor("resnet", LARGE).save_pretrained(folder)
    with pytest.raises(ValueError, match=r"'large' was trained on images of 24 x 24 pixels with mean \(0.485, 0.456"):
        learn(tmp_path, pupil, str(folder))
    learn(tmp_path, pupil, str(folder), processing_class=None)
    learn(tmp_path, pupil, ModelTeacher(folder, processing_class=STUDENTS))
    learn(tmp_path, pupil, ImageTeacher(folder, student=STUDENTS))
    STUDENTS.save_pretrained(folder)
    learn(tmp_path, pupil, str(folder))
    for changed in ({"image_mean": [0.1, 0.2, 0.4]}, {"size": {"height": SMALL + 1, "width": SMALL}}):
        ViTImageProcessorPil(**{**STUDENTS.to_dict(), **changed}).save_pretrained(folder)
        with pytest.raises(ValueError, match="Pass teacher_model=ImageTeacher"):
            learn(tmp_path, pupil, str(folder))


def test_kept_answers_to_images_of_another_kind_are_found_at_construction_too(tmp_path: Path) -> None:
    folder, pupil, shown = tmp_path / "large", image_models.model("resnet", SMALL, seed=1), views(count=1, rows=3)
    image_models.model("resnet", LARGE).save_pretrained(folder)
    image_models.processor("resnet", LARGE).save_pretrained(folder)
    made = cache_teacher(shown, folder, tmp_path / "answers")
    for teacher in (made, CachedTeacher(tmp_path / "answers"), pickle.loads(pickle.dumps(made))):
        with pytest.raises(ValueError, match=r"was trained on images of 24 x 24 pixels with mean \(0.485, 0.456"):
            learn(tmp_path, pupil, teacher, train_dataset=shown)
    vouched = ModelTeacher(folder, processing_class=STUDENTS)
    learn(tmp_path, pupil, cache_teacher(shown, vouched, tmp_path / "answers"), train_dataset=shown)
    learn(tmp_path, pupil, CachedTeacher(tmp_path / "answers"), train_dataset=shown)
    others = ViTImageProcessorPil(**{**STUDENTS.to_dict(), "image_mean": [0.5, 0.5, 0.5]})
    converted = cache_teacher(shown, ImageTeacher(folder, student=others), tmp_path / "converted")
    with pytest.raises(ValueError, match=r"images of any size with mean \(0.5, 0.5"):
        learn(tmp_path, pupil, converted, train_dataset=shown)


def test_images_with_red_and_blue_swapped_are_found_at_construction(tmp_path: Path) -> None:
    folder, pupil = tmp_path / "mobile", image_models.model("resnet", SMALL, seed=1)
    image_models.model("resnet", SMALL).save_pretrained(folder)
    size = {"height": SMALL, "width": SMALL}
    students = ViTImageProcessorPil(size=size, do_normalize=False)
    for swapped in (True, False):
        own = MobileViTImageProcessorPil(size=size, do_center_crop=False, do_flip_channel_order=swapped)
        own.save_pretrained(folder)
        refused = pytest.raises(
            ValueError, match=r"'mobile' .*do_flip_channel_order=True, .*=False\. Make the student's"
        )
        with refused if swapped else nullcontext():
            learn(tmp_path, pupil, str(folder), processing_class=students)
        learn(tmp_path, pupil, str(folder), processing_class=own)


def test_the_students_processor_must_be_that_of_the_trainer(tmp_path: Path) -> None:
    own = image_models.processor("vit", LARGE)
    teacher = ImageTeacher(image_models.model("vit", LARGE), student=own, processor=own)
    with pytest.raises(ValueError, match=r"pass the same as student="):
        learn(tmp_path, image_models.model("resnet", SMALL), teacher)


@pytest.mark.parametrize(
    ("family", "channels", "message"),
    [
        ("vit", 3, r"'ViTForImageClassification' cannot read images of 16 x 16 pixels and 3 channels: .*image_size 24"),
        ("resnet", 1, r"cannot read images of 16 x 16 pixels and 3 channels: .*num_channels 1\. ImageTeacher\(model"),
    ],
)
def test_a_teacher_that_cannot_read_the_students_images(
    family: str, channels: int, message: str, tmp_path: Path
) -> None:
    model = image_models.model(family, LARGE, channels=channels)
    for teacher in (model, EnsembleTeacher([model])):
        with pytest.raises(ValueError, match=message):
            learn(tmp_path, image_models.model("resnet", SMALL), teacher)
        with pytest.raises(ValueError, match=message):
            cache_teacher(views(count=1), teacher, tmp_path / type(teacher).__name__)


def test_images_are_looked_at_as_the_collator_makes_them(tmp_path: Path) -> None:
    def resized(rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch = default_data_collator(rows)
        return {**batch, "pixel_values": F.interpolate(batch["pixel_values"], LARGE)}

    fixed, pupil = image_models.model("vit", LARGE), image_models.model("resnet", SMALL)
    for teacher in (fixed, EnsembleTeacher([fixed])):
        learn(tmp_path, pupil, teacher, data_collator=resized)
    with pytest.raises(ValueError, match="cannot read images of 24 x 24"):
        learn(tmp_path, pupil, image_models.model("vit", SMALL), data_collator=resized)


def test_a_wrong_processor_for_a_teacher_of_fixed_size(tmp_path: Path) -> None:
    teacher = ImageTeacher(image_models.model("vit", LARGE), STUDENTS, image_models.processor("vit", LARGE + 4))
    with pytest.raises(ValueError, match=r"cannot read images of 16 x 16 .*Give the image processor that it was train"):
        learn(tmp_path, image_models.model("resnet", SMALL), teacher)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_teacher_in_bfloat16_reads_float32_images(family: str) -> None:
    model = image_models.model(family, LARGE).to(torch.bfloat16)
    teacher = ImageTeacher(model, STUDENTS, image_models.processor(family, LARGE))
    assert teacher({"pixel_values": torch.zeros(2, 3, SMALL, SMALL)}).logits.dtype == torch.bfloat16
