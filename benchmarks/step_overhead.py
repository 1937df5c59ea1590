"""What a step of DistillationTrainer costs, against a loop written by hand that does the same work.

    python benchmarks/step_overhead.py                    # random models and tokens; no data, no network
    python benchmarks/step_overhead.py --teacher PATH --student PATH
    python benchmarks/step_overhead.py --images           # random images in random views, VGG-13 and VGG-8

Time: in one process, the contestants train the same student on the same batches in turn, block by block,
and each round gives one ratio; the medians over all rounds are reported. Memory: each contestant alone in a
fresh process. See README.md for what either side does in a step.
"""

from __future__ import annotations

import copy
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import datasets
import numpy as np
import torch
from common import (
    autocast,
    begin,
    clock,
    describe_machine,
    pick_device,
    predict,
    print_table,
    ratio_cells,
    to_device,
    without_dropout,
)
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import trange
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    HfArgumentParser,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    default_data_collator,
    get_linear_schedule_with_warmup,
)

from hf_distill import DistillationTrainer, DistillationTrainingArguments, VGGConfig, VGGForImageClassification
from hf_distill.augmentation import Augmentation, ImageTransform
from hf_distill.image_views import Views
from hf_distill.recipe import channels_last_collator

TEMPERATURE, DISTILLATION_WEIGHT, LEARNING_RATE, CLIP = 2.0, 0.5, 1e-4, 1.0
WARM_UP_STEPS = 3


class RandomTokens(Dataset[dict[str, Tensor]]):
    """Labelled sequences of random tokens, all of one length."""

    def __init__(self, examples: int, length: int, vocabulary: int, classes: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.tokens = torch.randint(vocabulary, (examples, length), generator=generator)
        self.labels = torch.randint(classes, (examples,), generator=generator)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        tokens = self.tokens[index]
        return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": self.labels[index]}


@dataclass(frozen=True)
class Job:
    """What every contestant has to do."""

    teacher: PreTrainedModel | None
    student: PreTrainedModel
    data: RandomTokens | Views
    batch_size: int
    bf16: bool
    device: torch.device
    collator: Callable[[list[Any]], dict[str, Any]] = default_data_collator
    torch_compile: bool = False

    @property
    def steps(self) -> int:
        return len(self.data) // self.batch_size

    def loader(self) -> DataLoader[dict[str, Tensor]]:
        return DataLoader(self.data, self.batch_size, collate_fn=self.collator)


def hand_loop(job: Job, student: nn.Module) -> float:
    """Train the student by hand; seconds a step."""
    student.train()
    optimizer = AdamW(student.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, job.steps)
    started = 0.0
    for step, cpu_batch in enumerate(job.loader()):
        if step == WARM_UP_STEPS:
            started = clock(job.device)
        batch = to_device(cpu_batch, job.device)
        labels = batch.pop("labels")
        if job.teacher is not None:
            with torch.no_grad(), autocast(job.device, job.bf16):
                target = job.teacher(**batch).logits.float()
        with autocast(job.device, job.bf16):
            logits = student(**batch).logits.float()
        loss = F.cross_entropy(logits, labels)
        if job.teacher is not None:
            log_q = F.log_softmax(logits / TEMPERATURE, dim=-1)
            log_p = F.log_softmax(target / TEMPERATURE, dim=-1)
            divergence = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * TEMPERATURE**2
            loss = (1 - DISTILLATION_WEIGHT) * loss + DISTILLATION_WEIGHT * divergence
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), CLIP)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return (clock(job.device) - started) / (job.steps - WARM_UP_STEPS)


def hand_loop_alone(job: Job, student: nn.Module) -> float:
    """The loop by hand without a teacher; seconds a step."""
    return hand_loop(replace(job, teacher=None), student)


def distillation_trainer(job: Job, student: nn.Module) -> float:
    """Train the student with this library; seconds a step."""
    with tempfile.TemporaryDirectory() as folder:
        return timed(make_trainer(job, student, folder), job)


def make_trainer(job: Job, student: nn.Module, folder: str) -> DistillationTrainer:
    """The trainer of this library."""
    teacher = job.teacher
    if teacher is not None and job.torch_compile:
        teacher = copy.deepcopy(teacher)
        teacher.compile()
    args = DistillationTrainingArguments(
        **trainer_settings(job, folder),
        temperature=TEMPERATURE,
        distillation_weight=DISTILLATION_WEIGHT,
        teacher_score_examples=0,  # random teachers know nothing
    )
    return DistillationTrainer(student, args, job.collator, job.data, teacher_model=teacher)


def plain_trainer(job: Job, student: nn.Module) -> float:
    """Train the student with ``Trainer``, which knows no teacher; seconds a step."""
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(**trainer_settings(job, folder))
        return timed(Trainer(student, args, job.collator, job.data), job)


