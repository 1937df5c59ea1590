"""The same distillation of a text classifier through this library, the Hugging Face tutorial, and TextBrewer.

    pip install textbrewer          # optional: without it, its rows are left out
    python benchmarks/against_peers.py --dataset stanfordnlp/sst2 --teacher PATH --student 2 --epochs 3 --bf16

Every row starts from the same student and sees the same batches in the same order with the same padding, precision,
optimizer (fused AdamW without weight decay), learning rates, clipping, temperature and weights. See README.md for
what had to be repaired in which peer, and for the rows that leave a peer as it is.
"""

from __future__ import annotations

import copy
import json
import random
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import torch
from common import (
    Batch,
    autocast,
    clock,
    describe_machine,
    pick_device,
    predict,
    print_table,
    to_device,
    without_dropout,
)
from datasets import Dataset, load_dataset
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    HfArgumentParser,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
    get_linear_schedule_with_warmup,
    set_seed,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_distill import DistillationTrainer, DistillationTrainingArguments, cache_teacher, student_from_teacher


@dataclass
class Options:
    """What can be chosen on the command line."""

    dataset: str = field(metadata={"help": "Name on the Hub, or folder, with the splits train and validation."})
    teacher: str = field(metadata={"help": "A fine-tuned classifier: name on the Hub, or folder."})
    student: str = field(
        default="2",
        metadata={
            "help": "How many of the teacher's lower layers; or 3x192, a random one of 3 layers 192 wide; or a name or "
            "folder."
        },
    )
    text: str = field(default="sentence", metadata={"help": "Column with the text."})
    label: str = field(default="label", metadata={"help": "Column with the class."})
    examples: int | None = field(default=None, metadata={"help": "Training examples; all if left out."})
    epochs: int = field(default=3, metadata={"help": "Passes over the training examples."})
    batch_size: int = field(default=64, metadata={"help": "Examples a step."})
    learning_rate: float = field(default=2e-4, metadata={"help": "First learning rate; it falls linearly to zero."})
    temperature: float = field(default=2.0, metadata={"help": "Softens both distributions."})
    distillation_weight: float = field(default=0.5, metadata={"help": "The teacher's share of the loss."})
    bf16: bool = field(default=False, metadata={"help": "bfloat16 autocast for teacher and student."})
    seeds: list[int] = field(default_factory=lambda: [0], metadata={"help": "One training of every row for each."})
    rows: list[str] = field(
        default_factory=lambda: ["hf_distill", "tutorial", "textbrewer"],
        metadata={
            "help": "Which to run: floor, hf_distill, hf_distill_cached, tutorial, textbrewer; _as_is and _as_shipped "
            "after the last two; textbrewer_padded_to_64."
        },
    )
    no_dropout: bool = field(default=False, metadata={"help": "Without dropout all rows must make the same student."})
    threads: int | None = field(default=None, metadata={"help": "CPU threads; PyTorch's default if left out."})
    use_cpu: bool = field(default=False, metadata={"help": "Stay on the CPU where there is a GPU."})
    output: str | None = field(default=None, metadata={"help": "JSON file for all single measurements."})


@dataclass(frozen=True)
class Job:
    """What every row has to do: pass once, in order, over data in which the epochs follow each other."""

    options: Options
    seed: int
    teacher: PreTrainedModel
    train: Dataset
    collator: DataCollatorWithPadding
    device: torch.device

    def loader(self) -> DataLoader[Batch]:
        return DataLoader(self.train, self.options.batch_size, collate_fn=self.collator)


def hf_distill(job: Job, student: PreTrainedModel) -> None:
    """This library."""
    with tempfile.TemporaryDirectory() as folder:
        args = DistillationTrainingArguments(
            **trainer_settings(job, folder),
            temperature=job.options.temperature,
            distillation_weight=job.options.distillation_weight,
        )
        DistillationTrainer(
            student,
            args,
            job.collator,
            job.train,
            processing_class=job.collator.tokenizer,
            teacher_model=job.teacher,
        ).train()


