"""Two processes with one thread each against one process with two threads: the same steps of 64 examples.

    python benchmarks/processes.py

Random models and tokens as in step_overhead.py; no data, no network. Each round runs both, in turn, each in fresh
processes; start-up and the first steps are not timed. A second table says where the time goes. See README.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import step_overhead
import torch
from common import describe_machine, pick_device, print_table, ratio_cells
from parts import Parts, part_rows
from transformers import HfArgumentParser
from transformers.utils import logging


@dataclass
class Options:
    """What can be chosen on the command line."""

    rounds: int = field(default=5, metadata={"help": "Timed rounds; each gives one ratio."})
    steps: int = field(default=23, metadata={"help": "Steps a run, of which 3 are not timed."})
    batch_size: int = field(default=64, metadata={"help": "Examples a step, of all processes together."})
    bf16: bool = field(default=False, metadata={"help": "bfloat16 autocast for teacher and student."})
    output: str | None = field(default=None, metadata={"help": "JSON file for all single measurements."})
    inside: bool = field(default=False, metadata={"help": "Train and print; used inside."})


def train(options: Options) -> None:
    """Train as one of the processes; the first one prints the milliseconds a step of each part."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    torch.set_num_threads(2 // world)
    logging.set_verbosity_error()
    settings = step_overhead.Options(batch_size=options.batch_size // world, use_cpu=True)
    settings.steps = options.steps * world  # the data of all processes; each gets its share
    job = step_overhead.make_job(settings, options.bf16)
    parts = Parts(job.device)
    with tempfile.TemporaryDirectory() as folder:
        trainer = step_overhead.make_trainer(job, job.student, folder)
        parts.watch_step(trainer)
        step_overhead.timed(trainer, job)
    alone = exchange_ms(job.student.num_parameters()) if world > 1 else 0.0
    if int(os.environ.get("RANK", "0")) == 0:
        print(json.dumps({"parts": parts.a_step(), "exchange": alone}), flush=True)
    if world > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def exchange_ms(count: int, repeats: int = 9) -> float:
    """Milliseconds in which the processes add up so many float32 numbers, in pieces as large as those of DDP."""
    pieces, times = torch.zeros(count).split(25 * 2**20 // 4), []
    for _ in range(repeats):
        torch.distributed.barrier()
        started = time.perf_counter()
        for piece in pieces:
            torch.distributed.all_reduce(piece)
        times.append(1e3 * (time.perf_counter() - started))
    return median(times)


def measured(processes: int) -> dict[str, Any]:
    """Milliseconds a step of each part in the first of so many processes, and of the exchange with nothing else."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if processes == 2 else []
    command = [sys.executable, *launcher, *sys.argv, "--inside"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": str(2 // processes)}
    printed = subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def main() -> None:
    """Measure and print."""
    (options,) = HfArgumentParser(Options, description=__doc__).parse_args_into_dataclasses()
    if options.inside:
        train(options)
        return
    print(describe_machine(pick_device(True), ["accelerate"]))
    found: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    for number in range(options.rounds):
        for processes in (1, 2) if number % 2 else (2, 1):
            found[processes].append(measured(processes))
    times = {processes: [sum(one["parts"].values()) for one in rounds] for processes, rounds in found.items()}
    print()
    rows = [
        ["one process, two threads", f"{median(times[1]):.0f}", "1", ""],
        ["two processes, one thread each", f"{median(times[2]):.0f}", *ratio_cells(times[2], times[1])],
    ]
    print_table([f"steps of {options.batch_size}", "ms a step", "ratio", "middle half of rounds"], rows)
    parts = {
        str(processes): {name: median(one["parts"][name] for one in rounds) for name in rounds[0]["parts"]}
        for processes, rounds in found.items()
    }
    print()
    print_table(["", "ms, one process", "", "ms, two processes", ""], part_rows(parts))
    print(f"\nto add up the gradients, with nothing else to do: {median(one['exchange'] for one in found[2]):.0f} ms")
    if options.output:
        Path(options.output).write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
