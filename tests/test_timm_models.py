"""Models of timm. Where it is not installed, or no torchvision with it, only what can be said of their configs."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from datasets import Dataset
from PIL import Image
from torch import nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    PreTrainedModel,
    TimmWrapperConfig,
    ViTImageProcessorPil,
    set_seed,
)
from transformers.utils import is_timm_available

from hf_distill import DistillationTrainer, FeatureTerm, ImageTeacher, LabelTerm, LogitTerm, Objective, Pair, Predictor
from hf_distill.augmentation import ImageTransform
from hf_distill.fingerprints import config_fingerprint
from hf_distill.image_processors import exact_input, find_image_processor, image_conversion
from hf_distill.losses import SimilarityPreservingLoss, SoftTargetLoss
from hf_distill.recipe import new_classifier
from hf_distill.timm_models import correct_config, image_channels, makes_images_of_timm, renew_head

needs_timm = pytest.mark.skipif(not is_timm_available(), reason="needs timm and a torchvision that fits")

CLASSES = ("cat", "dog", "owl")
IMAGES = {
    "input_size": [3, 24, 24], "interpolation": "bicubic", "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3],
    "crop_pct": 0.9, "crop_mode": "center",
}  # fmt: skip
SIZE = 16
STUDENTS = ViTImageProcessorPil(
    size={"height": SIZE, "width": SIZE}, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6]
)
FAMILIES = ("test_resnet", "mobilenetv3_small_050", "test_vit")


def names(classes: Any) -> dict[str, Any]:
    return {"id2label": dict(enumerate(classes)), "label2id": {name: index for index, name in enumerate(classes)}}


def saved_config(folder: Path, classes: Any = CLASSES, **changes: Any) -> TimmWrapperConfig:
    """A config as it is once it was saved and loaded."""
    TimmWrapperConfig(pretrained_cfg=dict(IMAGES), **names(classes), **changes).save_pretrained(folder)
    return AutoConfig.from_pretrained(folder)


# ---- Configs ----


def test_other_class_names_are_saved(tmp_path: Path) -> None:
    config = saved_config(tmp_path)
    config.id2label = names("abc")["id2label"]
    correct_config(config, None)
    config.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).id2label == {0: "a", 1: "b", 2: "c"}
    assert config.pretrained_cfg == IMAGES, "nobody knows of other images"


def test_the_images_that_it_was_trained_on_are_those_of_the_saved_model(tmp_path: Path) -> None:
    config = saved_config(tmp_path)
    correct_config(config, STUDENTS)
    config.save_pretrained(tmp_path)
    STUDENTS.save_pretrained(tmp_path)
    assert AutoImageProcessor.from_pretrained(tmp_path).image_mean == STUDENTS.image_mean
    correct_config(config, STUDENTS)  # a second time is no error


def test_what_differs_in_names_alone_answers_alike(tmp_path: Path) -> None:
    one, other = saved_config(tmp_path / "one"), saved_config(tmp_path / "other", "abc")
    assert config_fingerprint(one) == config_fingerprint(other)
    other.pretrained_cfg["crop_pct"] = 0.8
    assert config_fingerprint(one) != config_fingerprint(other)


@pytest.mark.parametrize("init", [False, True])
def test_the_trainer_corrects_it(tmp_path: Path, init: bool) -> None:
    """timm may not be there, so that another model must have the fields."""

    def build() -> PreTrainedModel:
        model = tiny.resnet()
        model.config.model_type = "timm_wrapper"
        model.config.pretrained_cfg, model.config.label_names = dict(IMAGES), ["old"] * 3
        return model

    given: dict[str, Any] = {"model_init": build} if init else {"model": build()}
    trainer = DistillationTrainer(args=tiny.arguments(tmp_path), processing_class=STUDENTS, **given)
    for model in [trainer.model, *([trainer.call_model_init()] if init else [])]:
        assert model.config.label_names == [f"LABEL_{index}" for index in range(3)]
        assert not hasattr(model.config, "pretrained_cfg")


def test_any_other_config_stays_as_it_is() -> None:
    config = tiny.resnet().config
    config.pretrained_cfg, config.label_names = dict(IMAGES), ["old"]
    correct_config(config, STUDENTS)
    assert (config.pretrained_cfg, config.label_names) == (IMAGES, ["old"])


def test_only_their_own_body_makes_a_new_head() -> None:
    body = nn.Linear(2, 2)
    assert not renew_head(body, 3)
    body.reset_classifier = lambda classes: setattr(body, "classes", classes)  # type: ignore[method-assign]
    assert renew_head(body, 3)
    assert body.classes == 3


# ---- Models ----


def model(architecture: str, classes: Any = CLASSES, seed: int = 0, **arguments: Any) -> PreTrainedModel:
    if architecture == "test_vit":
        arguments = {"img_size": arguments.pop("size", SIZE), "patch_size": 8, **arguments}
    arguments.pop("size", None)
    config = TimmWrapperConfig(
        architecture=architecture, pretrained_cfg=dict(IMAGES), model_args=arguments, **names(classes)
    )
    made = AutoModelForImageClassification.from_config(config)
    set_seed(seed)
    # transformers draws weights of its own, with which what a deep one answers is all but zero
    own = importlib.import_module("timm").create_model(architecture, num_classes=len(classes), **arguments)
    made.timm_model.load_state_dict(own.state_dict())
    return made


def rows(count: int = 8) -> Dataset:
    pixels = np.random.default_rng(0).integers(64, 192, (count, 3, SIZE, SIZE), dtype=np.uint8)
    stored = Dataset.from_dict({"pixel_values": [image.tobytes() for image in pixels], "labels": [0, 1] * (count // 2)})
    return stored.with_transform(ImageTransform((3, SIZE, SIZE), STUDENTS.image_mean, STUDENTS.image_std))


def objective(student: str, teacher: str) -> Objective:
    return Objective(
        ce=LabelTerm(0.5), kd=LogitTerm(SoftTargetLoss(4.0), 0.5),
        similarity=FeatureTerm(SimilarityPreservingLoss(), Pair(student, teacher)),
    )  # fmt: skip


def inside(architecture: str) -> str:
    """A module somewhere inside."""
    return f"timm_model.{'layer3' if architecture == 'test_resnet' else 'blocks.2'}"


def picture(height: int, width: int, channels: int = 3) -> Image.Image:
    pixels = np.random.default_rng(1).integers(64, 192, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels)


@needs_timm
def test_they_can_be_imported() -> None:
    """Where they are installed they are sound, or the tests below say nothing about this package."""
    for package in ("torchvision", "timm"):
        importlib.import_module(package)


@needs_timm
@pytest.mark.parametrize(
    "changes",
    [
        {}, {"crop_pct": 0.875, "input_size": [3, 32, 32]}, {"crop_pct": 1.0, "interpolation": "bilinear"},
        {"crop_mode": "squash"}, {"crop_mode": "squash", "crop_pct": 1.0, "input_size": [3, 20, 28]},
        {"input_size": [1, 24, 24], "mean": [0.4], "std": [0.3]},
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(32, 32), (45, 30), (41, 47)])
def test_batches_are_made_as_its_processor_makes_a_picture(changes: dict[str, Any], shape: tuple[int, int]) -> None:
    from transformers import TimmWrapperImageProcessor

    processor = TimmWrapperImageProcessor(pretrained_cfg={**IMAGES, **changes})
    image = picture(*shape, channels=len(processor.data_config["mean"]))
    expected = processor(image, return_tensors="pt")["pixel_values"]
    wanted = exact_input(processor)
    made = wanted(torch.from_numpy(np.array(image)).reshape(*shape, -1).permute(2, 0, 1)[None].float() / 255)
    assert made.shape == expected.shape
    assert ((made - expected).abs() * torch.tensor(wanted.std).reshape(-1, 1, 1) * 255).max() <= 2


@needs_timm
@pytest.mark.parametrize("changes", [{"crop_mode": "border"}, {"input_size": [3, 20, 28]}])
def test_what_cannot_be_repeated_is_refused(changes: dict[str, Any]) -> None:
    from transformers import TimmWrapperImageProcessor

    with pytest.raises(ValueError, match="TimmWrapperImageProcessor does more with a picture"):
        exact_input(TimmWrapperImageProcessor(pretrained_cfg={**IMAGES, **changes}))


@needs_timm
@pytest.mark.parametrize("architecture", FAMILIES)
def test_it_teaches_from_its_own_images(architecture: str, tmp_path: Path) -> None:
    model(architecture, size=24).save_pretrained(tmp_path / "teacher")
    teacher = ImageTeacher(tmp_path / "teacher", student=STUDENTS)
    assert teacher.conversion == image_conversion(STUDENTS, find_image_processor(str(tmp_path / "teacher")))
    assert teacher.classes == list(CLASSES)
    student = tiny.vgg(**names(CLASSES))
    trainer = DistillationTrainer(
        student, tiny.arguments(tmp_path, max_steps=1), teacher_model=teacher, train_dataset=rows(),
        processing_class=STUDENTS, objective=objective("vgg.blocks.0", inside(architecture)),
    )  # fmt: skip
    seen: list[torch.Tensor] = []
    teacher.model.register_forward_pre_hook(lambda _, __, given: seen.append(given["pixel_values"]), with_kwargs=True)
    trainer.train()
    assert seen[-1].shape == (8, 3, 24, 24)
    assert trainer.state.log_history[0]["similarity"] > 0
    assert teacher.model.config.pretrained_cfg == IMAGES, "a teacher is left as it is"


@needs_timm
@pytest.mark.parametrize("architecture", FAMILIES)
def test_it_learns_and_comes_back_with_its_classes_and_images(architecture: str, tmp_path: Path) -> None:
    model(architecture, classes="abc").save_pretrained(tmp_path / "before")
    student = new_classifier(str(tmp_path / "before"), CLASSES, 0, AutoModelForImageClassification)
    trainer = DistillationTrainer(
        student, tiny.arguments(tmp_path, max_steps=1), teacher_model=tiny.vgg(**names(CLASSES)), train_dataset=rows(),
        processing_class=STUDENTS, objective=objective(inside(architecture), "vgg.blocks.0"),
    )  # fmt: skip
    before = {name: value.clone() for name, value in student.state_dict().items()}
    trainer.train()
    trainer.save_model(tmp_path / "after")
    assert trainer.state.log_history[0]["similarity"] > 0
    assert any(not torch.equal(value, before[name]) for name, value in student.state_dict().items())
    again = Predictor.load(tmp_path / "after")
    assert again.classes == list(CLASSES)
    assert not makes_images_of_timm(again.processing_class)
    image = picture(SIZE, SIZE)
    [answer] = again([image])
    read = STUDENTS(image, return_tensors="pt")
    with torch.no_grad():
        expected = student.eval()(**read).logits.softmax(1)[0]
    assert answer.label == CLASSES[expected.argmax()]
    assert answer.score == pytest.approx(float(expected.max()), abs=1e-3)


@needs_timm
@pytest.mark.parametrize("old", ["abc", "abcde", ("Owl", "cat", "dog")])
def test_a_head_for_other_classes_is_new_and_the_body_stays(old: Any, tmp_path: Path) -> None:
    saved = model("test_resnet", classes=old)
    saved.save_pretrained(tmp_path)
    new, again = (new_classifier(str(tmp_path), CLASSES, 1, AutoModelForImageClassification) for _ in range(2))
    assert (new.config.id2label, new.config.num_labels) == (dict(enumerate(CLASSES)), 3)
    body, head = saved.state_dict(), new.timm_model.fc.weight
    assert all(torch.equal(value, body[name]) for name, value in new.state_dict().items() if ".fc." not in name)
    assert torch.equal(head, again.timm_model.fc.weight)
    if "cat" in old:
        assert torch.equal(head, body["timm_model.fc.weight"][[1, 2, 0]])
    else:
        assert head.shape[0] == 3
        assert not torch.equal(head, body["timm_model.fc.weight"][:3])


@needs_timm
def test_grey_images_are_read_by_a_model_for_them(tmp_path: Path) -> None:
    grey = model("test_resnet", in_chans=1)
    grey.config.pretrained_cfg.update(input_size=[1, 24, 24], mean=[0.5], std=[0.25])
    grey.save_pretrained(tmp_path)
    predictor = Predictor.load(tmp_path)
    assert image_channels(grey.config) == predictor.channels == 1
    assert len(predictor(predictor.made_up(2))) == 2
    assert predictor([picture(30, 40)])[0].label in CLASSES
    assert makes_images_of_timm(predictor.processing_class)


@needs_timm
def test_images_of_another_size_than_a_transformer_was_made_for_are_found_at_construction(tmp_path: Path) -> None:
    teacher = model("test_vit", "abc", size=24, dynamic_img_size=False)
    with pytest.raises(ValueError, match=r"cannot read images of 16 x 16 pixels and 3 channels: Input height \(16\)"):
        DistillationTrainer(tiny.vgg(), tiny.arguments(tmp_path), teacher_model=teacher, train_dataset=rows())


@pytest.mark.slow
@needs_timm
def test_it_is_exported(tmp_path: Path) -> None:
    exported = pytest.importorskip("exported")  # skips where the extra is missing
    result = exported.export_onnx(model("test_resnet").eval(), tmp_path / "model.onnx", examples=rows())
    assert (result.agreement, result.examples) == (1.0, 8)
    assert result.max_error < 1e-4
