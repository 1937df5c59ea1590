"""The recipe as a user calls it: in a process of its own."""

from __future__ import annotations

import json
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recipe_calls
import tiny
import torch
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image
from recipe_calls import last_line
from transformers import pipeline

from hf_distill import DistillationTrainer, with_example_ids
from hf_distill.augmentation import Augmentation, ImageTransform
from hf_distill.image_views import Views

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "recipes"))

import cifar10  # noqa: E402


@pytest.mark.parametrize("method", cifar10.METHODS)
def test_a_small_vgg_learns_from_a_larger_one_by_every_method(method: str, tmp_path: Path) -> None:
    blocks = {"depths": [1] * 5, "num_pooled_blocks": 2}
    student = tiny.vgg(hidden_sizes=[4, 4, 6, 6, 8], **blocks)
    teacher = tiny.vgg(seed=1, hidden_sizes=[4, 6, 8, 8, 8], **blocks)
    given = tiny.arguments(tmp_path, max_steps=2, temperature=4.0, distillation_weight=0.9)
    args, objective = cifar10.with_method(given, method)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    rows = with_example_ids(tiny.dataset("vgg"))
    trainer = DistillationTrainer(student, args, train_dataset=rows, teacher_model=teacher, objective=objective)
    trainer.train()
    logged = trainer.state.log_history[0]
    assert sum(logged[name] for name in objective.terms) == pytest.approx(logged["loss"], abs=1e-4)
    assert any(not torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_a_policy_without_kornia_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cifar10.find_policy("none") is None
    monkeypatch.setitem(sys.modules, "kornia", None)
    monkeypatch.setitem(sys.modules, "kornia.augmentation.auto", None)
    with pytest.raises(ValueError, match="--policy rand needs kornia: pip install kornia"):
        cifar10.find_policy("rand")


@pytest.mark.parametrize(
    ("flags", "cure"),
    [({}, "--views N"), ({"views": 2, "method": "contrastive"}, "--keep_features a,vgg.pooler$"), ({"views": 2}, None)],
)
def test_what_is_in_the_way_of_keeping_answers_is_said(flags: dict[str, Any], cure: str | None) -> None:
    recipe = cifar10.RecipeArguments(**flags)
    looked_at = cifar10.METHODS[recipe.method](4.0, 0.9).teacher_layers("teacher")
    found = cifar10.against_a_cache(recipe, looked_at, {"a"})
    assert found is None if cure is None else re.search(cure, found)


@pytest.mark.parametrize("name", ["rand", "trivial"])
def test_views_by_a_policy_of_kornia_do_not_depend_on_the_batch(name: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
    rows = Dataset.from_dict({"pixel_values": [image.tobytes() for image in pixels]})

    def views() -> Views:
        policy = Augmentation(policy=cifar10.find_policy(name))
        return Views(rows, ImageTransform((3, 32, 32), (0.5,) * 3, (0.5,) * 3, policy), seed=0)

    one_by_one = [views()[row]["pixel_values"] for row in range(6)]
    together = [row["pixel_values"] for row in views().__getitems__(range(6))]
    assert all(torch.equal(one, other) for one, other in zip(one_by_one, together, strict=True))
    assert views().describe() == views().describe()
    later = views()
    later.set_epoch(1)
    assert any(not torch.equal(row["pixel_values"], one) for row, one in zip(later, one_by_one, strict=True))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--keep_features", "vgg.pooler"], "needs a fixed number of views of each image: say how many, --views N"),
        (["--strong_share", "0.5"], "the share of the images that --policy changes: name a policy"),
    ],
)
def test_a_flag_without_the_one_that_it_is_about(
    flags: list[str], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["cifar10.py", "--preset", "quick", "--output_dir", str(tmp_path), *flags])
    with pytest.raises(ValueError, match=message):
        cifar10.main()


def test_evaluation_without_images_for_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png"):
        (tmp_path / "pets" / name).parent.mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "pets" / name)
    words = ["--preset", "quick", "--output_dir", str(tmp_path / "out"), "--dataset", str(tmp_path / "pets")]
    monkeypatch.setattr(sys, "argv", ["cifar10.py", *words])
    with pytest.raises(ValueError, match=r"--eval_strategy epoch needs .*, or --hold_out, or say --eval_strategy no"):
        cifar10.main()


call = partial(recipe_calls.call, "cifar10.py")


