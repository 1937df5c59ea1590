"""Checkpoints whose weights have other names than in the model come back whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from datasets import Dataset
from safetensors import safe_open
from transformers import PreTrainedModel

from hf_distill import DistillationTrainer


def trainer(folder: Path, **settings: Any) -> DistillationTrainer:
    """A ViT, which is saved under the names of earlier versions of transformers."""
    images = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    rows = Dataset.from_dict({"pixel_values": images.tolist(), "labels": [row % 3 for row in range(16)]})
    rows = rows.with_format("torch")
    args = tiny.arguments(folder, max_steps=4, save_steps=2, save_strategy="steps", learning_rate=1e-2, **settings)
    return DistillationTrainer(tiny.vit(), args, train_dataset=rows, eval_dataset=rows)


def weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_a_training_goes_on_with_the_weights_it_had(tmp_path: Path) -> None:
    whole = trainer(tmp_path)
    whole.train()
    with safe_open(tmp_path / "checkpoint-2" / "model.safetensors", "pt") as saved:
        if set(saved.keys()) == whole.model.state_dict().keys():
            pytest.skip("this version of transformers has one name for each weight")
    resumed = trainer(tmp_path)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    for name, value in weights(whole.model).items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_the_best_student_comes_back_with_the_weights_it_had(tmp_path: Path) -> None:
    best = {"eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True}
    chosen = trainer(tmp_path, metric_for_best_model="loss", greater_is_better=True, **best)
    chosen.train()
    saved = type(chosen.model).from_pretrained(chosen.state.best_model_checkpoint)
    assert chosen.state.best_model_checkpoint.endswith("checkpoint-2")
    for name, value in weights(saved).items():
        assert torch.equal(chosen.model.state_dict()[name], value), name
