"""Image models by name, who is trained already, and images as the teacher knows them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import image_models
import numpy as np
import pytest
import tiny
import torch
from datasets import Dataset, DatasetDict
from PIL import Image
from transformers import AutoImageProcessor, MobileViTImageProcessorPil

from hf_distill import ImageTeacher, VGGConfig
from hf_distill.augmentation import Augmentation
from hf_distill.recipe import (
    ImageData,
    about_start,
    channels_last_collator,
    check_image_model,
    live_image_teacher,
    new_image_classifier,
    prepare_images,
    trained_image_teacher,
)
from hf_distill.recipe.images import image_processor
from hf_distill.recipe.vision import knows_classes

CLASSES = ("cat", "dog")
NEW = {"small": partial(VGGConfig, hidden_sizes=[4], depths=[1], num_pooled_blocks=1)}


def images(rows: int = 12) -> ImageData:
    """Two thirds of the training images have a label."""
    pixels = np.random.default_rng(0).integers(0, 256, (rows, 3, 8, 8), dtype=np.uint8)
    stored = [p.tobytes() for p in pixels]
    train = Dataset.from_dict({"pixel_values": stored, "labels": [[0, 1, -100][row % 3] for row in range(rows)]})
    test = Dataset.from_dict({"pixel_values": stored, "labels": [row % 2 for row in range(rows)]})
    return ImageData(DatasetDict(train=train, test=test), CLASSES, (3, 8, 8))


def checkpoint(folder: Path, names: dict[int, str]) -> str:
    tiny.vgg(labels=len(names), id2label=names).save_pretrained(folder)
    return str(folder)


def test_a_new_model_has_the_classes_and_the_channels() -> None:
    first, again, other = (new_image_classifier("small", CLASSES, 1, seed, NEW) for seed in (0, 0, 1))
    assert first.config.id2label == {0: "cat", 1: "dog"}
    assert first.config.label2id == {"cat": 0, "dog": 1}
    assert first(torch.zeros(2, 1, 8, 8)).logits.shape == (2, 2)
    weight = "vgg.blocks.0.layers.0.convolution.weight"
    assert torch.equal(first.state_dict()[weight], again.state_dict()[weight])
    assert not torch.equal(first.state_dict()[weight], other.state_dict()[weight])


def test_a_student_whose_processor_does_not_normalise_reads_what_it_makes(tmp_path: Path) -> None:
    name = checkpoint(tmp_path, {0: "cat", 1: "dog"})
    MobileViTImageProcessorPil().save_pretrained(tmp_path)
    made = prepare_images(images(), Augmentation(), "small", name, NEW).processor
    assert (tuple(made.image_mean), tuple(made.image_std)) == ((0.0,) * 3, (1.0,) * 3)


def test_a_checkpoint_for_other_classes_keeps_its_body_and_gets_a_new_head(tmp_path: Path) -> None:
    name = checkpoint(tmp_path, {0: "car", 1: "ship", 2: "plane"})
    assert not knows_classes(name, CLASSES)
    model = new_image_classifier(name, CLASSES, 3, seed=0, new=NEW)
    assert model.classifier[-1].weight.shape == (2, 8)
    assert model.config.id2label == {0: "cat", 1: "dog"}
    for key, value in tiny.vgg().vgg.state_dict().items():
        assert torch.equal(value, model.vgg.state_dict()[key])


def test_a_teacher_without_class_names_is_taken_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = images()
    prepared = prepare_images(data, Augmentation(), "small", "small", NEW)
    for names, warned in (({0: "LABEL_0", 1: "LABEL_1"}, True), ({0: "dog", 1: "cat"}, False)):
        caplog.clear()
        name = checkpoint(tmp_path / names[0], names)
        teacher = trained_image_teacher(name, data, prepared, tiny.arguments(tmp_path / "_teacher"), NEW)
        assert torch.equal(teacher.classifier[-1].weight, tiny.vgg(labels=2).classifier[-1].weight)
        assert ("is all that says that they are the same" in caplog.text) == warned


@pytest.mark.parametrize(
    ("names", "known"),
    [
        ({0: "cat", 1: "dog"}, True),
        ({0: "Dog", 1: "Cat"}, True),
        ({0: "LABEL_0", 1: "LABEL_1"}, True),
        ({0: "cat", 1: "owl"}, False),
        ({0: "cat", 1: "dog", 2: "owl"}, False),
    ],
)
def test_who_knows_the_classes(tmp_path: Path, names: dict[int, str], known: bool) -> None:
    assert knows_classes(checkpoint(tmp_path, names), CLASSES) == known


def test_a_teacher_is_trained_where_it_is_not_yet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = images()
    prepared = prepare_images(data, Augmentation(padding=1), "small", "small", NEW)
    args = tiny.arguments(tmp_path / "_teacher", num_train_epochs=1, learning_rate=0.1)
    start = new_image_classifier("small", CLASSES, 3, args.seed, NEW)
    teacher = trained_image_teacher("small", data, prepared, args, NEW)
    weight = "classifier.1.weight"
    assert not torch.equal(teacher.state_dict()[weight], start.state_dict()[weight])
    known = trained_image_teacher(str(tmp_path / "_teacher"), data, prepared, args, NEW)
    assert torch.equal(teacher.state_dict()[weight], known.state_dict()[weight])
    caplog.set_level("INFO")
    again = trained_image_teacher("small", data, prepared, args, NEW)
    assert torch.equal(teacher.state_dict()[weight], again.state_dict()[weight])
    assert "finished already" in caplog.text
    other = prepare_images(data, Augmentation(padding=2), "small", "small", NEW)
    caplog.clear()
    trained_image_teacher("small", data, other, args, NEW)
    assert "made anew: images was" in caplog.text, "another augmentation is another training"
    fixed = prepare_images(data, Augmentation(padding=2), "small", "small", NEW, views=3)
    caplog.clear()
    trained_image_teacher("small", data, fixed, args, NEW)
    assert "finished already" in caplog.text, "how many views the students get is nothing to the teacher"


def test_images_are_normalised_by_their_own_statistics_or_as_the_student_was_trained(tmp_path: Path) -> None:
    data = images()
    own = prepare_images(data, Augmentation(), "small", "small", NEW)
    values = own.evaluation["test"][:]["pixel_values"]
    torch.testing.assert_close(values.mean((0, 2, 3)), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(values.std((0, 2, 3)), torch.ones(3), atol=1e-2, rtol=0)
    name = checkpoint(tmp_path, {0: "cat", 1: "dog"})
    image_processor(8, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)).save_pretrained(name)
    known = prepare_images(data, Augmentation(), "small", name, NEW)
    assert [*known.processor.image_mean, *known.processor.image_std] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    pixels = np.frombuffer(b"".join(data.splits["test"]["pixel_values"][:]), np.uint8).reshape(-1, 3, 8, 8) / 255
    expected = (pixels - np.array([0.1, 0.2, 0.3]).reshape(3, 1, 1)) / np.array([0.4, 0.5, 0.6]).reshape(3, 1, 1)
    np.testing.assert_allclose(known.evaluation["test"][:]["pixel_values"].numpy(), expected, atol=1e-5)


def own_images(folder: Path, labels: int) -> str:
    """A ViT for images of 12 x 12 pixels, with its image processor."""
    image_models.model("vit", 12, labels=labels).save_pretrained(folder)
    image_models.processor("vit", 12).save_pretrained(folder)
    return str(folder)


def test_a_teacher_of_another_size_is_trained_asked_and_measured_on_images_of_its_own(tmp_path: Path) -> None:
    data, name = images(), own_images(tmp_path / "vit", labels=3)
    prepared = prepare_images(data, Augmentation(padding=1), name, "small", NEW)
    assert prepared.processor.size == {"height": 8, "width": 8}
    pixels = np.frombuffer(b"".join(data.splits["test"]["pixel_values"][:]), np.uint8).reshape(-1, 3, 8, 8)
    pictures = [Image.fromarray(image) for image in pixels.transpose(0, 2, 3, 1)]
    expected = image_models.processor("vit", 12)(pictures, return_tensors="pt")["pixel_values"]
    rows = [prepared.evaluation["test"][row] for row in range(len(pictures))]
    made = prepared.teacher_collator(rows)["pixel_values"]
    assert made.shape == expected.shape
    assert (made - expected).abs().max() <= 2 / 255 / 0.3, "the rounding of Pillow"

    args = tiny.arguments(tmp_path / "_teacher", num_train_epochs=1)
    trained = trained_image_teacher(name, data, prepared, args, NEW)
    assert trained.config.id2label == {0: "cat", 1: "dog"}
    assert AutoImageProcessor.from_pretrained(args.output_dir).size == {"height": 12, "width": 12}
    settings = json.loads((tmp_path / "_teacher" / "_settings.json").read_text())
    assert "ImageInput(" in settings["teacher_images"]
    assert settings["start"] == about_start(name)["start"]
    live = live_image_teacher(trained, name, prepared)
    assert isinstance(live, ImageTeacher)
    assert live.name == "vit"
    batch = channels_last_collator(rows)
    with torch.no_grad():
        torch.testing.assert_close(live(batch).logits, trained(made).logits)


def test_a_teacher_for_other_classes_is_not_trained_in_its_own_place(tmp_path: Path) -> None:
    data, name = images(), own_images(tmp_path / "_teacher", labels=3)
    prepared = prepare_images(data, Augmentation(padding=1), name, "small", NEW)
    (tmp_path / "_teacher" / "_settings.json").write_text("{}")  # an earlier run left it there
    with pytest.raises(ValueError, match="would take the place of"):
        trained_image_teacher(name, data, prepared, tiny.arguments(tmp_path / "_teacher"), NEW)


def test_a_teacher_that_does_not_say_which_images_it_knows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data, name = images(), checkpoint(tmp_path, {0: "cat", 1: "dog"})
    for teacher, mentioned in (("small", False), (f"config:{name}", False), (name, True)):
        plain = prepare_images(data, Augmentation(), teacher, "small", NEW)
        assert ("No image processor was saved with the teacher" in caplog.text) is mentioned
    plain.processor.save_pretrained(name)
    caplog.clear()
    prepare_images(data, Augmentation(), name, "small", NEW)
    assert not [record for record in caplog.records if record.name.startswith("hf_distill")]


def test_a_teacher_of_the_same_images_has_no_others(tmp_path: Path) -> None:
    data, name = images(), checkpoint(tmp_path, {0: "cat", 1: "dog"})
    plain = prepare_images(data, Augmentation(), "small", "small", NEW)
    plain.processor.save_pretrained(name)
    prepared = prepare_images(data, Augmentation(), name, "small", NEW)
    assert prepared.conversion is None
    assert prepared.teacher_processor is None
    assert prepared.teacher_collator is channels_last_collator
    assert prepared.about_teacher == {}
    assert not isinstance(live_image_teacher(tiny.vgg(), name, prepared), ImageTeacher)


def test_the_size_is_that_of_the_data_and_a_student_of_another_one_is_told_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = checkpoint(tmp_path, {0: "cat", 1: "dog"})
    image_processor(8, (0.5,) * 3, (0.5,) * 3).save_pretrained(name)
    prepare_images(images(), Augmentation(), "small", name, NEW)
    assert "was trained on images" not in caplog.text
    image_processor(16, (0.5,) * 3, (0.5,) * 3).save_pretrained(name)
    prepared = prepare_images(images(), Augmentation(), "small", name, NEW)
    assert prepared.processor.size == {"height": 8, "width": 8}
    assert "was trained on images of 16 x 16 pixels and reads 8 x 8 here; --image_size changes that" in caplog.text


def test_a_model_that_cannot_read_the_images_is_found_before_any_training(tmp_path: Path) -> None:
    name = own_images(tmp_path / "vit", labels=2)
    with pytest.raises(
        ValueError, match=r"--student .*vit cannot read images of 8 x 8 .*image_size 12\. Set --image_si"
    ):
        prepare_images(images(), Augmentation(), "small", name, NEW)
    (tmp_path / "vit" / "preprocessor_config.json").unlink()
    with pytest.raises(
        ValueError, match=r"--teacher .*vit cannot read images of 8 x 8 .*Save the image processor that"
    ):
        prepare_images(images(), Augmentation(), name, "small", NEW)
    image_models.model("resnet", 8, channels=1).save_pretrained(tmp_path / "grey")
    with pytest.raises(ValueError, match=r"and 3 channels: .*num_channels 1\..* choose one for coloured images"):
        prepare_images(images(), Augmentation(), str(tmp_path / "grey"), "small", NEW)


def test_a_module_that_a_model_lacks_is_found_before_any_training() -> None:
    layers = {"student_layers": {"vgg.pooler"}, "teacher_layers": {"vgg.blocks.0"}}
    prepare_images(images(), Augmentation(), "small", "small", NEW, **layers)
    for role in ("student", "teacher"):
        wrong = {**layers, f"{role}_layers": {"vgg.pooler", "vgg.blocks.4"}}
        with pytest.raises(KeyError, match=rf"--{role} small: There is no module 'vgg\.blocks\.4'; did you mean 'vgg"):
            prepare_images(images(), Augmentation(), "small", "small", NEW, **wrong)


def test_only_training_images_are_augmented_and_only_labelled_ones_are_for_a_control() -> None:
    prepared = prepare_images(images(), Augmentation(padding=2), "small", "small", NEW)
    assert (len(prepared.train), len(prepared.labelled), len(prepared.evaluation["test"])) == (12, 8, 12)
    plain = prepared.evaluation["test"][:]["pixel_values"]  # the same pictures as the training images
    assert not torch.equal(torch.stack([row["pixel_values"] for row in prepared.train]), plain)
    assert [int(row["labels"]) for row in prepared.labelled] == [0, 1] * 4
    train = {row["pixel_values"].numpy().tobytes() for row in prepared.train}
    assert {row["pixel_values"].numpy().tobytes() for row in prepared.labelled} < train, "the same views"


def test_a_misspelt_model_is_named() -> None:
    with pytest.raises(KeyError, match=r"--teacher smal: there is no such new model; did you mean small\?"):
        check_image_model("smal", "--teacher", NEW)
    check_image_model("small", "--teacher", NEW)


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"--student .*this folder holds no model"):
        check_image_model(str(tmp_path), "--student", NEW)
