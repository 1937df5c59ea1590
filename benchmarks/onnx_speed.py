"""A classifier in PyTorch, as ONNX and as int8: accuracy on a whole evaluation set, size, and speed.

    python benchmarks/onnx_speed.py --model out/sst2 --data validation.parquet --threads 1

The files are made anew. Speed is that of reports: the median of 100 calls with one example, and from the median of 20
calls with 32, after a warm-up; the contestants take turns, and the table has the best of the turns.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from common import describe_machine, pick_device, print_table
from torch import nn
from transformers import HfArgumentParser
from transformers.utils import logging

from hf_distill import OnnxClassifier, Predictor, export_onnx
from hf_distill.evaluation import Speed, measure_speed
from hf_distill.inputs import read_evaluation


@dataclass
class Options:
    """What can be chosen on the command line."""

    model: str = field(metadata={"help": "Folder of the classifier."})
    data: str = field(metadata={"help": "Labelled texts or images to check it on: a file or a folder."})
    threads: int = field(default=1, metadata={"help": "CPU threads of each contestant."})
    turns: int = field(default=3, metadata={"help": "How often each is timed."})


def measure(options: Options) -> Iterator[list[str]]:
    """A row for each contestant."""
    predictor = Predictor.load(options.model)
    data = read_evaluation(options.data, predictor.classes, images=not predictor.reads_text)
    rows = predictor.rows(data.values, data.labels)
    some = [rows[int(index)] for index in np.linspace(0, len(rows) - 1, 32)]
    with tempfile.TemporaryDirectory() as folder:
        made = {
            name: export_onnx(
                predictor.model,
                Path(folder) / f"{name}.onnx",
                examples=rows,
                data_collator=predictor.collate,
                int8=int8,
            )
            for name, int8 in (("ONNX", False), ("ONNX int8", True))
        }
        contestants: dict[str, nn.Module] = {
            "PyTorch": predictor.model,
            **{name: OnnxClassifier(file.path, threads=options.threads) for name, file in made.items()},
        }
        speeds: dict[str, list[Speed]] = {name: [] for name in contestants}
        for _ in range(options.turns):
            for name, model in contestants.items():
                speeds[name].append(measure_speed(model, some, predictor.collate))
    plain = made["ONNX"]
    for name, found in speeds.items():
        file = made.get(name)
        agreement = "" if file is None else f"{file.agreement * file.examples:.0f} of {file.examples}"
        yield [
            name,
            f"{(plain.pytorch_accuracy if file is None else file.accuracy) or float('nan'):.4f}",
            agreement,
            f"{plain.pytorch_size_mb if file is None else file.size_mb:.1f}",
            f"{min(speed.latency_ms['p50'] for speed in found):.2f}",
            f"{max(speed.throughput_per_s for speed in found):.0f}",
        ]


def main() -> None:
    """Measure and print."""
    (options,) = HfArgumentParser(Options, description=__doc__).parse_args_into_dataclasses()
    torch.set_num_threads(options.threads)
    logging.set_verbosity_error()
    print(describe_machine(pick_device(True), ["onnx", "onnxruntime"]), end="\n\n")
    header = ["", "accuracy", "decisions as PyTorch", "MB", "p50 ms, batch 1", "examples/s, batch 32"]
    print_table(header, measure(options))


if __name__ == "__main__":
    main()
