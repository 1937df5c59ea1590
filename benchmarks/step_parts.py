"""Where the time of a step goes, with a live teacher and with its kept answers. No data and no network.

    python benchmarks/step_parts.py --bf16
    python benchmarks/step_parts.py --bf16 --images

The models and examples of teacher_cache.py. Each part is what it takes by itself, without the parts inside it: the
divergence without the student's forward pass, for instance. See README.md.
"""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

from common import begin, describe_machine, print_table
from parts import Parts, part_rows
from teacher_cache import Job, JobOptions, make_job, silence
from transformers import HfArgumentParser

from hf_distill import DistillationTrainer, DistillationTrainingArguments


def measure(job: Job, teacher: Any) -> dict[str, float]:
    """Milliseconds a step of each part."""
    parts = Parts(job.device)
    with tempfile.TemporaryDirectory() as folder, silence():
        args = job.arguments(DistillationTrainingArguments, folder)
        args.teacher_score_examples = 0  # random teachers know nothing
        student = copy.deepcopy(job.student)
        trainer = DistillationTrainer(student, args, job.collator, job.examples, teacher_model=teacher)
        parts.watch_step(trainer)
        trainer.train()
    return parts.a_step()


def main() -> None:
    """Measure and print."""
    (options,) = HfArgumentParser(JobOptions, description=__doc__).parse_args_into_dataclasses()
    device = begin(options.threads, options.use_cpu)
    print(describe_machine(device, ["accelerate"]))
    job = make_job(options, device)
    with tempfile.TemporaryDirectory() as kept:
        with silence():
            cached = job.make_cache(Path(kept))
        measure(job, job.teacher)  # warms the kernels up
        found = {"live": measure(job, job.teacher), "kept": measure(job, cached)}
    print(f"\n{'bf16' if options.bf16 else 'float32'}, batches of {options.batch_size}, {options.examples} examples\n")
    print_table(["", "ms, live teacher", "", "ms, kept answers", ""], part_rows(found))


if __name__ == "__main__":
    main()
