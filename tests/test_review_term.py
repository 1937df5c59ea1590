"""The term of an objective that mixes layers. The mixture has its values checked in test_fusion.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor
from transformers import TrainerCallback

from hf_distill import (
    DistillationTrainer,
    LabelTerm,
    ModelView,
    Objective,
    Pair,
    ReviewTerm,
    StepView,
    linear,
)
from hf_distill.losses import ReviewLoss

PAIRS = [Pair("vgg.blocks.0", "vgg.blocks.0"), Pair("vgg.blocks.1", "vgg.blocks.1"), Pair("vgg.pooler", "vgg.pooler")]


def step(student: dict[str, Tensor], teacher: dict[str, Tensor]) -> StepView:
    return StepView(ModelView(torch.zeros(2, 3), student), {"teacher": ModelView(torch.zeros(2, 3), teacher)})


def test_it_is_the_mean_over_pairs_of_the_mixed_maps() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = {"a": (4, 4), "b": (2, 2)}
    student = {path: torch.randn(2, 3, *size, generator=generator).double() for path, size in sizes.items()}
    teacher = {path: torch.randn(2, 5, *size, generator=generator).double() for path, size in sizes.items()}
    term = ReviewTerm(Pair("a", "a"), Pair("b", "b"))
    value = term.compute(step(student, teacher))
    [fusion] = term.adapters
    mixed = fusion([student["a"], student["b"]])
    expected = (ReviewLoss()(mixed[0], teacher["a"]) + ReviewLoss()(mixed[1], teacher["b"])) / 2
    assert value.dtype == torch.float64
    torch.testing.assert_close(value, expected)


class Stop(TrainerCallback):
    """Ends a training the hard way, as a kill would."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 5:
            raise KeyboardInterrupt


def reviewed(folder: Path, callbacks: list[TrainerCallback], **changes: Any) -> DistillationTrainer:
    """Two VGGs of unequal width; 17 images, so that the last batch is one image alone."""
    return DistillationTrainer(
        tiny.vgg(),
        tiny.arguments(folder, **{"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 4,
                                  "train_sampling_strategy": "random", "learning_rate": 1e-2, **changes}),
        train_dataset=tiny.dataset("vgg", rows=17), teacher_model=tiny.vgg(seed=1, hidden_sizes=[6, 10]),
        objective=Objective(ce=LabelTerm(), review=ReviewTerm(*PAIRS, weight=linear(0.0, 1.0))), callbacks=callbacks,
    )  # fmt: skip


def weights(trainer: DistillationTrainer) -> dict[str, Tensor]:
    everything = {**trainer.model.state_dict(), **trainer.distillation_objective.trained.state_dict()}
    return {name: value.clone() for name, value in everything.items()}


def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole = reviewed(tmp_path / "whole", [])
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        reviewed(tmp_path / "killed", [Stop()]).train()
    resumed = reviewed(tmp_path / "killed", [])
    resumed.train(resume_from_checkpoint=True)
    assert "review_term.adapters.0.levels.0.attention.weight" in weights(whole)
    assert weights(whole).keys() == weights(resumed).keys()
    assert [name for name, value in weights(whole).items() if not torch.equal(value, weights(resumed)[name])] == []


def test_it_is_learned_from(tmp_path: Path) -> None:
    trainer = DistillationTrainer(
        tiny.vgg(), tiny.arguments(tmp_path, max_steps=30, learning_rate=3e-3, per_device_train_batch_size=36),
        train_dataset=tiny.dataset("vgg"), teacher_model=tiny.vgg(seed=1, hidden_sizes=[6, 10]),
        objective=Objective(review=ReviewTerm(*PAIRS)),
    )  # fmt: skip
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    values = [entry["review"] for entry in trainer.state.log_history if "review" in entry]
    assert values[-1] < 0.9 * values[0]
    moved = {name for name, value in trainer.model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.split(".")[2] for name in moved} == {"0", "1"}, "both blocks, and not the head"


def test_pairs_from_deep_to_shallow_are_refused_by_name(tmp_path: Path) -> None:
    trainer = DistillationTrainer(
        tiny.vgg(), tiny.arguments(tmp_path), train_dataset=tiny.dataset("vgg"), teacher_model=tiny.vgg(seed=1),
        objective=Objective(review=ReviewTerm(*reversed(PAIRS))),
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"vgg.pooler <- vgg.pooler, .*: A deeper map .* from the shallowest"):
        trainer.train()


def test_it_may_train_before_it_has_seen_a_batch() -> None:
    assert ReviewTerm(*PAIRS).may_train


def test_wrong_arguments_are_refused() -> None:
    for wrong in ((), ("vgg.pooler",)):
        with pytest.raises(ValueError, match=r"ReviewTerm needs pairs of modules: Pair"):
            ReviewTerm(*wrong)
    with pytest.raises(ValueError, match=r"width, .* must be >= 1, got 0"):
        ReviewTerm(*PAIRS, width=0)


def test_it_reads_as_it_was_made() -> None:
    assert repr(ReviewTerm(Pair("a", "b"), Pair("c", "d"))) == "ReviewTerm(a <- b, c <- d, weight=1.0)"
    changed = ReviewTerm(Pair("a", "b"), weight=2.0, teacher="t", width=8, batch_norm=False)
    assert repr(changed) == "ReviewTerm(a <- b, weight=2.0, teacher='t', width=8, batch_norm=False)"