def hf_distill_cached(job: Job, student: PreTrainedModel) -> None:
    """This library with a cache of the teacher's answers, which is made here and now."""
    with tempfile.TemporaryDirectory() as folder:
        teacher = cache_teacher(
            job.train,
            job.teacher,
            f"{folder}/cache",
            data_collator=job.collator,
            batch_size=job.options.batch_size,
            bf16=job.options.bf16,
            device=job.device,
        )
        args = DistillationTrainingArguments(
            **trainer_settings(job, folder),
            temperature=job.options.temperature,
            distillation_weight=job.options.distillation_weight,
        )
        DistillationTrainer(student, args, job.collator, job.train, teacher_model=teacher).train()


def floor(job: Job, student: PreTrainedModel) -> None:
    """What no trainer can undercut, by hand: the teacher once over the examples, then the student alone."""
    options, size = job.options, job.options.batch_size
    texts = [tuple(tokens) for tokens in job.train["input_ids"]]
    first = sorted({text: row for row, text in enumerate(texts)}.values(), key=lambda row: -len(texts[row]))
    answers: dict[tuple[int, ...], Tensor] = {}
    job.teacher.to(job.device).eval()
    for start in range(0, len(first), size):
        batch = to_device(job.collator([job.train[row] for row in first[start : start + size]]), job.device)
        batch.pop("labels")
        with torch.no_grad(), autocast(job.device, options.bf16):
            logits = job.teacher(**batch).logits.float()
        answers.update(zip((texts[row] for row in first[start : start + size]), logits, strict=True))
    student.to(job.device).train()
    optimizer = AdamW(student.parameters(), lr=options.learning_rate, weight_decay=0.0, fused=True)
    loader = job.loader()
    schedule = get_linear_schedule_with_warmup(optimizer, 0, len(loader))
    for step, cpu_batch in enumerate(loader):
        batch = to_device(cpu_batch, job.device)
        labels = batch.pop("labels")
        target = torch.stack([answers[text] for text in texts[step * size : (step + 1) * size]])
        with autocast(job.device, options.bf16):
            logits = student(**batch).logits.float()
        log_q, log_p = (F.log_softmax(value / options.temperature, dim=-1) for value in (logits, target))
        divergence = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * options.temperature**2
        loss = (1 - options.distillation_weight) * F.cross_entropy(logits, labels)
        (loss + options.distillation_weight * divergence).backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def as_shipped(job: Job, fixed_length: int | None = None) -> Job:
    """The job as a peer's own examples do it: float32, batches at random, padded to their longest or to one length."""
    padding: dict[str, Any] = {"padding": "max_length", "max_length": fixed_length} if fixed_length else {}
    return replace(
        job,
        options=replace(job.options, bf16=False),
        train=job.train.shuffle(seed=job.seed),
        collator=DataCollatorWithPadding(job.collator.tokenizer, **padding),
    )


class TutorialTrainer(Trainer):
    """The pattern of "Knowledge Distillation for Computer Vision" in the documentation of transformers.

    Repaired, because it no longer runs on transformers 5: ``compute_loss`` accepts ``num_items_in_batch``, without
    which the first step is a ``TypeError``, and calls the model that it is given.

    Changed, to be like for like (``teacher_as_is`` takes this back): the teacher runs under the trainer's autocast.
    As written it stays in float32 under ``bf16=True``, because ``Trainer`` prepares nothing but its own model.
    """

    def __init__(
        self,
        *args: Any,
        teacher_model: PreTrainedModel,
        temperature: float,
        lambda_param: float,
        teacher_as_is: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.teacher = teacher_model.to(self.args.device).eval()
        self.divergence = nn.KLDivLoss(reduction="batchmean")
        self.temperature = temperature
        self.lambda_param = lambda_param
        self.teacher_precision = nullcontext if teacher_as_is else self.accelerator.autocast

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, SequenceClassifierOutput]:
        """The student's own loss and the divergence from the teacher, lambda of the latter."""
        output = model(**inputs)
        with torch.no_grad(), self.teacher_precision():
            target = self.teacher(**inputs).logits.float()
        log_q = F.log_softmax(output.logits / self.temperature, dim=-1)
        p = F.softmax(target / self.temperature, dim=-1)
        divergence = self.divergence(log_q, p) * self.temperature**2
        loss = (1 - self.lambda_param) * output.loss + self.lambda_param * divergence
        return (loss, output) if return_outputs else loss


