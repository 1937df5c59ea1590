"""Texts and images in, labels out: as the pipelines of transformers answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import exported
import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from transformers import RobertaConfig, ViTImageProcessorPil, pipeline

from hf_distill.predictor import Predictor

TEXTS = ["w5 w6 w7", "w8", "w9 w10 w11 w12 w13 w14", "unknown", "w20 w21"]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    exported.model().save_pretrained(folder)
    exported.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    tiny.vgg().save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(folder)
    rng = np.random.default_rng(0)
    for index, mode in enumerate(("RGB", "L", "RGBA")):
        shape = (9 + index, 7, len(mode)) if len(mode) > 1 else (9 + index, 7)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8), mode).save(folder / f"{index}.png")
    return folder


def as_pairs(answers: list[Any]) -> list[tuple[str, float]]:
    return [
        (answer["label"], answer["score"]) if isinstance(answer, dict) else (answer.label, answer.score)
        for answer in answers
    ]


def same(found: list[Any], expected: list[Any]) -> None:
    assert [label for label, _ in as_pairs(found)] == [label for label, _ in as_pairs(expected)]
    np.testing.assert_allclose(
        [score for _, score in as_pairs(found)], [score for _, score in as_pairs(expected)], atol=1e-5
    )


@pytest.mark.parametrize("batch_size", [1, 2, 32])
@pytest.mark.parametrize("onnx", [False, True])
def test_texts_are_answered_as_by_a_pipeline_in_their_order(texts: Path, onnx: bool, batch_size: int) -> None:
    predictor = Predictor.load(texts, exported.bert().path if onnx else None)
    answers = predictor(TEXTS, batch_size)
    same(answers, pipeline("text-classification", model=str(texts), device="cpu")(TEXTS))
    assert len(set(as_pairs(answers))) > 1


def test_pairs_are_two_segments(texts: Path) -> None:
    pairs = [("w5 w6", "w7 w8 w9"), ("w30", "w31")]
    expected = pipeline("text-classification", model=str(texts), device="cpu")(
        [{"text": first, "text_pair": second} for first, second in pairs]
    )
    same(Predictor.load(texts)(pairs), expected)


def test_long_texts_are_cut_to_what_the_model_takes(texts: Path) -> None:
    """The model has 16 positions."""
    words = [f"w{2 + index % 30}" for index in range(40)]
    predictor = Predictor.load(texts)
    assert predictor.max_length == 16
    same(predictor([" ".join(words)]), predictor([" ".join(words[:16])]))


def test_a_file_in_onnx_has_the_positions_of_its_model(tmp_path: Path) -> None:
    """Of 18 positions RoBERTa uses 16."""
    exported.tokenizer().save_pretrained(tmp_path)
    RobertaConfig(max_position_embeddings=18, num_hidden_layers=1).save_pretrained(tmp_path)
    assert Predictor.load(tmp_path, exported.bert().path).max_length == 16


def test_images_are_answered_as_by_a_pipeline(images: Path) -> None:
    paths = [str(path) for path in sorted(images.glob("*.png"))]
    classify = pipeline("image-classification", model=str(images), device="cpu", top_k=1)
    predictor = Predictor.load(images)
    found = predictor(paths, 2)
    # RGB and grey only: the pipeline leaves the alpha channel to the processor
    same(found[:2], [classify(path)[0] for path in paths[:2]])
    same(predictor([Path(path).read_bytes() for path in paths]), found)
    same(predictor([Image.open(path) for path in paths]), found)


def test_an_image_that_cannot_be_read_is_named(images: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_text("no image")
    with pytest.raises(ValueError, match=r"broken\.png cannot be read as an image"):
        Predictor.load(images)([str(tmp_path / "broken.png")])
    with pytest.raises(ValueError, match="more than 8 bits a channel"):  # as in training; it would be cut off at 255
        Predictor.load(images)([Image.fromarray(np.full((8, 8), 1000, dtype=np.uint16))])


def test_made_up_inputs_can_be_run(texts: Path, images: Path) -> None:
    for folder in (texts, images):
        predictor = Predictor.load(folder)
        made_up = predictor.made_up(5)
        assert len(predictor(made_up)) == 5
        assert len({str(predictor.collate([row])) for row in predictor.rows(made_up)}) == 5


def test_nothing_in_nothing_out(texts: Path) -> None:
    assert Predictor.load(texts)([]) == []


def test_what_is_missing_is_said(texts: Path, images: Path, tmp_path: Path) -> None:
    exported.model().save_pretrained(tmp_path / "text")
    with pytest.raises(FileNotFoundError, match=r"has no tokenizer .*tokenizer\.save_pretrained"):
        Predictor.load(tmp_path / "text")
    tiny.vgg().save_pretrained(tmp_path / "image")
    with pytest.raises(FileNotFoundError, match=r"has no image processor \(preprocessor_config"):
        Predictor.load(tmp_path / "image")
    (tmp_path / "image" / "preprocessor_config.json").write_text("{half")
    with pytest.raises(OSError, match=r"preprocessor_config\.json' is not a valid JSON file"):
        Predictor.load(tmp_path / "image")
    model = exported.model()
    model.config.problem_type = "multi_label_classification"
    with pytest.raises(ValueError, match="this model is for multi_label_classification"):
        Predictor(model, exported.tokenizer())
    assert torch.is_tensor(Predictor.load(texts).collate([{"input": "w5"}])["input_ids"])
