"""The digits are those of scikit-learn, split once and for all."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from hf_distill.recipe import as_image_classification, load_images

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))
import handwritten_digits


def test_every_digit_is_in_one_split_with_its_label(tmp_path: Path) -> None:
    splits = load_images(handwritten_digits.make(tmp_path / "made"))
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 1000, "validation": 200, "test": 597}
    data = as_image_classification(splits, size=8, channels=1)
    pixels = np.concatenate(
        [np.frombuffer(b"".join(rows["pixel_values"][:]), np.uint8).reshape(-1, 8, 8) for rows in data.splits.values()]
    )
    digits = load_digits()
    assert np.array_equal(np.round(pixels / 255 * 16), digits.images)
    labels = [label for rows in data.splits.values() for label in rows["labels"][:]]
    assert labels == digits.target.tolist()
    assert data.classes[:3] == ("zero", "one", "two")


def test_what_another_run_may_be_reading_is_not_written_again(tmp_path: Path) -> None:
    handwritten_digits.make(tmp_path)
    before = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    handwritten_digits.make(tmp_path)
    assert {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before
    assert len(before) == 3
