"""What a cache of the teacher's answers costs and saves. No data and no network: random BERTs and random tokens.

    python benchmarks/teacher_cache.py                       # all four parts; a quarter of an hour on two cores
    python benchmarks/teacher_cache.py --parts epoch build
    python benchmarks/teacher_cache.py --parts epoch build --images    # random images, VGG-13 and VGG-8

epoch: an epoch with a warm cache against one of Trainer without a teacher. build: making the cache against nothing but
the teacher's forward passes over the same batches. growth: making it as the examples get more, with a teacher that
costs nothing; time and memory. reads: looking up the answers of a batch among a million. See README.md.
"""

from __future__ import annotations

import copy
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from common import autocast, begin, clock, describe_machine, print_table, ratio_cells, to_device, without_dropout
from datasets import Dataset
from step_overhead import load_or_make, new_vgg, peak_mb, random_images
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    HfArgumentParser,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
)

from hf_distill import CachedTeacher, DistillationTrainer, DistillationTrainingArguments, VGGConfig, cache_teacher
from hf_distill.image_views import Views
from hf_distill.recipe import channels_last_collator


@dataclass
class JobOptions:
    """What examples and models there are, and where they are."""

    examples: int = field(default=6400, metadata={"help": "Examples an epoch, for epoch and build."})
    batch_size: int = field(default=64, metadata={"help": "Examples a batch."})
    longest: int = field(default=40, metadata={"help": "Examples have from 4 to so many tokens."})
    bf16: bool = field(default=False, metadata={"help": "bfloat16 autocast for teacher and student."})
    images: bool = field(default=False, metadata={"help": "Images and VGGs instead, for epoch and build."})
    threads: int | None = field(default=None, metadata={"help": "CPU threads; PyTorch's default if left out."})
    use_cpu: bool = field(default=False, metadata={"help": "Stay on the CPU where there is a GPU."})


@dataclass
class Options(JobOptions):
    """What can be chosen on the command line."""

    parts: list[str] = field(
        default_factory=lambda: ["epoch", "build", "growth", "reads"], metadata={"help": "What to measure."}
    )
    rounds: int = field(default=7, metadata={"help": "Timed rounds of epoch and build; each gives one ratio."})
    growth: list[int] = field(
        default_factory=lambda: [10_000, 100_000, 1_000_000], metadata={"help": "Numbers of examples for growth."}
    )
    output: str | None = field(default=None, metadata={"help": "JSON file for all single measurements."})
    alone: int | None = field(default=None, metadata={"help": "Make one cache and print its cost; used inside."})


def random_texts(count: int, longest: int, vocabulary: int = 30_000, shortest: int = 4) -> Dataset:
    """Labelled token sequences of random lengths, no two alike."""
    rng = np.random.default_rng(0)

    def rows() -> Iterator[dict[str, Any]]:
        for _ in range(count):
            tokens = rng.integers(1000, vocabulary, size=rng.integers(shortest, longest + 1))
            yield {"input_ids": tokens, "attention_mask": np.ones_like(tokens), "labels": int(rng.integers(2))}

    return Dataset.from_generator(rows, cache_dir=tempfile.mkdtemp())


