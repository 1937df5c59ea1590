"""Contrast in training: ids, memories, processes, checkpoints. Its values are checked with the loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import contrastive_runs
import pytest
import safetensors.torch
import tiny
import torch
from contrastive_runs import POOLER, contrast, trainer, weights
from datasets import Dataset
from torch import Tensor
from transformers import TrainerCallback
from two_processes import run as run_in_two_processes
from view_runs import views

from hf_distill import (
    ContrastiveTerm,
    DistillationTrainer,
    FeatureTerm,
    LabelTerm,
    ModelView,
    Objective,
    Pair,
    StepView,
    with_example_ids,
)
from hf_distill.adapting import ADAPTERS_FILE
from hf_distill.losses import ContrastiveLoss


def assert_identical(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


def loss_of(trained: DistillationTrainer) -> ContrastiveLoss:
    found = trained.distillation_objective.terms["contrast"].loss
    assert isinstance(found, ContrastiveLoss)
    return found


def test_examples_keep_their_ids_in_any_order_and_nobody_else_sees_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = with_example_ids(tiny.dataset("vgg", rows=24))
    by_id = {row["example_id"]: torch.tensor(row["pixel_values"]) for row in rows}
    trained = trainer(tmp_path, rows.shuffle(seed=3), train_sampling_strategy="random", num_train_epochs=1)
    read: list[Tensor] = []
    told: list[Tensor] = []
    trained.model.vgg.register_forward_pre_hook(lambda _, given: read.append(given[0].clone()))
    compute = ContrastiveTerm.compute
    monkeypatch.setattr(
        ContrastiveTerm, "compute", lambda self, step: told.append(step.example_ids) or compute(self, step)
    )
    trained.train()
    assert sorted(torch.cat(told).tolist()) == list(range(24))
    assert told[0].tolist() != sorted(told[0].tolist())
    for images, ids in zip(read[1:], told, strict=True):  # the first was for the shapes
        assert torch.equal(images, torch.stack([by_id[i] for i in ids.tolist()]))
    assert loss_of(trained).classes.tolist() == rows["labels"][:]


def test_gradient_accumulation_tells_every_batch_which_examples_it_has(tmp_path: Path) -> None:
    trained = trainer(tmp_path, per_device_train_batch_size=4, gradient_accumulation_steps=2, num_train_epochs=1)
    trained.train()
    assert (loss_of(trained).classes >= 0).all()


def test_random_views_of_images(tmp_path: Path) -> None:
    trained = DistillationTrainer(
        tiny.vgg(problem_type="single_label_classification"), tiny.arguments(tmp_path, num_train_epochs=1),
        train_dataset=with_example_ids(views()), teacher_model=tiny.vgg(seed=1),
        objective=Objective(contrast=contrast()),
    )  # fmt: skip
    trained.train()
    assert loss_of(trained).classes.tolist() == [i % 3 for i in range(32)]


def test_it_is_learned_from(tmp_path: Path) -> None:
    """Until the student pays less than one that knows nothing."""
    term = ContrastiveTerm(Pair("bert.pooler", "bert.pooler"), width=32, other_classes=False)
    trained = DistillationTrainer(
        tiny.bert(), tiny.arguments(tmp_path, max_steps=25, learning_rate=1e-2, per_device_train_batch_size=36),
        train_dataset=with_example_ids(tiny.dataset()), teacher_model=tiny.bert(seed=1),
        objective=Objective(contrast=term),
    )  # fmt: skip
    trained.train()
    values = [entry["contrast"] for entry in trained.state.log_history if "contrast" in entry]
    assert values[-1] < 0.8 < 1.0 < values[0]


def test_a_feature_term_passes_ids_to_a_loss_that_needs_them(tmp_path: Path) -> None:
    """The loss by itself, its sizes given by hand, does what the term does."""
    trained = trainer(tmp_path)
    trained.train()
    torch.manual_seed(trained.args.seed)  # as the trainer does before it makes what learns beside the student
    loss = ContrastiveLoss(8, 10, 24, width=8, negatives=10)
    plain = trainer(tmp_path, term=FeatureTerm(loss, POOLER, weight=2.0))
    plain.train()
    assert trained.state.log_history[0]["contrast"] == plain.state.log_history[0]["contrast"]
    assert_identical(trained.model.state_dict(), plain.model.state_dict())
    with pytest.raises(KeyError, match="with_example_ids"):
        trainer(tmp_path, tiny.dataset("vgg", rows=24), term=FeatureTerm(loss, POOLER))


# ---- Processes and checkpoints ----


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    return run_in_two_processes(contrastive_runs, tmp_path_factory.mktemp("two") / "found.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("size", [24, 21])
def test_two_processes_keep_equal_memories(size: int, two_processes: dict[str, Tensor]) -> None:
    first, second = (
        {key.removeprefix(start): value for key, value in two_processes.items() if key.startswith(start)}
        for start in (f"{size}/0/", f"{size}/1/")
    )
    assert "contrast_term.loss.student_memory" in first
    assert_identical(first, second)


def test_two_processes_do_what_one_does(two_processes: dict[str, Tensor], tmp_path: Path) -> None:
    one = trainer(tmp_path)
    one.train()
    for name, value in weights(one).items():
        torch.testing.assert_close(two_processes[f"24/0/{name}"], value, atol=1e-5, rtol=1e-4)


class Stop(TrainerCallback):
    """Ends a training the hard way, as a kill would."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 5:  # the last checkpoint is at 4, in the middle of the second epoch
            raise KeyboardInterrupt