def tutorial(job: Job, student: PreTrainedModel, as_is: bool = False) -> None:
    """The tutorial's trainer; ``as_is`` leaves its teacher in float32."""
    with tempfile.TemporaryDirectory() as folder:
        TutorialTrainer(
            student,
            TrainingArguments(**trainer_settings(job, folder)),
            job.collator,
            job.train,
            processing_class=job.collator.tokenizer,
            teacher_model=job.teacher,
            temperature=job.options.temperature,
            lambda_param=job.options.distillation_weight,
            teacher_as_is=as_is,
        ).train()


def trainer_settings(job: Job, folder: str) -> dict[str, Any]:
    """The job in the words of ``TrainingArguments``."""
    return {
        "output_dir": folder,
        "per_device_train_batch_size": job.options.batch_size,
        "num_train_epochs": 1,
        "train_sampling_strategy": "sequential",
        "learning_rate": job.options.learning_rate,
        "optim": "adamw_torch_fused",
        "save_strategy": "no",
        "report_to": "none",
        "seed": job.seed,
        "bf16": job.options.bf16,
        "use_cpu": job.device.type == "cpu",
    }


def textbrewer(job: Job, student: PreTrainedModel, as_is: bool = False) -> None:
    """TextBrewer's ``GeneralDistiller``, with three things said for it.

    - It leaves T² out, so the teacher's weight is multiplied by it; ``as_is`` passes the weight as it stands.
    - Its mixed precision is Apex, which is no more, so the models' forward passes are put under autocast.
    - It unpacks a batch by keyword only if its type is exactly ``dict``, which a collator's ``BatchEncoding`` is not.

    Its loss is the cross-entropy with the teacher's probabilities, which has the gradient of the divergence.
    """
    from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig

    def adaptor(batch: Batch, output: SequenceClassifierOutput) -> dict[str, Tensor]:
        return {"logits": output.logits.float(), "losses": output.loss.float()}

    options = job.options
    student.to(job.device)
    optimizer = AdamW(student.parameters(), lr=options.learning_rate, weight_decay=0.0, fused=True)
    config = DistillationConfig(
        temperature=options.temperature,
        kd_loss_weight=options.distillation_weight * (1.0 if as_is else options.temperature**2),
        hard_label_weight=1 - options.distillation_weight,
    )
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        for model in (job.teacher, student):
            stack.enter_context(autocast_forward(model, job))
        settings = TrainingConfig(output_dir=folder, device=job.device, ckpt_frequency=0)
        distiller = GeneralDistiller(settings, config, job.teacher, student, adaptor, adaptor)
        stack.enter_context(distiller)
        loader = job.loader()
        distiller.train(
            optimizer,
            loader,
            num_epochs=1,
            scheduler_class=get_linear_schedule_with_warmup,
            scheduler_args={"num_warmup_steps": 0, "num_training_steps": len(loader)},
            max_grad_norm=1.0,
            batch_postprocessor=dict,
        )


@contextmanager
def autocast_forward(model: PreTrainedModel, job: Job) -> Iterator[None]:
    """Run a model's forward pass, and nothing else, in the job's precision, as ``accelerate`` does."""
    forward = model.forward

    def in_precision(*args: Any, **kwargs: Any) -> Any:
        with autocast(job.device, job.options.bf16):
            return forward(*args, **kwargs)

    model.forward = in_precision
    try:
        yield
    finally:
        del model.forward