def trainer_settings(job: Job, folder: str) -> dict[str, Any]:
    """The loop by hand in the words of ``TrainingArguments``, with the Trainer's own extras left on."""
    return {
        "output_dir": folder,
        "per_device_train_batch_size": job.batch_size,
        "num_train_epochs": 1,
        "train_sampling_strategy": "sequential",
        "learning_rate": LEARNING_RATE,
        "max_grad_norm": CLIP,
        "optim": "adamw_torch_fused",
        "logging_steps": 10,
        "save_strategy": "no",
        "report_to": "none",
        "bf16": job.bf16,
        "use_cpu": job.device.type == "cpu",
        "torch_compile": job.torch_compile,
    }


class StepTimer(TrainerCallback):
    """Times whole steps: from one step's begin to the end of the epoch, with all that happens in between."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.started = self.stopped = 0.0

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if state.global_step == WARM_UP_STEPS:
            self.started = clock(self.device)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.stopped = clock(self.device)


def timed(trainer: Trainer, job: Job) -> float:
    """Train; seconds a step. The progress bar is drawn, but not on the terminal."""
    timer = StepTimer(job.device)
    trainer.add_callback(timer)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        trainer.train()
    torch.compiler.reset()  # or the next one would be taken for a change of this one, and not compiled any more
    return (timer.stopped - timer.started) / (job.steps - WARM_UP_STEPS)


CONTESTANTS: dict[str, Callable[[Job, nn.Module], float]] = {
    "hand loop": hand_loop,
    "DistillationTrainer": distillation_trainer,
    "hand loop, no teacher": hand_loop_alone,
    "Trainer, no teacher": plain_trainer,
}
PAIRS = {"DistillationTrainer": "hand loop", "Trainer, no teacher": "hand loop, no teacher"}


def measure_time(job: Job, rounds: int) -> dict[str, list[float]]:
    """Seconds a step of each contestant in each round; the order turns round from one round to the next."""
    times: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for number in trange(rounds + 1, desc="rounds"):
        students = {name: copy.deepcopy(job.student) for name in CONTESTANTS}
        for name in list(CONTESTANTS)[:: 1 if number % 2 else -1]:
            seconds = CONTESTANTS[name](job, students[name])
            if number > 0:  # round 0 warms the kernels up
                times[name].append(seconds)
        if number == 0:
            check_same_work(job, students)
    return times


def check_same_work(job: Job, students: Mapping[str, nn.Module]) -> None:
    """See that each Trainer made the same student as its loop, which only the same steps on the same batches do.

    Raises:
        RuntimeError: it did not.
    """
    before = predict(copy.deepcopy(job.student), job.loader(), job.device)
    for trainer, loop in PAIRS.items():
        first, second = (predict(students[name], job.loader(), job.device) for name in (trainer, loop))
        moved, gap = (float((other - second).abs().max()) for other in (before, first))
        print(f"{trainer} | {loop}: training moved the logits by up to {moved:.3f}; they differ by {gap:.1e}")
        if gap > (0.2 if job.bf16 else 0.02) * moved:
            raise RuntimeError(f"{trainer} and {loop} made different students: they did not do the same work.")


def measure_memory(precision: str, repeats: int) -> dict[str, list[dict[str, float]]]:
    """Peak memory of each contestant, alone in a fresh process."""
    memory: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
    for _ in trange(repeats, desc="memory"):
        for name in CONTESTANTS:
            command = [sys.executable, *sys.argv, "--precisions", precision, "--alone", name]
            printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            memory[name].append(json.loads(printed.splitlines()[-1]))
    return memory


def peak_mb(device: torch.device) -> float:
    """The most memory that this process has held: on the GPU where there is one, else in RAM.

    ``ru_maxrss`` would start from the peak of the process that launched this one; ``VmHWM`` starts at zero.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


@dataclass
class Options:
    """What can be chosen on the command line."""

    teacher: str | None = field(default=None, metadata={"help": "A classifier to load; a random BERT if left out."})
    student: str | None = field(default=None, metadata={"help": "A classifier to load; a random BERT if left out."})
    images: bool = field(default=False, metadata={"help": "Random images of 32 x 32, VGG-13 and VGG-8."})
    teacher_layers: int = field(default=6, metadata={"help": "Layers of the random teacher."})
    student_layers: int = field(default=2, metadata={"help": "Layers of the random student."})
    hidden_size: int = field(default=384, metadata={"help": "Width of the random models."})
    batch_size: int = field(default=64, metadata={"help": "Examples a step."})
    length: int = field(default=24, metadata={"help": "Tokens an example."})
    steps: int = field(default=23, metadata={"help": f"Steps a block, of which {WARM_UP_STEPS} are not timed."})
    rounds: int = field(default=15, metadata={"help": "Timed rounds; each gives one ratio."})
    torch_compile: bool = field(
        default=False, metadata={"help": "Compile teacher and student, but not those of the loops by hand."}
    )
    memory_repeats: int = field(default=3, metadata={"help": "Fresh processes a contestant; 0 leaves memory out."})
    precisions: list[str] = field(default_factory=lambda: ["float32", "bf16"], metadata={"help": "What to measure."})
    threads: int | None = field(default=None, metadata={"help": "CPU threads; PyTorch's default if left out."})
    use_cpu: bool = field(default=False, metadata={"help": "Stay on the CPU where there is a GPU."})
    output: str | None = field(default=None, metadata={"help": "JSON file for all single measurements."})
    alone: str | None = field(default=None, metadata={"help": "Run one contestant and print its memory; used inside."})


