"""Ways to distil an image classifier beside each other: one teacher, one control, equal budget, the last epoch.

    python benchmarks/image_methods.py --methods soft,dist,similarity --output_dir out/methods \
        --dataset path/to/cifar10 --student vgg8-half --views 8

Runs recipes/cifar10.py once for each method, with all other flags as they are given here, and makes a table of the
reports. Teacher, its answers and controls are shared, and a run that is finished is not done again, so the same command
goes on where it was stopped; with --only_table it runs nothing. See README.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import print_table

RECIPE = Path(__file__).parents[1] / "recipes" / "cifar10.py"


def run_method(method: str, folder: Path, flags: list[str]) -> None:
    """The recipe, with this method, in a folder of its own beneath the shared one."""
    shared = [] if "--shared_dir" in flags else ["--shared_dir", str(folder)]
    command = [sys.executable, str(RECIPE), "--method", method, "--output_dir", str(folder / method), *shared, *flags]
    subprocess.run(command, check=True)


def seconds_per_epoch(folder: Path) -> float:
    """What a training took, whose state lies there."""
    state = json.loads((folder / "trainer_state.json").read_text())
    seconds = next(log["train_runtime"] for log in state["log_history"] if "train_runtime" in log)
    return float(seconds) / float(state["num_train_epochs"])


def rows(methods: list[str], folder: Path) -> Iterator[list[str]]:
    """Teacher and control once, then each method that has a report."""
    reports = {
        method: json.loads((folder / method / "report.json").read_text())
        for method in methods
        if (folder / method / "report.json").is_file()
    }
    if not reports:
        raise SystemExit(f"There is no report of {', '.join(methods)} in {folder}.")
    first = next(iter(reports.values()))
    yield ["teacher", *scores(first["teacher"]), "", "", ""]
    yield ["control", *scores(first["control"]), "", "", ""]
    for method, report in reports.items():
        gain = report["student"]["accuracy"] - report["control"]["accuracy"]
        seconds = seconds_per_epoch(folder / method)
        seeds = ", ".join(map(str, report["seeds"]))
        yield [method, *scores(report["student"]), f"{100 * gain:+.1f}", f"{seconds:.0f}", seeds]


def scores(model: dict[str, Any]) -> list[str]:
    """Accuracy and macro F1, with their spread where there are several seeds."""
    return [
        f"{model[name]:.4f}" + (f" ± {spread:.4f}" if (spread := model[f"{name}_std"]) is not None else "")
        for name in ("accuracy", "macro_f1")
    ]


def main() -> None:
    """Run what has not been run, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--methods", required=True, help="Names that the recipe's --method takes, with commas.")
    parser.add_argument("--output_dir", required=True, type=Path, help="A folder for each method beneath it.")
    parser.add_argument("--only_table", action="store_true", help="Run nothing.")
    options, flags = parser.parse_known_args()
    methods = options.methods.split(",")
    for method in [] if options.only_table else methods:
        run_method(method, options.output_dir, flags)
    print_table(
        ["", "accuracy", "macro F1", "points over control", "s an epoch", "seeds"], rows(methods, options.output_dir)
    )


if __name__ == "__main__":
    main()