@pytest.mark.slow
def test_help_reads_from_the_recipe_down() -> None:
    result = call("--help", COLUMNS="100")
    assert result.returncode == 0, result.stderr
    wanted = [
        "accelerate launch recipes/cifar10.py --preset quick",
        "\n  full ",
        "\n  quick ",
        "this recipe:",
        *("\n  --dataset", "\n  --teacher", "\n  --student", "\n  --method NAME", "\n  --seeds"),
        "distillation:",
        "transformers.TrainingArguments:",
    ]
    places = [result.stdout.index(text) for text in wanted]
    assert places == sorted(places)


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A call that works, with images of two colours; the first model is for other classes."""
    tiny.vgg(labels=3, id2label={0: "a", 1: "b", 2: "c"}, num_pooled_blocks=1).save_pretrained(tmp_path / "model")
    (tmp_path / "data").mkdir()
    random = np.random.default_rng(0)
    for split, rows in (("train", 160), ("test", 50)):
        pixels = random.integers(0, 256, (rows, 8, 8, 3), dtype=np.uint8)
        pixels[::2, :, :, 0] //= 8  # every second image has little red
        pictures = [Image.fromarray(array) for array in pixels]
        features = Features({"img": ImageFeature(), "label": ClassLabel(names=["blue", "red"])})
        made = Dataset.from_dict({"img": pictures, "label": [row % 2 for row in range(rows)]}, features)
        made.to_parquet(str(tmp_path / "data" / f"{split}.parquet"))
    model = str(tmp_path / "model")
    return ["--dataset", str(tmp_path / "data"), "--image_size", "8", "--teacher", model, "--teacher_epochs", "10",
            "--student", f"config:{model}", "--num_train_epochs", "2", "--per_device_train_batch_size", "16",
            "--teacher_learning_rate", "0.05", "--padding", "1", "--use_cpu", "true", "--bf16", "false",
            "--output_dir", str(tmp_path / "out")]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--dataset", "./trian.parquet"], "There is no file or folder ./trian.parquet"),
        (["--label_column", "lable"], "Did you mean 'label'?"),
        (["--image_column", "image"], "Did you mean 'img'?"),
        (["--student", "vgg88"], "did you mean vgg8"),
        (["--temperature", "0"], "temperature must be a finite number > 0, got 0.0"),
        (["--mixup", "-1"], "mixup and cutmix must be finite numbers >= 0"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(words: list[str], changed: list[str], message: str) -> None:
    result = call(*words, *changed)
    assert result.returncode == 2, result.stderr
    assert last_line(result).startswith("error: ")
    assert message in last_line(result)


@pytest.mark.slow
def test_a_teacher_from_other_classes_teaches_a_student(words: list[str], tmp_path: Path) -> None:
    changed = ["--mixup", "0.2", "--cutmix", "1", "--hold_out"]
    result = call(*words, *changed, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(report["teacher"]["per_class"]) == {"blue", "red"}
    assert report["teacher"]["accuracy"] > 0.8
    assert set(report["other_splits"]) == {"validation"}
    again = call(*words, *changed, timeout=300)
    assert again.stderr.count("finished already") == 3, "teacher, student and control"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--method", "standardized"], "The term 'kd' does not suit this task. Standardising logits needs at"),
        (["--method", "hint"], "--student config:{model}: There is no module 'vgg.blocks.2'; did you mean"),
        (
            ["--views", "2", "--keep_features", "vgg.poler"],
            "--teacher {model}: There is no module 'vgg.poler'; did you",
        ),
    ],
)
def test_what_does_not_fit_task_or_models_says_so_before_any_training(
    words: list[str], changed: list[str], message: str, tmp_path: Path
) -> None:
    result = call(*words, *changed, timeout=300)
    assert result.returncode == 2, result.stderr
    assert last_line(result).startswith(f"error: {message.format(model=tmp_path / 'model')}")
    assert not (tmp_path / "out" / "_teacher").exists()


@pytest.mark.slow
def test_the_quick_preset_from_end_to_end(tmp_path: Path) -> None:
    result = call("--preset", "quick", "--output_dir", str(tmp_path), timeout=900)
    assert result.returncode == 0, result.stderr[-3000:]
    report = json.loads((tmp_path / "report.json").read_text())
    for name in ("teacher", "student", "control"):
        assert report[name]["accuracy"] > 0.6, "well above chance, for ten balanced classes"
        assert len(report[name]["per_class"]) == 10
    assert report["split"] == "test"
    assert set(report["other_splits"]) == {"validation"}
    assert report["teacher"]["parameters"] > 5 * report["student"]["parameters"]
    assert report["student"]["parameters"] == report["control"]["parameters"]
    for name in (
        "README.md",
        "objective.json",
        "models.png",
        "confusion.png",
        "reliability.png",
        "training_curves.png",
        "modeling_vgg.py",
    ):
        assert (tmp_path / name).stat().st_size > 0
    rows = Dataset.from_parquet(str(tmp_path / "_made" / "test.parquet"))
    classifier = pipeline("image-classification", model=str(tmp_path))
    answers = [classifier(rows[row]["image"].convert("RGB"))[0]["label"] for row in range(50)]
    truth = rows.features["label"].int2str(rows["label"][:50])
    right = np.mean([answer == label for answer, label in zip(answers, truth, strict=True)])
    assert right > 0.6, "the saved processor makes of a picture what the model was trained on"
    folders = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert all(name.startswith("_") for name in folders), "what is not the student is not published"


@pytest.mark.slow
def test_methods_of_the_logits_and_of_variances_learn_the_digits(tmp_path: Path) -> None:
    for method in ("nkd", "wttm", "multi_level", "variational"):
        folder = tmp_path / method
        flags = ["--preset", "quick", "--seeds", "0", "--method", method, "--shared_dir", str(tmp_path / "shared")]
        result = call(*flags, "--output_dir", str(folder), timeout=900)
        assert result.returncode == 0, result.stderr[-3000:]
        assert json.loads((folder / "report.json").read_text())["student"]["accuracy"] > 0.9, method


@pytest.mark.slow
def test_images_without_any_to_compare_on_are_refused_at_once(words: list[str], tmp_path: Path) -> None:
    result = call(*words, "--dataset", str(tmp_path / "data" / "train.parquet"))
    assert result.returncode == 2, result.stderr
    assert "No labelled images are for validation or test" in last_line(result)
    assert not (tmp_path / "out" / "_teacher").exists()