def make_job(options: Options, bf16: bool, with_teacher: bool = True) -> Job:
    """Build or load the models; dropout is off, so that students can be compared and no time goes into it."""
    torch.manual_seed(0)
    device = pick_device(options.use_cpu)
    if options.images:
        student = new_vgg(VGGConfig.vgg8(num_labels=10)).to(device)
        teacher = new_vgg(VGGConfig.vgg13(num_labels=10)).to(device).eval() if with_teacher else None
        views = random_images(options.steps * options.batch_size)
        collator = channels_last_collator
        return Job(teacher, student, views, options.batch_size, bf16, device, collator, options.torch_compile)
    student = load_or_make(options.student, options.student_layers, options.hidden_size).to(device)
    config = student.config
    data = RandomTokens(options.steps * options.batch_size, options.length, config.vocab_size, config.num_labels)
    teacher = load_or_make(options.teacher, options.teacher_layers, options.hidden_size) if with_teacher else None
    teacher = teacher and teacher.to(device).eval()
    return Job(teacher, student, data, options.batch_size, bf16, device, torch_compile=options.torch_compile)


def new_vgg(config: VGGConfig) -> PreTrainedModel:
    """A VGG with random weights, as image recipes make them."""
    model = without_dropout(VGGForImageClassification(config))
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def random_images(count: int, labels: int = 10) -> Views:
    """Random pixels, cropped and mirrored as an image recipe does it."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    stored = [image.tobytes() for image in pixels]
    rows = datasets.Dataset.from_dict({"pixel_values": stored, "labels": rng.integers(labels, size=count)})
    return Views(rows, ImageTransform((3, 32, 32), (0.5,) * 3, (0.25,) * 3, Augmentation()), seed=0)


def load_or_make(path: str | None, layers: int, width: int) -> PreTrainedModel:
    """The classifier at ``path``, or a random BERT, in float32."""
    if path is not None:
        model = AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float32)
    else:
        shape = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": max(1, width // 32)}
        model = BertForSequenceClassification(BertConfig(num_hidden_layers=layers, **shape))
    return without_dropout(model)


def time_rows(times: Mapping[str, list[float]]) -> Iterator[list[str]]:
    """Milliseconds a step; ratio to the loop by hand: median of the rounds, and their quartiles."""
    for name, seconds in times.items():
        yield [name, f"{1e3 * median(seconds):.2f}", *ratio_cells(seconds, times[PAIRS.get(name, name)])]


def memory_rows(memory: Mapping[str, list[dict[str, float]]]) -> Iterator[list[str]]:
    """Median megabytes and their ratios to the loop by hand: of the process, and of what comes after its imports."""
    for name, runs in memory.items():
        cells = [name]
        for key in ("peak_mb", "training_mb"):
            own, loop = (median(run[key] for run in group) for group in (runs, memory[PAIRS.get(name, name)]))
            cells += [f"{own:.0f}", f"{own / loop:.3f}"]
        yield cells


def main() -> None:
    """Measure and print; with ``--alone``, run one contestant for its memory."""
    (options,) = HfArgumentParser(Options, description=__doc__).parse_args_into_dataclasses()
    device = begin(options.threads, options.use_cpu)
    if options.alone:
        imported = peak_mb(device)
        job = make_job(options, options.precisions == ["bf16"], with_teacher="no teacher" not in options.alone)
        CONTESTANTS[options.alone](job, job.student)
        print(json.dumps({"peak_mb": peak_mb(device), "training_mb": peak_mb(device) - imported}))
        return
    print(describe_machine(device, ["accelerate"]))
    single = {}
    for precision in options.precisions:
        job = make_job(options, bf16=precision == "bf16")
        sizes = " and ".join(f"{model.num_parameters() / 1e6:.1f} M" for model in (job.teacher, job.student) if model)
        size = "images of 32 x 32" if options.images else f"x {options.length}"
        print(f"\n## {precision}: teacher and student of {sizes}, batches of {job.batch_size} {size}\n")
        times = measure_time(job, options.rounds)
        print()
        print_table(["", "ms a step", "ratio to its loop", "middle half of rounds"], time_rows(times))
        memory = measure_memory(precision, options.memory_repeats) if options.memory_repeats else {}
        if memory:
            print()
            print_table(["", "peak MB", "ratio", "MB after imports", "ratio"], memory_rows(memory))
        single[precision] = {"seconds_a_step": times, "memory": memory}
    if options.output:
        Path(options.output).write_text(json.dumps(single, indent=2))


if __name__ == "__main__":
    main()
