"""A data set hears of each epoch however its batches are made, and the student sees that epoch's views."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import view_runs
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainingArguments
from two_processes import run as run_in_two_processes
from view_runs import train, views

from hf_distill.epochs import EpochCallback


def as_set(images: Tensor) -> set[bytes]:
    return {image.contiguous().numpy().tobytes() for image in images}


def check(found: dict[str, Tensor], resumed: bool) -> None:
    """Each epoch shows its own view of every image once; a resumed one has half of the second epoch left."""
    assert list(found) == (["1", "2"] if resumed else ["0", "1", "2"])
    for epoch, images in found.items():
        data = views()
        data.set_epoch(int(epoch))
        expected = as_set(torch.stack([row["pixel_values"] for row in data]))
        whole = not resumed or epoch == "2"
        assert len(as_set(images)) == len(images) == (32 if whole else 16)
        assert as_set(images) == expected if whole else as_set(images) < expected


@pytest.mark.parametrize("way", view_runs.WAYS)
def test_one_process(way: str, tmp_path: Path) -> None:
    check(view_runs.seen_by_epoch(tmp_path, way), "resumed" in way)


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    return run_in_two_processes(view_runs, tmp_path_factory.mktemp("two") / "seen.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("way", view_runs.IN_TWO_PROCESSES)
def test_two_processes_see_together_what_one_sees(way: str, two_processes: dict[str, Tensor]) -> None:
    prefix = f"{way}/"
    found = {key.removeprefix(prefix): value for key, value in two_processes.items() if key.startswith(prefix)}
    check(dict(sorted(found.items())), "resumed" in way)


@pytest.mark.parametrize("augmentation", [{}, {"mixup": 0.4, "cutmix": 1.0}], ids=["crop and flip", "mixed"])
def test_a_training_resumed_within_an_epoch_goes_on_to_the_same_bits(
    tmp_path: Path, augmentation: dict[str, float]
) -> None:
    saving = {"save_strategy": "steps", "save_steps": 6}
    whole = train(tmp_path / "whole", views(**augmentation), **saving)
    train(tmp_path / "killed", views(**augmentation), kill_at=7, **saving)
    resumed = train(tmp_path / "killed", views(**augmentation), resume=True, **saving)
    assert (whole.state.global_step, resumed.state.global_step) == (12, 12)
    found = resumed.model.state_dict()
    assert [name for name, value in whole.model.state_dict().items() if not torch.equal(value, found[name])] == []


class Told:
    """Rows that note what they are told."""

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self.rows = tiny.dataset("vgg", rows=16)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return dict(self.rows[row])

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)


def test_an_epoch_that_is_broken_off_counts(tmp_path: Path) -> None:
    class BreakOff(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_epoch_stop = True

    rows, callback = Told(), EpochCallback()
    settings = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "save_strategy": "no"}
    args = TrainingArguments(str(tmp_path), num_train_epochs=3, per_device_train_batch_size=8, **settings)
    trainer = Trainer(tiny.vgg(), args, train_dataset=rows, callbacks=[callback, BreakOff()])
    for _ in range(2):  # a second training begins at the beginning
        rows.epochs.clear()
        trainer.train()
        assert list(dict.fromkeys(rows.epochs)) == [0, 1, 2]


def test_a_data_set_that_does_not_care_is_let_be(tmp_path: Path) -> None:
    args = TrainingArguments(
        str(tmp_path), max_steps=1, use_cpu=True, report_to="none", disable_tqdm=True, save_strategy="no"
    )
    trainer = Trainer(tiny.vgg(), args, train_dataset=tiny.dataset("vgg"), callbacks=[EpochCallback()])
    assert trainer.train().global_step == 1
