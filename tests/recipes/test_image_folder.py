"""A folder of images and pretrained models, as a user calls it: in a process of its own."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import image_models
import numpy as np
import pytest
import recipe_calls
from PIL import Image
from recipe_calls import last_line

from hf_distill import DistillationTrainingArguments
from hf_distill.recipe import parse

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))

import cifar10
import image_folder

call = partial(recipe_calls.call, "image_folder.py")


def test_pretrained_models_and_no_data_set() -> None:
    recipe, _ = parse([cifar10.RecipeArguments, DistillationTrainingArguments], image_folder.PRESETS, [])
    assert (recipe.dataset, recipe.image_size, recipe.hold_out) == (None, 224, True)
    assert (recipe.teacher, recipe.student) == ("microsoft/resnet-50", "google/mobilenet_v2_1.0_224")


def test_a_folder_must_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["image_folder.py"])
    with pytest.raises(ValueError, match="Say which images: --dataset PATH, of a folder with a folder of images"):
        cifar10.main(image_folder.PRESETS)


@pytest.mark.slow
def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    image_models.model("vit", 12, labels=2).save_pretrained(tmp_path / "model")
    models = ["--teacher", str(tmp_path / "model"), "--student", str(tmp_path / "model")]
    result = call("--dataset", "no/such/folder", *models)
    assert result.returncode == 2, result.stderr
    assert "There is no file or folder no/such/folder" in last_line(result)


@pytest.mark.slow
def test_two_pretrained_models_of_different_images(tmp_path: Path) -> None:
    """The teacher is of fixed size, so that it could be neither trained nor asked nor measured on the student's."""
    random = np.random.default_rng(0)
    for split, rows in (("train", 160), ("test", 40)):
        for row in range(rows):
            pixels = random.integers(0, 256, (10, 14, 3), dtype=np.uint8)
            pixels[..., 0] //= 8 if row % 2 else 1
            folder = tmp_path / "data" / split / ("blue" if row % 2 else "red")
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{row}.png")
    for role, family, size in (("teacher", "vit", 12), ("student", "resnet", 8)):
        image_models.model(family, size, labels=5).save_pretrained(tmp_path / role)
        image_models.processor(family, size).save_pretrained(tmp_path / role)
    result = call(
        "--dataset", str(tmp_path / "data"), "--image_size", "8", "--padding", "1", "--teacher_epochs", "15",
        "--teacher_learning_rate", "0.01", "--num_train_epochs", "2", "--output_dir", str(tmp_path / "out"),
        "--use_cpu", "true", "--bf16", "false", "--dataloader_num_workers", "0", "--views", "2",
        *(word for role in ("teacher", "student") for word in (f"--{role}", str(tmp_path / role))),
        timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["teacher"]["accuracy"] > 0.8
    assert set(report["other_splits"]) == {"validation"}
    saved = {
        name: json.loads((tmp_path / "out" / name / "preprocessor_config.json").read_text())
        for name in ("", "_teacher")
    }
    assert [saved[name]["size"]["height"] for name in ("", "_teacher")] == [8, 12]
    assert saved[""]["image_mean"] == image_models.COLOURS["image_mean"], "as the student was trained"
