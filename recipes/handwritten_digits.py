"""Handwritten digits as image files in Parquet: what ``cifar10.py --preset quick`` works on, without any network.

    python recipes/handwritten_digits.py FOLDER        # writes train, validation and test there

The 1,797 digits of scikit-learn, 8x8 pixels in 17 shades of grey, drawn by 43 people (Alpaydin and Kaynak 1998). The
first 1,000 are for training, the next 200 for validation and the last 597 for test, in the order of the data set: the
test digits are by other hands than the training digits.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as Picture
from sklearn.datasets import load_digits

CLASSES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SPLITS = {"train": slice(0, 1000), "validation": slice(1000, 1200), "test": slice(1200, 1797)}


def make(folder: Path) -> str:
    """Write the splits into a folder, which is made; return it. What is there already stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    pixels = (digits.images * 255 / 16).round().astype(np.uint8)
    features = Features({"image": Image(), "label": ClassLabel(names=CLASSES)})
    for split, rows in SPLITS.items():
        file = folder / f"{split}.parquet"
        if file.is_file():
            continue
        pictures = [Picture.fromarray(array) for array in pixels[rows]]
        made = Dataset.from_dict({"image": pictures, "label": digits.target[rows].tolist()}, features)
        unfinished = folder / f"{split}.{os.getpid()}"
        made.to_parquet(str(unfinished))
        unfinished.replace(file)
    return str(folder)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
