"""What a bottleneck brings: accuracy and calibration over its weight, without a teacher and with one.

    python benchmarks/bottleneck.py --data digits --seeds 0 1 2 3 4
    python benchmarks/bottleneck.py --data digits --labelled 200 --wrong 0.2 --seeds 0 1 2 3 4
    python benchmarks/bottleneck.py --data reviews --seeds 0 1 2

The quick data and models of the recipes: no network, seconds a training. Labels have weight 1 without a teacher; with
one they have 0.5, and soft targets at temperature 2 the other half. Test set, last epoch. See README.md.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from common import begin, describe_machine, print_table
from quick_tasks import Task, digits, reviews
from transformers import HfArgumentParser

from hf_distill import BottleneckTerm, LabelTerm, LogitTerm, Objective, Term
from hf_distill.losses import SoftTargetLoss


@dataclass
class Options:
    """What can be chosen on the command line."""

    data: str = field(default="digits", metadata={"help": "What is learnt.", "choices": ["digits", "reviews"]})
    labelled: int | None = field(default=None, metadata={"help": "So many training examples; all if left out."})
    wrong: float = field(default=0.0, metadata={"help": "Share of the digits' training labels that are made wrong."})
    weights: list[float] = field(default_factory=lambda: [0.0, 1e-4, 1e-3, 1e-2, 1e-1], metadata={"help": "Beta."})
    deviation: float = field(default=0.5, metadata={"help": "Of the noise at the start."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "One training each."})
    split: str = field(default="test", metadata={"help": "What is scored.", "choices": ["test", "validation"]})
    threads: int | None = field(default=None, metadata={"help": "CPU threads; PyTorch's default if left out."})


def rows(task: Task, options: Options, folder: Path) -> Iterator[list[str]]:
    """One for each weight, without the teacher and with it."""
    path = "vgg.pooler" if options.data == "digits" else "bert.pooler"
    for taught in (False, True):
        for weight in options.weights:
            accuracies, errors, nats = [], [], []
            for seed in options.seeds:
                terms: dict[str, Term] = {"ce": LabelTerm()}
                if taught:
                    terms = {"ce": LabelTerm(0.5), "kd": LogitTerm(SoftTargetLoss(2.0), weight=0.5)}
                if weight:
                    terms["bottleneck"] = BottleneckTerm(path, weight, options.deviation)
                trainer = task.trainer(folder, taught, seed, Objective(**terms))
                trainer.train()
                scores = task.scores(trainer, options.split)
                accuracies.append(scores["accuracy"])
                errors.append(scores["ece"])
                logged = [entry["bottleneck"] for entry in trainer.state.log_history if "bottleneck" in entry]
                nats.append(logged[-1] / weight if weight else float("nan"))
            cells = [f"{statistics.mean(nats):.0f}" if weight else "", spread(accuracies), spread(errors)]
            yield ["with teacher" if taught else "without", f"{weight:g}", *cells]


def spread(scores: list[float]) -> str:
    """Mean and standard deviation."""
    deviation = f" ± {statistics.stdev(scores):.3f}" if len(scores) > 1 else ""
    return f"{statistics.mean(scores):.3f}{deviation}"


def main() -> None:
    """Train all, and print the table."""
    (options,) = HfArgumentParser(Options, description=__doc__).parse_args_into_dataclasses()
    print(describe_machine(begin(options.threads, use_cpu=True), []))
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        if options.data == "digits":
            task = digits(folder, options.labelled or 1000, options.wrong)
        else:
            task = reviews(folder, options.labelled or 8000)
        print_table(
            ["", "weight", "nats at the end", "accuracy", "calibration error"],
            rows(task, options, folder / "student"),
        )


if __name__ == "__main__":
    main()
