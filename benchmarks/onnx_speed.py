"""A classifier in PyTorch, as ONNX and as int8: accuracy on a whole evaluation set, size, and speed.

    python benchmarks/onnx_speed.py --model out/sst2 --data validation.parquet --threads 1

The files are made anew. Scores and speed are those that `hf-distill export` puts into a report: the median of 100 calls
with one example, and from the median of 20 calls with 32, after a warm-up, the best of three turns.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from common import describe_machine, pick_device, print_table
from transformers import HfArgumentParser
from transformers.utils import logging

from hf_distill import Predictor
from hf_distill.deployment import deployment_rows
from hf_distill.export import export_folder
from hf_distill.inputs import read_evaluation


@dataclass
class Options:
    """What can be chosen on the command line."""

    model: str = field(metadata={"help": "Folder of the classifier."})
    data: str = field(metadata={"help": "Labelled texts or images to check it on: a file or a folder."})
    threads: int = field(default=1, metadata={"help": "CPU threads of each contestant."})


def measure(options: Options) -> Iterator[list[str]]:
    """A row for each contestant."""
    predictor = Predictor.load(options.model)
    data = read_evaluation(options.data, predictor.classes, images=not predictor.reads_text)
    rows = predictor.rows(data.values, data.labels)
    with tempfile.TemporaryDirectory() as folder:
        shared = {"examples": rows, "data_collator": predictor.collate}
        exports = export_folder(predictor.model, folder, **shared, int8=True)
        for row in deployment_rows(predictor.model, exports, **shared, seconds=15.0):
            agreement, accuracy = row["agreement"], row["accuracy"]
            yield [
                row["format"],
                "" if accuracy is None else f"{accuracy:.4f}",
                "" if agreement is None else f"{agreement * len(rows):.0f} of {len(rows)}",
                f"{row['size_bytes'] / 1e6:.1f}",
                f"{row['latency_ms']['p50']:.2f}",
                f"{row['throughput_per_s']:.0f}",
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
