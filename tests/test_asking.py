"""Scoring the teachers before a training. What they read and answer is tested with each kind of teacher."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from datasets import Dataset

from hf_distill import ColumnTeacher, DistillationTrainer


def solvable(rows: int = 96) -> Any:
    """A task that one token decides, and a teacher that has learnt it."""
    data = tiny.dataset(rows=rows).map(
        lambda row, i: {"labels": i % 3, "input_ids": [5 + i % 3] * 8}, with_indices=True
    )
    teacher = tiny.bert(seed=1)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=0.01)
    inputs = data.with_format("torch")[:]
    for _ in range(30):
        teacher(**inputs).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return data, teacher


def test_a_teacher_near_chance_is_refused_and_a_good_one_is_not(tmp_path: Path) -> None:
    data, teacher = solvable()
    args = tiny.arguments(tmp_path, max_steps=1, teacher_score_examples=64)
    good = DistillationTrainer(tiny.bert(), args, train_dataset=data, teacher_model=teacher)
    assert good.score_teachers() == {"teacher": 1.0}
    good.train()
    bad = DistillationTrainer(tiny.bert(), args, train_dataset=data, teacher_model=tiny.bert(seed=7))
    with pytest.raises(ValueError, match=r"nothing to teach.*Fine-tune it on this task first"):
        bad.train()
    swapped = data.map(lambda row: {"labels": (row["labels"] + 1) % 3})
    with pytest.raises(ValueError, match="renamed"):
        DistillationTrainer(tiny.bert(), args, train_dataset=swapped, teacher_model=teacher).train()


def test_a_teacher_that_answers_nan_is_refused(tmp_path: Path) -> None:
    teacher = tiny.bert(seed=1)
    teacher.classifier.bias.data[0] = float("nan")
    args = tiny.arguments(tmp_path, max_steps=1, teacher_score_examples=64)
    with pytest.raises(ValueError, match="answers NaN"):
        DistillationTrainer(tiny.bert(), args, train_dataset=tiny.dataset(), teacher_model=teacher).train()


def test_scoring_does_not_touch_the_random_numbers(tmp_path: Path) -> None:
    data, teacher = solvable()

    def jitter(batch: dict[str, list[Any]]) -> dict[str, Any]:
        random.random(), np.random.rand(), torch.rand(1)
        return {name: torch.tensor(values) for name, values in batch.items()}

    data.set_transform(jitter)
    args = tiny.arguments(tmp_path, teacher_score_examples=64)
    trainer = DistillationTrainer(tiny.bert(), args, train_dataset=data, teacher_model=teacher)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    trainer.score_teachers()
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_sorted_examples_are_scored_from_the_first_to_the_last(tmp_path: Path) -> None:
    """A teacher that is right about the first class and wrong about the second is as good as chance."""
    rows = Dataset.from_dict({"input_ids": [[5]] * 127, "labels": [0] * 64 + [1] * 63, "soft": [[1.0, 0.0]] * 127})
    args = tiny.arguments(tmp_path, teacher_score_examples=64)
    trainer = DistillationTrainer(tiny.bert(labels=2), args, train_dataset=rows, teacher_model=ColumnTeacher("soft"))
    with pytest.raises(ValueError, match="nothing to teach"):
        trainer.score_teachers()
