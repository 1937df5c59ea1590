"""Images are found, decoded once and checked; what cannot be read is named by its row."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from PIL import Image
from transformers import ViTImageProcessorPil

from hf_distill.augmentation import Augmentation
from hf_distill.recipe.images import (
    ImageData,
    as_image_classification,
    channels_last_collator,
    image_processor,
    load_images,
)

RANDOM = np.random.default_rng(0)


def picture(mode: str = "RGB", size: tuple[int, int] = (32, 32)) -> Image.Image:
    """Noise, as wide and as high as given."""
    image = Image.fromarray(RANDOM.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    return image.convert(mode)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return buffer.getvalue()


def splits(images: list[Any], column: str = "image", feature: Any = None, **more: Any) -> DatasetDict:
    """``train``, with two classes in turn."""
    stored = [{"bytes": png(i), "path": None} if isinstance(i, Image.Image) else i for i in images]
    labels = [row % 2 for row in range(len(images))]
    features = Features(
        {
            column: feature or datasets.Image(),
            "label": ClassLabel(names=["cat", "dog"]),
            **{k: v[0] for k, v in more.items()},
        }
    )
    rows = {column: stored, "label": labels, **{k: v[1] for k, v in more.items()}}
    return DatasetDict(train=Dataset.from_dict(rows, features))


def pixels_of(data: ImageData, row: int, split: str = "train") -> Any:
    return np.frombuffer(data.splits[split][row]["pixel_values"], np.uint8).reshape(data.shape)


def test_what_is_read_is_what_the_saved_processor_reads() -> None:
    """Grey, palette, transparent and larger images too; the processor of transformers is the other implementation."""
    images = [picture(), picture("L"), picture("P"), picture("RGBA"), picture(size=(40, 50)), picture("L", (8, 8))]
    data = as_image_classification(splits(images), size=32)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    rows = data.read(data.splits["train"], mean, std)
    processor = image_processor(32, mean, std)
    assert isinstance(processor, ViTImageProcessorPil)
    for row, image in enumerate(images):
        expected = processor(image.convert("RGB"), return_tensors="pt")["pixel_values"][0]
        torch.testing.assert_close(rows[row]["pixel_values"], expected, atol=1e-5, rtol=1e-5)
    assert rows[:]["labels"].tolist() == [0, 1, 0, 1, 0, 1]
    assert data.classes == ("cat", "dog")


def test_pixels_lie_channel_after_channel() -> None:
    red = Image.new("RGB", (2, 2), (255, 0, 7))
    red.putpixel((1, 0), (9, 0, 0))  # right, above
    data = as_image_classification(splits([red, red]), size=2)
    assert pixels_of(data, 0).tolist() == [[[255, 9], [255, 255]], [[0, 0], [0, 0]], [[7, 0], [7, 7]]]


def test_grey_images_for_a_model_with_one_channel() -> None:
    images = [picture("L"), picture("L")]
    data = as_image_classification(splits(images), size=32, channels=1)
    assert data.shape == (1, 32, 32)
    assert np.array_equal(pixels_of(data, 1)[0], np.asarray(images[1]))
    with pytest.raises(ValueError, match=r"Row 1 of train .*in colour \(mode RGB\), where a grey one is needed"):
        as_image_classification(splits([images[0], picture()]), size=32, channels=1)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"bytes": png(picture())[:300], "path": None}, "truncated"),
        ({"bytes": b"no image", "path": None}, "used: it is no image, or one of an unknown format"),
        ({"bytes": b"", "path": None}, "used: it is no image, or one of an unknown format"),
        ({"bytes": None, "path": "/not/there.png"}, "No such file"),
        (None, "there is none"),
        (Image.fromarray(np.full((4, 4), 1000, dtype=np.uint16)), r"more than 8 bits a channel \(mode I;16\)"),
    ],
)
def test_an_image_that_cannot_be_used_is_named_or_skipped(
    broken: Any, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    images = [picture(), picture(), broken, picture()]
    place = r"Row 2 of train \(/not/there.png\)" if message == "No such file" else "Row 2 of train"
    with pytest.raises(ValueError, match=rf"{place} has an image that cannot be .*{message}.*--skip_corrupt"):
        as_image_classification(splits(images), size=32)
    data = as_image_classification(splits(images), size=32, skip_corrupt=True)
    assert data.splits["train"]["labels"][:] == [0, 1, 1]
    assert np.array_equal(pixels_of(data, 2), np.asarray(images[3]).transpose(2, 0, 1))
    assert re.search(f"{place} is left out", caplog.text)
    assert "1 of 4 images of train cannot be read" in caplog.text


def test_a_split_of_which_nothing_can_be_read() -> None:
    with pytest.raises(ValueError, match="No image of train can be read"):
        as_image_classification(splits([None, None]), size=32, skip_corrupt=True)


def test_a_row_is_named_as_it_stands_in_the_file_also_where_some_are_held_out() -> None:
    images: list[Any] = [picture() for _ in range(20)]
    whole = as_image_classification(splits(images), size=32, hold_out=True)
    assert {split: len(rows) for split, rows in whole.splits.items()} == {"train": 18, "validation": 2}
    images[7] = {"bytes": b"no image", "path": None}
    with pytest.raises(ValueError, match="Row 7 of train has"):
        as_image_classification(splits(images), size=32, hold_out=True)


def test_labels_are_checked_as_those_of_texts_are() -> None:
    given = splits([picture(), picture()])
    same = given["train"].remove_columns("label").add_column("label", [1, 1])
    with pytest.raises(ValueError, match="train split has one class only"):
        as_image_classification(DatasetDict(train=same), size=32)
    with pytest.raises(KeyError, match="Did you mean 'label'"):
        as_image_classification(given, size=32, label="lable")
    with pytest.raises(ValueError, match=r"Column 'image' holds no labels but Image\("):
        as_image_classification(given, size=32, label="image")
    unlabelled = given["train"].remove_columns("label")
    data = as_image_classification(DatasetDict(train=given["train"], test=unlabelled), size=32)
    assert data.splits["test"]["labels"][:] == [-100, -100]
    assert data.evaluation() == {}


# ---- Columns ----


@pytest.mark.parametrize("column", ["image", "img", "labels"])
def test_the_only_column_of_images_is_found(column: str) -> None:
    given = splits([picture(), picture()], column)
    data = as_image_classification(given, size=32, label="label")
    assert data.splits["train"].column_names == ["pixel_values", "labels"]
    assert data.splits["train"]["labels"][:] == [0, 1]


@pytest.mark.parametrize(
    "feature", [{"bytes": Value("binary"), "path": Value("string")}, Value("binary"), Value("large_binary")]
)
def test_images_in_a_file_that_the_library_did_not_write(feature: Any) -> None:
    image = picture()
    stored = {"bytes": png(image), "path": None} if isinstance(feature, dict) else png(image)
    data = as_image_classification(splits([stored, stored], "data", feature), size=32)
    assert np.array_equal(pixels_of(data, 0), np.asarray(image).transpose(2, 0, 1))


def test_an_image_column_that_is_called_as_ours_is() -> None:
    images = [picture(), picture()]
    data = as_image_classification(splits(images, "pixel_values"), size=32)
    assert np.array_equal(pixels_of(data, 0), np.asarray(images[0]).transpose(2, 0, 1))


def test_which_of_several_columns() -> None:
    mask = (datasets.Image(), [{"bytes": png(picture("L")), "path": None}] * 2)
    given = splits([picture(), picture()], mask=mask, text=(Value("string"), ["a", "b"]))
    with pytest.raises(KeyError, match=r"Which column holds the images\?.*--image_column NAME"):
        as_image_classification(given, size=32)
    as_image_classification(given, size=32, image="image")
    with pytest.raises(KeyError, match=r"Column 'text' holds no images .* images are in \['image', 'mask'\]"):
        as_image_classification(given, size=32, image="text")
    with pytest.raises(KeyError, match="Did you mean 'image'"):
        as_image_classification(given, size=32, image="imag")


# ---- Where they come from ----


def test_a_parquet_file(tmp_path: Path) -> None:
    images = [picture() for _ in range(4)]
    splits(images)["train"].to_parquet(str(tmp_path / "train.parquet"))
    data = as_image_classification(load_images(str(tmp_path)), size=32)
    assert np.array_equal(pixels_of(data, 3), np.asarray(images[3]).transpose(2, 0, 1))
    (tmp_path / "nothing").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no data"):
        load_images(str(tmp_path / "nothing"))


# ---- Batches ----


def test_statistics_of_the_channels() -> None:
    data = as_image_classification(splits([picture() for _ in range(3)]), size=32)
    pixels = np.stack([pixels_of(data, row) for row in range(3)]) / 255
    mean, std = data.channel_statistics()
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 2, 3)), atol=1e-4)
    np.testing.assert_allclose(std, pixels.std(axis=(0, 2, 3)), atol=1e-4)


@pytest.mark.parametrize("level", [0, 19, 127])  # at 19 the variance of 50 pixels is less than 0 by rounding
def test_a_channel_of_one_level_has_a_small_deviation(level: int) -> None:
    grey = DatasetDict(train=Dataset.from_dict({"pixel_values": [bytes([level]) * 25] * 2, "labels": [0, 1]}))
    _, std = ImageData(grey, ("a", "b"), (1, 5, 5)).channel_statistics()
    assert std == (0.001,)


def test_views_are_augmented_and_what_is_read_is_not() -> None:
    data = as_image_classification(splits([picture(), picture()]), size=32)
    given = data.splits["train"], (0.5,) * 3, (0.5,) * 3
    plain, views = data.read(*given)[:]["pixel_values"], data.views(*given, Augmentation(), count=2)
    shown = []
    for epoch in range(3):
        views.set_epoch(epoch)
        shown.append(torch.stack([row["pixel_values"] for row in views]))
    assert not torch.equal(shown[0], plain)
    assert not torch.equal(shown[0], shown[1])
    assert torch.equal(shown[0], shown[2])


def test_batches_are_in_channels_last_order() -> None:
    data = as_image_classification(splits([picture(), picture()]), size=32)
    rows = data.read(data.splits["train"], (0.5,) * 3, (0.5,) * 3)
    batch = channels_last_collator([rows[0], rows[1]])
    assert torch.equal(batch["pixel_values"], rows[:]["pixel_values"])
    assert batch["pixel_values"].is_contiguous(memory_format=torch.channels_last)
    assert batch["labels"].tolist() == [0, 1]
