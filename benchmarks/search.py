"""A search for settings, of a student and of its control: the same trials, then fresh seeds on the test set.

    python benchmarks/search.py --trials 12 --seeds 1 2 3

The reviews of the recipes' quick preset, on which a training takes seconds, and no network. The student searches
learning rate, temperature and the teacher's share by accuracy on validation, the control its learning rate; beside them
stand both with the settings that the preset has. See docs/search.md.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from common import begin, describe_machine, print_table
from quick_tasks import Task, reviews
from transformers import HfArgumentParser


@dataclass
class Options:
    """What can be chosen on the command line."""

    labelled: int = field(default=4000, metadata={"help": "So many training reviews."})
    trials: int = field(default=12, metadata={"help": "Of each of the two."})
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3], metadata={"help": "To train the winners with; not 0."})
    threads: int | None = field(default=None, metadata={"help": "CPU threads; PyTorch's default if left out."})


def rate(trial: optuna.Trial) -> dict[str, float]:
    return {"learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)}


def all_three(trial: optuna.Trial) -> dict[str, float]:
    return {
        **rate(trial),
        "temperature": trial.suggest_float("temperature", 1.0, 8.0),
        "distillation_weight": trial.suggest_float("distillation_weight", 0.1, 1.0),
    }


def searched(task: Task, folder: Path, taught: bool, trials: int) -> tuple[dict[str, float], float]:
    """The settings with the highest accuracy on validation, and that accuracy."""
    best = task.trainer(folder, taught, seed=0).hyperparameter_search(
        hp_space=all_three if taught else rate,
        compute_objective=lambda metrics: metrics["eval_accuracy"],
        direction="maximize",
        backend="optuna",
        n_trials=trials,
        sampler=optuna.samplers.TPESampler(seed=0),
    )
    return best.hyperparameters, best.objective


def rows(task: Task, folder: Path, options: Options) -> Iterator[list[str]]:
    """Student and control, each with the preset's settings and with those that were found."""
    for taught in (True, False):
        found, highest = searched(task, folder, taught, options.trials)
        settings: dict[str, dict[str, Any]] = {"as the preset": {}, "searched": found}
        for name, changes in settings.items():
            scores: dict[str, list[float]] = {"validation": [], "test": []}
            for seed in options.seeds:
                trainer = task.trainer(folder, taught, seed, **changes)
                trainer.train()
                for split, values in scores.items():
                    values.append(task.scores(trainer, split)["accuracy"])
            cells = [f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}" for values in scores.values()]
            said = ", ".join(f"{key} {value:.2g}" for key, value in changes.items())
            in_search = f"{highest:.3f}" if changes else ""
            yield ["student" if taught else "control", name, said, in_search, *cells]


def main() -> None:
    """Search, train the winners, and print the table."""
    (options,) = HfArgumentParser(Options, description=__doc__).parse_args_into_dataclasses()
    print(describe_machine(begin(options.threads, use_cpu=True), ["optuna"]))
    optuna.logging.set_verbosity(logging.WARNING)
    with tempfile.TemporaryDirectory() as made:
        task = reviews(Path(made), options.labelled)
        header = ["", "settings", "", "validation, in the search", "validation, fresh seeds", "test, fresh seeds"]
        print_table(header, rows(task, Path(made) / "student", options))


if __name__ == "__main__":
    main()