def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    settings = {"save_strategy": "steps", "save_steps": 2, "train_sampling_strategy": "random",
                "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}  # fmt: skip
    whole = trainer(tmp_path / "whole", **settings)
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "killed", callbacks=[Stop()], **settings).train()
    saved = safetensors.torch.load_file(tmp_path / "killed" / "checkpoint-4" / ADAPTERS_FILE)
    assert saved["contrast_term.loss.teacher_memory"].shape == (24, 8)
    resumed = trainer(tmp_path / "killed", **settings)
    resumed.train(resume_from_checkpoint=True)
    assert_identical(weights(whole), weights(resumed))


def test_the_seed_decides_what_is_drawn(tmp_path: Path) -> None:
    states = []
    for seed in (0, 0, 1):
        trained = trainer(tmp_path, max_steps=1, seed=seed)
        trained.train()
        states.append(int(loss_of(trained).draw_state))
    assert states[0] == states[1] != states[2]


def test_evaluation_needs_no_ids_and_remembers_nothing(tmp_path: Path) -> None:
    trained = trainer(tmp_path, max_steps=1)
    trained.train()
    before = weights(trained)
    assert "eval_loss" in trained.evaluate()
    assert trained.predict(with_example_ids(tiny.dataset("vgg", rows=60))).predictions.shape == (60, 3)
    assert_identical(before, weights(trained))


# ---- What is refused ----


def test_rows_without_numbers_or_with_wrong_ones_are_refused_at_construction(tmp_path: Path) -> None:
    rows = tiny.dataset("vgg", rows=24)
    with pytest.raises(KeyError, match="with_example_ids"):
        trainer(tmp_path, rows)
    with pytest.raises(ValueError, match="Row 16 of the training set has example_id 20, but there are 20"):
        trainer(tmp_path, with_example_ids(rows).select(range(4, 24)))


def test_a_transform_that_drops_them_is_refused(tmp_path: Path) -> None:
    rows = with_example_ids(tiny.dataset("vgg", rows=24)).with_transform(
        lambda batch: {name: torch.tensor(batch[name]) for name in ("pixel_values", "labels")}
    )
    with pytest.raises(ValueError, match=r"this one does not say. Does a transform"):
        trainer(tmp_path, rows, remove_unused_columns=False).train()


def test_a_column_that_nobody_asked_for_does_no_harm(tmp_path: Path) -> None:
    for unused in (True, False):
        rows: Dataset = with_example_ids(tiny.dataset("vgg", rows=24))
        trained = DistillationTrainer(
            tiny.vgg(), tiny.arguments(tmp_path, max_steps=1, remove_unused_columns=unused), train_dataset=rows,
            teacher_model=tiny.vgg(seed=1), objective=Objective(ce=LabelTerm()),
        )  # fmt: skip
        trained.train()
        assert trained.examples is None


def test_tokens_are_refused_with_the_pair(tmp_path: Path) -> None:
    term = ContrastiveTerm(Pair("bert.encoder.layer.0", "bert.encoder.layer.0"))
    trained = DistillationTrainer(
        tiny.bert(), tiny.arguments(tmp_path), train_dataset=with_example_ids(tiny.dataset()),
        teacher_model=tiny.bert(seed=1), objective=Objective(contrast=term),
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"layer.0 <- bert.*: Features of student and teacher must be vectors or maps"):
        trained.train()


def test_weights_that_are_spread_over_processes_are_refused(tmp_path: Path) -> None:
    trained = trainer(tmp_path)
    trained.is_fsdp_enabled = True
    with pytest.raises(ValueError, match="FSDP or DeepSpeed"):
        trained.check_layers()


def test_a_step_that_lacks_something_is_refused() -> None:
    view = ModelView(torch.zeros(2, 3), {"vgg.pooler": torch.ones(2, 4, 1, 1)})
    with pytest.raises(ValueError, match="must know how many examples there are"):
        contrast().compute(StepView(view, {"teacher": view}, example_ids=torch.arange(2)))
    with pytest.raises(ValueError, match="must know which examples are in a batch"):
        contrast().compute(StepView(view, {"teacher": view}, examples=2))


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="ContrastiveTerm needs a pair"):
        ContrastiveTerm("vgg.pooler")
    with pytest.raises(ValueError, match="temperature must be a finite number > 0, got -1"):
        contrast(temperature=-1.0)


def test_it_reads_as_it_was_made() -> None:
    assert repr(ContrastiveTerm(POOLER, weight=17.0)) == (
        "ContrastiveTerm(vgg.pooler <- vgg.pooler, weight=17.0, width=128, negatives=16384, temperature=0.07, "
        "momentum=0.5, other_classes=True)"
    )