ROWS: dict[str, Callable[[Job, PreTrainedModel], None]] = {
    "floor": floor,
    "hf_distill": hf_distill,
    "hf_distill_cached": hf_distill_cached,
    "tutorial": tutorial,
    "tutorial_as_is": partial(tutorial, as_is=True),
    "textbrewer": textbrewer,
    "textbrewer_as_is": partial(textbrewer, as_is=True),
    "tutorial_as_shipped": lambda job, student: tutorial(as_shipped(job), student),
    "textbrewer_as_shipped": lambda job, student: textbrewer(as_shipped(job, fixed_length=128), student),
    "textbrewer_padded_to_64": lambda job, student: textbrewer(as_shipped(job, fixed_length=64), student),
}


def training_order(lengths: Sequence[int], batch_size: int, epochs: int, seed: int) -> list[int]:
    """Row numbers of all epochs in turn: full batches of similar lengths, in random order."""
    shuffled = random.Random(seed)
    order: list[int] = []
    for _ in range(epochs):
        rows = list(range(len(lengths)))
        shuffled.shuffle(rows)
        rows = rows[: len(rows) // batch_size * batch_size]
        pools = [rows[start : start + 50 * batch_size] for start in range(0, len(rows), 50 * batch_size)]
        rows = [row for pool in pools for row in sorted(pool, key=lengths.__getitem__)]
        batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
        shuffled.shuffle(batches)
        order += [row for batch in batches for row in batch]
    return order


def tokenized(options: Options, tokenizer: PreTrainedTokenizerBase, split: str, examples: int | None) -> Dataset:
    """One split, as token ids and labels."""
    data = load_dataset(options.dataset, split=split).shuffle(seed=0)
    data = data.select(range(min(examples or len(data), len(data)))).rename_column(options.label, "labels")

    def tokenize(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {**tokenizer(rows[options.text], truncation=True, max_length=128), "labels": rows["labels"]}

    return data.map(tokenize, batched=True, remove_columns=data.column_names)


def make_student(name: str, teacher: PreTrainedModel) -> PreTrainedModel:
    """The teacher's lower layers, one of its kind with random weights, or the model of that name."""
    if name.isdecimal():
        return student_from_teacher(teacher, layers=range(int(name)))
    if sizes := re.fullmatch(r"(\d+)x(\d+)", name):
        layers, width = map(int, sizes.groups())
        config = copy.deepcopy(teacher.config)
        config.update({"num_hidden_layers": layers, "hidden_size": width})
        config.update({"intermediate_size": 4 * width, "num_attention_heads": width // 32})
        return AutoModelForSequenceClassification.from_config(config)
    classes = {"id2label": teacher.config.id2label, "label2id": teacher.config.label2id}
    return AutoModelForSequenceClassification.from_pretrained(name, dtype=torch.float32, **classes)


def warm_up(job: Job, student: PreTrainedModel) -> None:
    """Let every row train on one batch of each length, untimed: compiling kernels and late imports cost nobody time."""
    size = job.options.batch_size
    numbers = {batch["input_ids"].shape[1]: number for number, batch in enumerate(job.loader())}.values()
    few = job.train.select([row for number in numbers for row in range(number * size, (number + 1) * size)])
    for row in job.options.rows:
        ROWS[row](replace(job, train=few), copy.deepcopy(student))


def make_job(options: Options, seed: int, data: Dataset, teacher: PreTrainedModel, tokenizer: Any) -> Job:
    """The job of one seed: the data in that seed's order."""
    lengths = [len(tokens) for tokens in data["input_ids"]]
    order = training_order(lengths, options.batch_size, options.epochs, seed)
    collator = DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8)
    return Job(options, seed, teacher, data.select(order), collator, pick_device(options.use_cpu))


def without_textbrewer(rows: Sequence[str]) -> list[str]:
    """The rows as they are, or less TextBrewer's where it cannot be imported."""
    try:
        import textbrewer  # noqa: F401
    except ImportError as error:
        print(f"Rows of TextBrewer are left out: {error}. `pip install textbrewer` brings them back.")
        return [row for row in rows if not row.startswith("textbrewer")]
    return list(rows)


@dataclass
class Result:
    """What one row reached, one number a seed."""

    examples_per_s: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    logit_gap: list[float] = field(default_factory=list)


def measure(options: Options) -> tuple[float, dict[str, Result]]:
    """The teacher's accuracy, and the result of each row."""
    device = pick_device(options.use_cpu)
    tokenizer = AutoTokenizer.from_pretrained(options.teacher)
    teacher = AutoModelForSequenceClassification.from_pretrained(options.teacher, dtype=torch.float32).eval()
    train = tokenized(options, tokenizer, "train", options.examples)
    validation = tokenized(options, tokenizer, "validation", None)
    labels = torch.tensor(validation["labels"])
    batches = list(DataLoader(validation, 64, collate_fn=DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8)))
    teacher_accuracy = accuracy(predict(teacher, batches, device), labels)

    results = {row: Result() for row in options.rows}
    for number, seed in enumerate(options.seeds):
        set_seed(seed)
        start = make_student(options.student, teacher).to(device)
        if options.no_dropout:
            without_dropout(start)
        job = make_job(options, seed, train, teacher, tokenizer)
        if number == 0:
            warm_up(job, start)
        logits: dict[str, Tensor] = {}
        for row in options.rows[number % len(options.rows) :] + options.rows[: number % len(options.rows)]:
            student = copy.deepcopy(start)
            set_seed(seed)
            started = clock(device)
            ROWS[row](job, student)
            results[row].examples_per_s.append(len(job.train) / (clock(device) - started))
            logits[row] = predict(student, batches, device)
        for row in options.rows:
            results[row].accuracy.append(accuracy(logits[row], labels))
            results[row].logit_gap.append(float((logits[row] - logits[options.rows[0]]).abs().max()))
    return teacher_accuracy, results


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of examples whose largest logit is at the true class."""
    return float((logits.argmax(dim=-1) == labels).float().mean())


def table_rows(results: dict[str, Result]) -> Iterator[list[str]]:
    """Each row's speed, its ratio to the first row seed by seed, and its accuracy."""
    first = next(iter(results.values()))
    for name, result in results.items():
        ratio = median(a / b for a, b in zip(result.examples_per_s, first.examples_per_s, strict=True))
        spread = f" ± {stdev(result.accuracy):.4f}" if len(result.accuracy) > 1 else ""
        gap = f"{max(result.logit_gap):.1e}"
        yield [
            name,
            f"{median(result.examples_per_s):.0f}",
            f"{ratio:.2f}",
            f"{mean(result.accuracy):.4f}{spread}",
            gap,
        ]


def main() -> None:
    """Measure and print."""
    (options,) = HfArgumentParser(Options, description=__doc__).parse_args_into_dataclasses()
    if unknown := sorted(set(options.rows) - set(ROWS)):
        raise SystemExit(f"There are no rows {unknown}; choose from {list(ROWS)}.")
    if options.threads:
        torch.set_num_threads(options.threads)
    options.rows = without_textbrewer(options.rows)
    print(describe_machine(pick_device(options.use_cpu), ["accelerate", "textbrewer"]))
    teacher_accuracy, results = measure(options)
    print(f"\nteacher's accuracy {teacher_accuracy:.4f}; {options}\n")
    header = ["", "examples/s", "of first row", "student's accuracy", "largest logit gap to first row"]
    print_table(header, table_rows(results))
    if options.output:
        report = {"options": asdict(options), "teacher": teacher_accuracy} | {k: asdict(v) for k, v in results.items()}
        Path(options.output).write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
