"""A training's log ends with what it took, and the report has what is known of every seed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hf_distill.recipe import effort
from hf_distill.recipe.effort import effort_of, train_measured


class Meter:
    """Counts 3 Wh."""

    counters, watt_hours = ["GPU"], 3.0

    def __init__(self, device: Any) -> None:
        assert device == torch.device("cpu")

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *_: object) -> None: ...


def trainer(*log: dict[str, Any], processes: int = 1) -> Any:
    asked: list[str | None] = []
    return SimpleNamespace(
        args=SimpleNamespace(device=torch.device("cpu"), world_size=processes),
        state=SimpleNamespace(log_history=list(log)),
        train=lambda resume_from_checkpoint: asked.append(resume_from_checkpoint),
        asked=asked,
    )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 107.5])
    monkeypatch.setattr(effort.time, "perf_counter", lambda: next(times))


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("processes", [1, 2])
def test_time_and_energy_of_one_process_end_the_log(monkeypatch: pytest.MonkeyPatch, processes: int) -> None:
    monkeypatch.setattr(effort, "EnergyMeter", Meter)
    done = trainer({"loss": 1.0}, processes=processes)
    train_measured(done)
    energy = {"training_energy_wh": 3.0, "training_energy_of": ["GPU"]} if processes == 1 else {}
    assert done.state.log_history == [{"loss": 1.0}, {"training_s": 7.5, **energy}]
    assert done.asked == [None]


@pytest.mark.usefixtures("clock")
def test_without_a_counter_there_is_the_time_alone() -> None:
    done = trainer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Meter, "counters", [])
        patch.setattr(effort, "EnergyMeter", Meter)
        train_measured(done)
    assert done.state.log_history == [{"training_s": 7.5}]


def test_of_a_training_that_went_on_from_a_checkpoint_nothing_is_known() -> None:
    done = trainer()
    train_measured(done, "checkpoint-3")
    assert (done.state.log_history, done.asked) == ([], ["checkpoint-3"])
    assert effort_of([trainer({"training_s": 1.0}), done]) == {}
    assert effort_of([]) == {}


def log(seconds: float, energy: float | None = None, *counters: str) -> Any:
    more = {} if energy is None else {"training_energy_wh": energy, "training_energy_of": list(counters)}
    return trainer({"loss": 1.0}, {"training_s": seconds, **more})


def test_seeds_are_averaged() -> None:
    """Means 2 and 5; deviations (n - 1) of 1, 3 and 4, 6: both the root of 2."""
    found = effort_of([log(1.0, 4.0, "GPU"), log(3.0, 6.0, "GPU")])
    root = pytest.approx(2**0.5)
    assert found == {
        **{"training_s": 2.0, "training_s_std": root, "training_energy_wh": 5.0, "training_energy_wh_std": root},
        "training_energy_of": ["GPU"],
    }


@pytest.mark.parametrize("other", [log(3.0), log(3.0, 6.0, "processor package-0")])
def test_energy_that_was_counted_otherwise_is_left_out(other: Any) -> None:
    assert set(effort_of([log(1.0, 4.0, "GPU"), other])) == {"training_s", "training_s_std"}
