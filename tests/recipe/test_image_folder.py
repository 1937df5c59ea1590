"""Folders of image files: which folder is a split, which a class, and what is said of the files that are neither."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import DatasetDict
from PIL import Image

from hf_distill.recipe import as_image_classification, load_images


def write(folder: Path, *names: str) -> Path:
    """A file for each name; images are all of one colour, another for each file."""
    for number, name in enumerate(names):
        (file := folder / name).parent.mkdir(parents=True, exist_ok=True)
        if file.suffix in (".csv", ".txt", ".heic"):
            file.write_text("file_name,label\n")
        else:
            Image.new("RGB", (2, 2), (number, 0, 0)).save(file)
    return folder


def labels(splits: DatasetDict) -> dict[str, list[str]]:
    return {split: [rows.features["label"].int2str(label) for label in rows["label"]] for split, rows in splits.items()}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("cat/1.png", "dog/1.png"), {"train": ["cat", "dog"]}),
        (("train/cat/1.png", "train/dog/1.PNG"), {"train": ["cat", "dog"]}),
        (("Training/a/1.png", "Testing/a/1.png"), {"train": ["a"], "test": ["a"]}),
        (("Train/a/1.png", "Valid/b/1.png"), {"train": ["a"], "validation": ["b"]}),
        (("train-1/a/1.png", "train_2/b/1.png", "val2017/a/1.png"), {"train": ["a", "b"], "validation": ["a"]}),
        (("test_tube/1.png", "train_set/1.png", "dev/1.png"), {"train": ["dev", "test_tube", "train_set"]}),
        (("test/1.png", "train/1.png", "car/1.png"), {"train": ["car", "test", "train"]}),  # classes, as of CIFAR-100
        (("train/test/1.png", "train/dev/1.png", "test/dev/1.png"), {"train": ["dev", "test"], "test": ["dev"]}),
        (("cat/train_1.png", "cat/2.png", "dog/val.avif"), {"train": ["cat", "cat", "dog"]}),
        (("cat/1.png", "dog/1.png", ".git/1.png", "dog/.1.png"), {"train": ["cat", "dog"]}),
    ],
)
def test_splits_and_classes(tmp_path: Path, names: tuple[str, ...], expected: dict[str, list[str]]) -> None:
    assert labels(load_images(str(write(tmp_path / "test", *names)))) == expected


def test_the_name_of_the_folder_is_no_pattern_and_a_class_may_be_a_link(tmp_path: Path) -> None:
    write(tmp_path / "else", "1.png", "2.png")
    pets = write(tmp_path / "pets [cats, dogs]*", "cat/1.png")
    (pets / "dog").symlink_to(tmp_path / "else", target_is_directory=True)
    (pets / "latest").symlink_to(pets, target_is_directory=True)  # which would have no end
    (pets / "cat" / "parent").symlink_to(tmp_path, target_is_directory=True)
    data = as_image_classification(load_images(str(pets)), size=2)
    assert data.classes == ("cat", "dog")
    assert data.splits["train"]["labels"][:] == [0, 1, 1]
    assert data.splits["train"]["pixel_values"][:] == [bytes(12), bytes(12), bytes([1] * 4 + [0] * 8)]


def test_a_file_that_changed_is_read_anew(tmp_path: Path) -> None:
    folder = write(tmp_path, "cat/1.png", "dog/1.png")
    first = as_image_classification(load_images(str(folder)), size=2)
    Image.new("RGB", (2, 2), (9, 9, 9)).save(folder / "dog" / "1.png")
    second = as_image_classification(load_images(str(folder)), size=2)
    assert first.splits["train"]["pixel_values"][1] != second.splits["train"]["pixel_values"][1] == bytes([9] * 12)


def test_files_that_are_left_out_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_images(str(write(tmp_path, "train/a/1.png", "train/b/2.png")))
    assert not caplog.records
    left = ("train/a/2.heic", "train/a/more/1.png", "train/3.png", "train/metadata.csv", "other/c/1.png", "test/1.png")
    splits = load_images(str(write(tmp_path, *left)))
    assert labels(splits) == {"train": ["a", "b"]}
    assert f"6 files are left out: {', '.join(sorted(left))}. Images end in .avif, .bmp" in caplog.text


def test_a_link_that_leads_nowhere_is_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    folder = write(tmp_path, "cat/1.png", "dog/1.png")
    (folder / "dog" / "2.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(ValueError, match=r"Row 2 of train \(.*2\.png\) has an image that cannot be used"):
        as_image_classification(load_images(str(folder)), size=2)


@pytest.mark.parametrize("names", [("1.png", "2.png"), ("test/1.png", "train/1.png"), ("a/x/1.png", "b/x/1.png")])
def test_images_without_a_folder_for_each_class(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=rf"has images \({', '.join(names)}\), but no folder of images for each class"):
        load_images(str(write(tmp_path, *names)))


def test_splits_without_one_for_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no training split, only test, validation"):
        load_images(str(write(tmp_path, "val/a/1.png", "test/a/1.png")))


def test_one_class_alone(tmp_path: Path) -> None:
    splits = load_images(str(write(tmp_path, "cat/1.png", "cat/2.png")))
    with pytest.raises(ValueError, match="train split has one class only: 2 rows of 'cat'"):
        as_image_classification(splits, size=2)


@pytest.mark.parametrize("more", [(), ("docs/figure.png",)])
def test_pictures_beside_files_of_data_are_no_classes(tmp_path: Path, more: tuple[str, ...]) -> None:
    write(tmp_path, "assets/logo.png", "banner.png", "train.csv", *more)
    (tmp_path / "train.csv").write_text("image,label\nx,1\n")
    assert load_images(str(tmp_path))["train"].column_names == ["image", "label"]