def pad(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Pad a batch with zeros to its longest row, rounded up to 8."""
    width = -(-max(len(row["input_ids"]) for row in rows) // 8) * 8
    batch = {
        name: torch.tensor([row[name] + [0] * (width - len(row[name])) for row in rows])
        for name in ("input_ids", "attention_mask")
    }
    return {**batch, "labels": torch.tensor([row["labels"] for row in rows])} if "labels" in rows[0] else batch


@dataclass(frozen=True)
class Job:
    """The same examples and models for all."""

    options: JobOptions
    examples: Dataset | Views
    teacher: PreTrainedModel
    student: PreTrainedModel
    device: torch.device
    collator: Callable[[list[dict[str, Any]]], dict[str, Tensor]] = pad

    @property
    def order(self) -> str:
        return "random" if self.options.images else "group_by_length"

    def make_cache(self, folder: Path, **settings: Any) -> CachedTeacher:
        return cache_teacher(
            self.examples, self.teacher, folder, data_collator=self.collator, batch_size=self.options.batch_size,
            bf16=self.options.bf16, device=self.device, **settings,
        )  # fmt: skip

    def arguments(self, kind: type[TrainingArguments], folder: str) -> Any:
        return kind(
            folder, num_train_epochs=1, per_device_train_batch_size=self.options.batch_size, bf16=self.options.bf16,
            train_sampling_strategy=self.order, optim="adamw_torch_fused", save_strategy="no",
            report_to="none", logging_steps=50, use_cpu=self.device.type == "cpu",
        )  # fmt: skip


def make_job(options: JobOptions, device: torch.device) -> Job:
    """Random examples and random models; one view of each image."""
    torch.manual_seed(0)
    if options.images:
        vggs = (new_vgg(make(num_labels=10)) for make in (VGGConfig.vgg13, VGGConfig.vgg8))
        rows = random_images(options.examples)
        return Job(options, Views(rows.rows, rows.transform, seed=0, count=1), *vggs, device, channels_last_collator)
    berts = (without_dropout(load_or_make(None, layers, 384)) for layers in (6, 2))
    return Job(options, random_texts(options.examples, options.longest), *berts, device)


@contextmanager
def silence() -> Iterator[None]:
    """Keep logs and progress bars off the terminal."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield


# ---- An epoch with a warm cache ----


def measure_epoch(job: Job, rounds: int) -> dict[str, list[float]]:
    """Seconds of ``train()``, which for this library includes looking up every example before the first step."""
    times: dict[str, list[float]] = {"Trainer, no teacher": [], "DistillationTrainer, warm cache": []}

    def plain(student: nn.Module, folder: str) -> Trainer:
        return Trainer(student, job.arguments(TrainingArguments, folder), job.collator, job.examples)

    with tempfile.TemporaryDirectory() as kept:
        job.make_cache(Path(kept))

        def cached(student: nn.Module, folder: str) -> Trainer:
            args = job.arguments(DistillationTrainingArguments, folder)
            args.teacher_score_examples = 0  # random teachers know nothing
            return DistillationTrainer(student, args, job.collator, job.examples, teacher_model=CachedTeacher(kept))

        makers: list[Callable[[nn.Module, str], Trainer]] = [plain, cached]
        for number in range(rounds + 1):
            for which in (0, 1) if number % 2 else (1, 0):
                student = copy.deepcopy(job.student)
                started = clock(job.device)
                with tempfile.TemporaryDirectory() as folder, silence():
                    makers[which](student, folder).train()
                if number:  # round 0 warms the kernels up
                    list(times.values())[which].append(clock(job.device) - started)
    return times


# ---- Making the cache ----


def measure_build(job: Job, rounds: int) -> dict[str, list[float]]:
    """Seconds for all examples: the teacher's forward passes alone, over batches that lie ready; and the cache."""
    times: dict[str, list[float]] = {"teacher alone": [], "cache": []}
    rows = [{name: value for name, value in row.items() if name != "labels"} for row in job.examples]
    if not job.options.images:
        rows.sort(key=lambda row: -len(row["input_ids"]))
    batches = list(DataLoader(rows, job.options.batch_size, collate_fn=job.collator))
    teacher = job.teacher.to(job.device).eval()
    for number in range(rounds + 1):
        started = clock(job.device)
        with torch.inference_mode(), autocast(job.device, job.options.bf16):
            for batch in batches:
                teacher(**to_device(batch, job.device)).logits.float().cpu()
        alone = clock(job.device) - started
        with tempfile.TemporaryDirectory() as folder:
            started = clock(job.device)
            job.make_cache(Path(folder))
            built = clock(job.device) - started
        if number:
            times["teacher alone"].append(alone)
            times["cache"].append(built)
    return times


def measure_sizes(examples: int = 20_000) -> dict[str, float]:
    """Bytes on the disk for each example, which are megabytes for a million."""
    texts, found = random_texts(examples, longest=12), {}
    for classes in (2, 10, 1000):
        for name, settings in {
            "float32": {},
            "float16": {"dtype": torch.float16},
            "float16, 16 largest": {"dtype": torch.float16, "top_k": 16},
        }.items():
            if "top_k" in settings and classes <= 16:
                continue
            with tempfile.TemporaryDirectory() as folder:
                cache_teacher(texts, tiny_teacher(classes), folder, data_collator=pad, batch_size=1024, **settings)
                size = sum(path.stat().st_size for path in Path(folder).iterdir())
            found[f"{classes} classes, {name}"] = size / examples
    return found


def tiny_teacher(classes: int = 2) -> PreTrainedModel:
    """A BERT that costs next to nothing."""
    torch.manual_seed(0)
    config = BertConfig(
        num_hidden_layers=1, hidden_size=8, num_attention_heads=1, intermediate_size=8, num_labels=classes
    )
    return BertForSequenceClassification(config)


def measure_growth(options: Options) -> dict[int, dict[str, float]]:
    """What each number of examples took in a fresh process."""
    found = {}
    for count in options.growth:
        command = [sys.executable, *sys.argv, "--alone", str(count)]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found[count] = json.loads(printed.splitlines()[-1])
    return found


def growth_rows(found: dict[int, dict[str, float]]) -> Iterator[list[str]]:
    """Seconds, examples a second, seconds when nothing is missing, and megabytes."""
    for count, took in found.items():
        rate = [f"{took['seconds']:.1f}", f"{count / took['seconds']:.0f}", f"{took['again']:.1f}"]
        yield [f"{count:,}", *rate, f"{took['peak_mb']:.0f}", f"{took['more_mb']:.0f}"]


def make_one(count: int) -> None:
    """Make a cache of so many examples and print what it took."""
    texts = random_texts(count, longest=12)
    with tempfile.TemporaryDirectory() as folder:
        cache_teacher(texts.select(range(2000)), tiny_teacher(), f"{folder}/warm", data_collator=pad, batch_size=256)
        before = peak_mb(torch.device("cpu"))
        times = []
        for _ in range(2):
            started = time.perf_counter()
            cache_teacher(texts, tiny_teacher(), f"{folder}/cache", data_collator=pad, batch_size=256)
            times.append(time.perf_counter() - started)
    peak = peak_mb(torch.device("cpu"))
    print(json.dumps({"seconds": times[0], "again": times[1], "peak_mb": peak, "more_mb": peak - before}))


# ---- Reading ----


def measure_reads(options: Options, count: int = 1_000_000, batches: int = 300) -> list[float]:
    """Seconds for the answers to each of some batches of random rows, hashing them included."""
    from hf_distill.cache.keys import keys_of_dataset
    from hf_distill.cache.shard import Answers
    from hf_distill.cache.store import FORMAT, AnswerStore

    texts = random_texts(count, longest=options.longest)
    identity = {"format": FORMAT, "dtype": "float32", "top_k": None, "features": [], "name": "t", "classes": 2}
    identity |= {"vocabulary": {}, "teacher": {}}
    with tempfile.TemporaryDirectory() as folder:
        store = AnswerStore(folder, {**identity, "columns": ["attention_mask", "input_ids"]})
        chunks = keys_of_dataset(texts, ["input_ids", "attention_mask"])
        store.add([Answers(keys, np.zeros((len(keys), 2), dtype=np.float32)) for keys in chunks])
        teacher, rng = CachedTeacher(folder), np.random.default_rng(1)
        seconds = []
        for _ in range(batches):
            rows = [texts[int(row)] for row in rng.integers(0, count, options.batch_size)]
            started = time.perf_counter()
            teacher.collate(rows)
            seconds.append(time.perf_counter() - started)
    return seconds


def ratio_rows(times: dict[str, list[float]], examples: int) -> Iterator[list[str]]:
    """Examples a second, and time as a ratio to the first: median of the rounds, and their quartiles."""
    first = next(iter(times.values()))
    for name, seconds in times.items():
        yield [name, f"{examples / median(seconds):.0f}", *ratio_cells(seconds, first)]


def main() -> None:
    """Measure and print."""
    (options,) = HfArgumentParser(Options, description=__doc__).parse_args_into_dataclasses()
    device = begin(options.threads, options.use_cpu)
    if options.alone:
        make_one(options.alone)
        return
    single: dict[str, Any] = {}
    print(describe_machine(device, ["datasets", "pyarrow"]))
    if {"epoch", "build"} & set(options.parts):
        job = make_job(options, device)
    for part, measure in (("epoch", measure_epoch), ("build", measure_build)):
        if part in options.parts:
            single[part] = measure(job, options.rounds)
            print(f"\n## {part}: {'bf16' if options.bf16 else 'float32'}, {options.examples} examples\n")
            print_table(["", "examples/s", "time, ratio", "middle half"], ratio_rows(single[part], options.examples))
    if "build" in options.parts:
        print()
        single["sizes"] = measure_sizes()
        print_table(["kept", "MB a million"], [[name, f"{size:.1f}"] for name, size in single["sizes"].items()])
    if "growth" in options.parts:
        print("\n## growth\n")
        header = ["examples", "seconds", "examples/s", "seconds when warm", "peak MB", "MB more than before"]
        single["growth"] = measure_growth(options)
        print_table(header, growth_rows(single["growth"]))
    if "reads" in options.parts:
        print("\n## reads\n")
        single["reads"] = measure_reads(options)
        row = ["1,000,000 rows", f"{1e3 * median(single['reads']):.2f}"]
        print_table([f"batches of {options.batch_size}", "ms a batch"], [row])
    if options.output:
        Path(options.output).write_text(json.dumps(single, indent=2))


if __name__ == "__main__":
    main()
