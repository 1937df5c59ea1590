"""How long a training took, and what energy, as far as both can be measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from transformers import Trainer

from hf_distill.energy import EnergyMeter
from hf_distill.evaluation.scores import over_seeds

SECONDS, WATT_HOURS, COUNTERS = "training_s", "training_energy_wh", "training_energy_of"


def train_measured(trainer: Trainer, checkpoint: str | None = None) -> None:
    """Train, and put time and energy at the end of the log.

    A training that goes on from a checkpoint has a part that nobody measured, so nothing is noted of it. The energy of
    several processes is not known either: each sees its own GPU only.

    Args:
        trainer: Whose ``state.log_history`` gets the entry.
        checkpoint: To go on from.
    """
    start = time.perf_counter()
    with EnergyMeter(trainer.args.device) as meter:
        trainer.train(resume_from_checkpoint=checkpoint)
    if checkpoint is None:
        seconds = time.perf_counter() - start
        alone = trainer.args.world_size == 1
        energy = {WATT_HOURS: meter.watt_hours, COUNTERS: meter.counters} if alone and meter.counters else {}
        trainer.state.log_history.append({SECONDS: seconds, **energy})


def effort_of(trainers: Sequence[Trainer]) -> dict[str, Any]:
    """Time and energy of trainings as figures of a report: means and deviations.

    What is not known of all is left out; energy counts as known where the same counters were read each time.
    """
    logs: list[dict[str, Any]] = [
        next((log for log in trainer.state.log_history if SECONDS in log), {}) for trainer in trainers
    ]
    if not logs or not all(logs):
        return {}
    counters = logs[0].get(COUNTERS)
    if not counters or any(log.get(COUNTERS) != counters for log in logs):
        return over_seeds([{SECONDS: log[SECONDS]} for log in logs])
    return {**over_seeds([{name: log[name] for name in (SECONDS, WATT_HOURS)} for log in logs]), COUNTERS: counters}
