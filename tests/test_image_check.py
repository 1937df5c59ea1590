"""A student that cannot read the images is told so before the first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import image_models
import pytest
import tiny
import torch
from datasets import Dataset
from transformers import default_data_collator

from hf_distill import DistillationTrainer

GREY = Dataset.from_dict({"pixel_values": torch.zeros(8, 1, 16, 16).tolist(), "labels": [0, 1] * 4})


def test_a_student_of_coloured_images_cannot_read_grey_ones(tmp_path: Path) -> None:
    student = image_models.model("mobilenet", 16)
    with pytest.raises(ValueError, match=r"The student cannot read images of 16 x 16 .* 1 channel: .*channels 3"):
        DistillationTrainer(student, tiny.arguments(tmp_path), train_dataset=GREY)

    def coloured(rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch = default_data_collator(rows)
        return {**batch, "pixel_values": batch["pixel_values"].repeat(1, 3, 1, 1)}

    DistillationTrainer(student, tiny.arguments(tmp_path), train_dataset=GREY, data_collator=coloured)


def test_looking_leaves_a_student_as_it_was(tmp_path: Path) -> None:
    student = image_models.model("mobilenet", 16, channels=1)
    student.train()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    DistillationTrainer(student, tiny.arguments(tmp_path), train_dataset=GREY)
    assert student.training
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
