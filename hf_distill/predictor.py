"""Texts or images in, labels out: with a PyTorch model or with an ONNX file, by the same code."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerBase

from hf_distill.evaluation import predict
from hf_distill.image_processors import find_image_processor
from hf_distill.labels import MULTI_LABEL, REGRESSION
from hf_distill.onnx_classifier import OnnxClassifier
from hf_distill.pictures import upright
from hf_distill.tasks.names import Tasks
from hf_distill.teachers.model import find_tokenizer, load_classifier, positions, reads_images
from hf_distill.timm_models import image_channels, makes_images_of_timm

INPUT = "input"
"""The column of a row that holds its text, pair of texts or image."""


@dataclass(frozen=True)
class Answer:
    """What a classifier says about one input.

    Args:
        label: The name of the most probable class.
        score: Its probability.
    """

    label: str
    score: float


class Predictor:
    """A classifier with what prepares its inputs.

    Args:
        model: A text or image classifier, in PyTorch or an :class:`~hf_distill.onnx_classifier.OnnxClassifier`.
        processing_class: Its tokenizer or image processor.
        max_length: Longest text in tokens; longer ones are cut. Not used for images.
        channels: Of the images: 3 for colour, 1 for grey.

    Attributes:
        classes: The names of the classes, in the order of the logits.

    Raises:
        ValueError: the model does not choose one class of several, or does so for several tasks.

    Example:
        >>> predictor = Predictor.load("out/sst2")                         # doctest: +SKIP
        >>> predictor(["A fine film.", "Two hours of my life."])           # doctest: +SKIP
        [Answer(label='positive', score=0.998), Answer(label='negative', score=0.934)]
    """

    def __init__(self, model: nn.Module, processing_class: Any, max_length: int = 512, channels: int = 3) -> None:
        config: Any = model.config
        if config.num_labels < 2 or config.problem_type in (REGRESSION, MULTI_LABEL):
            raise ValueError(
                f"Only classifiers that choose one class of several can answer here; this model is for "
                f"{config.problem_type or 'a single number'}."
            )
        Tasks.refuse(config)
        self.model, self.processing_class = model, processing_class
        self.classes = [str(config.id2label[index]) for index in range(config.num_labels)]
        self.max_length, self.channels = max_length, channels
        self.reads_text = isinstance(processing_class, PreTrainedTokenizerBase)

    @classmethod
    def load(
        cls, folder: str | Path, onnx: str | Path | None = None, device: torch.device | str | None = None
    ) -> Predictor:
        """A predictor from the folder of a trained model.

        Args:
            folder: With the model and its tokenizer or image processor; or a name on the Hub.
            onnx: An ONNX file to answer with, in place of the PyTorch weights.
            device: Where the PyTorch model runs; default the CPU.

        Raises:
            FileNotFoundError: there is no such model, or neither tokenizer nor image processor beside it.
            ValueError: the model has no fine-tuned head.
        """
        model = load_classifier(str(folder)).to(device or "cpu") if onnx is None else OnnxClassifier(onnx)
        config = AutoConfig.from_pretrained(folder) if onnx is not None else model.config
        prepares = _processing_class(str(folder), is_image=hasattr(config, "num_channels") or reads_images(config))
        longest = 512
        if isinstance(prepares, PreTrainedTokenizerBase):
            with torch.device("meta"):  # a file in ONNX does not say how many positions it has
                read = model if onnx is None else AutoModelForSequenceClassification.from_config(config)
            longest = min(prepares.model_max_length, positions(read))
        return cls(model, prepares, longest, image_channels(config))

    def __call__(self, inputs: Sequence[Any], batch_size: int = 32) -> list[Answer]:
        """An answer for each input, in their order.

        Args:
            inputs: Texts, or pairs of texts as tuples; or images as paths, opened, or the bytes of a file.
            batch_size: Inputs a batch.

        Raises:
            ValueError: an image cannot be read; the message names it.
        """
        if not inputs:
            return []
        order = sorted(range(len(inputs)), key=lambda index: -_length(inputs[index]))
        rows = self.rows([inputs[index] for index in order])
        probabilities = predict(self.model, rows, self.collate, batch_size).probabilities
        best = probabilities.argmax(axis=1)
        answers: list[Any] = [None] * len(inputs)
        for place, index in enumerate(order):
            answers[index] = Answer(self.classes[best[place]], float(probabilities[place, best[place]]))
        return answers

    def rows(self, inputs: Sequence[Any], labels: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Rows for :func:`~hf_distill.evaluation.predict` and its like, with :meth:`collate` as data collator."""
        if labels is None:
            return [{INPUT: value} for value in inputs]
        return [{INPUT: value, "labels": label} for value, label in zip(inputs, labels, strict=True)]

    def made_up(self, count: int) -> list[Any]:
        """Random texts of 1 to 64 words from the vocabulary, or images of noise: something to run, of no meaning."""
        rng = np.random.default_rng(0)
        if not self.reads_text:
            shape = (64, 64) if self.channels == 1 else (64, 64, 3)
            return [Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)) for _ in range(count)]
        special = set(self.processing_class.all_special_ids)
        words = [index for index in range(len(self.processing_class)) if index not in special]
        lengths = rng.integers(1, min(65, self.max_length), count)
        return [self.processing_class.decode(rng.choice(words, length).tolist()) for length in lengths]

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The batch that the model reads."""
        inputs = [row[INPUT] for row in rows]
        if not self.reads_text:
            images = [_picture(value, self.channels) for value in inputs]
            if makes_images_of_timm(self.processing_class):
                pictures = [Image.fromarray(image.squeeze(2) if self.channels == 1 else image) for image in images]
                return dict(self.processing_class(pictures, return_tensors="pt"))
            return dict(self.processing_class(images, return_tensors="pt", input_data_format="channels_last"))
        pairs = isinstance(inputs[0], (tuple, list))
        texts = zip(*inputs, strict=True) if pairs else [inputs]
        columns = [list(column) for column in texts]
        return dict(
            self.processing_class(
                *columns, truncation=True, max_length=self.max_length, padding=True, return_tensors="pt"
            )
        )


def _processing_class(folder: str, is_image: bool) -> Any:
    found = find_image_processor(folder) if is_image else find_tokenizer(folder)
    if found is None:
        kind, example = ("image processor", "preprocessor_config.json") if is_image else ("tokenizer", "tokenizer.json")
        raise FileNotFoundError(
            f"{folder} has no {kind} ({example}). Save the one that the model was trained with there: "
            f"{kind.replace(' ', '_')}.save_pretrained({folder!r})."
        )
    return found


def _length(value: Any) -> int:
    """Something that grows with the number of tokens; the same for all images."""
    if isinstance(value, (tuple, list)):
        return sum(map(len, value))
    return len(value) if isinstance(value, str) else 0


def _picture(value: Any, channels: int) -> Any:
    """An image as ``(H, W, C)`` bytes, upright."""
    opened = value
    try:
        if not isinstance(value, Image.Image):
            opened = Image.open(io.BytesIO(value) if isinstance(value, bytes) else value)
        image = upright(opened).convert("L" if channels == 1 else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        name = f"{len(value)} bytes" if isinstance(value, bytes) else value
        raise ValueError(f"{name} cannot be read as an image ({error}). Remove or mend it.") from error
    finally:
        if opened is not value:
            opened.close()
    return np.asarray(image, dtype=np.uint8).reshape(image.height, image.width, channels)
