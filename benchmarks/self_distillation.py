"""Ways for a student to be its own teacher, beside each other: one model, one budget, the last epoch, the test set.

    python benchmarks/self_distillation.py --dataset path/to/cifar10 --train_images 5000 --output_dir out/self

Trains a VGG on some images of the training set: alone, with smoothed labels, with a virtual teacher, with early
exits, with the moving average of its weights as a teacher, and in generations, each taught by the one before; and where
there are images without labels, in two ways with these. What is finished is not done again when the same command is run
again. See README.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from common import print_table
from datasets import Dataset, Value, concatenate_datasets
from transformers import PreTrainedModel, set_seed

from hf_distill import (
    NO_LABEL,
    DistillationTrainer,
    DistillationTrainingArguments,
    ExitTerm,
    LabelTerm,
    LogitTerm,
    MovingAverageTeacher,
    Objective,
    VGGForImageClassification,
    load_classifier,
    warmup,
)
from hf_distill.augmentation import Augmentation
from hf_distill.image_views import Views
from hf_distill.losses import ClassificationLoss, SoftTargetLoss, VirtualTeacherLoss
from hf_distill.recipe import as_image_classification, channels_last_collator, load_images, without_teacher

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))
import handwritten_digits
from cifar10 import NEW_MODELS, SGD  # the recipe whose settings these are

AVERAGE = ", its average"
MEAN_TEACHER = LogitTerm(SoftTargetLoss(), weight=warmup(0.2, 1.0))
SOFT = LogitTerm(SoftTargetLoss(4.0), weight=0.9)


@dataclass(frozen=True)
class Contestant:
    """One way to train.

    Args:
        objective: What is minimised; with a term ``average`` the moving average is the teacher.
        taught_by: Which contestant of the same seed is the teacher.
        unlabelled: Whether the images without labels are there too, in as many epochs.
        longer: Whether it gets as many steps as those with them.
    """

    objective: Objective
    taught_by: str | None = None
    unlabelled: bool = False
    longer: bool = False


def contestants(images_per_label: float) -> dict[str, Contestant]:
    """All of them; those with unlabelled images where there are any. The labels' gradient is the same in all."""
    found = {
        "control": Contestant(Objective(ce=LabelTerm(), average=LogitTerm(SoftTargetLoss(), weight=0.0))),
        "smoothed labels, 0.1": Contestant(Objective(ce=LabelTerm(loss=ClassificationLoss(0.1)))),
        "virtual teacher": Contestant(Objective(ce=LabelTerm(0.1), virtual=LabelTerm(0.9, VirtualTeacherLoss()))),
        "exits": Contestant(Objective(ce=LabelTerm(), exits=ExitTerm(*(f"vgg.blocks.{block}" for block in (1, 2, 3))))),
        "moving average": Contestant(Objective(ce=LabelTerm(), average=MEAN_TEACHER)),
        "generation 1": Contestant(Objective(ce=LabelTerm(0.1), kd=SOFT), "control"),
        "generation 2": Contestant(Objective(ce=LabelTerm(0.1), kd=SOFT), "generation 1"),
    }
    if images_per_label > 1:
        labels, tenth = LabelTerm(images_per_label), LabelTerm(0.1 * images_per_label)
        found |= {
            "control, as many steps": Contestant(found["control"].objective, longer=True),
            "moving average, more images": Contestant(Objective(ce=labels, average=MEAN_TEACHER), unlabelled=True),
            "generation 1, more images": Contestant(Objective(ce=tenth, kd=SOFT), "control", unlabelled=True),
        }
    return found


def folder_of(name: str, seed: int, options: argparse.Namespace) -> Path:
    """Where a training lies."""
    return Path(options.output_dir) / f"{name.replace(' ', '-').replace(',', '')}-{seed}"


def train(
    name: str,
    contestant: Contestant,
    seed: int,
    options: argparse.Namespace,
    rows: Views,
    epochs: float,
    test: Dataset,
    classes: int,
) -> None:
    """Train a contestant and keep what it says of the test set, as does its moving average where it has one."""
    folder, objective = folder_of(name, seed, options), contestant.objective
    if (folder / "logits.npy").is_file():
        return
    teacher: PreTrainedModel | MovingAverageTeacher | None = None
    if contestant.taught_by:
        teacher = load_classifier(str(folder_of(contestant.taught_by, seed, options)))
    elif "average" in objective.terms:
        teacher = MovingAverageTeacher(options.decay)
    own_seed = seed + 1000 * name.startswith("generation 1") + 2000 * name.startswith("generation 2")
    args = DistillationTrainingArguments(
        str(folder),
        **{**SGD, **without_teacher()},
        num_train_epochs=epochs,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=256,
        learning_rate=options.learning_rate,
        seed=own_seed,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=50,
    )
    set_seed(own_seed)
    config = NEW_MODELS[options.student](num_channels=rows[0]["pixel_values"].shape[0], num_labels=classes)
    trainer = DistillationTrainer(
        VGGForImageClassification(config),
        args,
        teacher_model=teacher,
        objective=objective,
        train_dataset=rows.for_training(own_seed),
        data_collator=channels_last_collator,
    )
    trainer.train()
    trainer.save_model()
    if isinstance(teacher, MovingAverageTeacher):
        averaged = folder_of(name + AVERAGE, seed, options)
        averaged.mkdir(parents=True, exist_ok=True)
        student = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        trainer.model.load_state_dict(teacher.model.state_dict())
        np.save(averaged / "logits.npy", trainer.predict(test).predictions)
        trainer.model.load_state_dict(student)
    np.save(folder / "logits.npy", trainer.predict(test).predictions)


def score(names: list[str], seed: int, options: argparse.Namespace, labels: np.ndarray) -> float:
    """The accuracy on the test set, of several as the mean of their logits."""
    logits = [np.load(folder_of(name, seed, options) / "logits.npy") for name in names]
    return float((np.mean(logits, axis=0).argmax(axis=1) == labels).mean())


def main() -> None:
    """Run what has not been run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", help="Images, as recipes/cifar10.py takes them; handwritten digits if left out.")
    parser.add_argument("--image_size", type=int, default=32)
    parser.add_argument("--train_images", type=int, default=5000, help="So many, drawn with seed 0.")
    parser.add_argument("--unlabelled_images", type=int, default=0, help="So many more, without their labels.")
    parser.add_argument("--no_flip", action="store_true", help="For images that mean something else in a mirror.")
    parser.add_argument("--student", default="vgg8-half", choices=sorted(NEW_MODELS))
    parser.add_argument("--num_train_epochs", type=float, default=20.0)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--learning_rate", type=float, default=0.1)
    parser.add_argument("--decay", type=float, default=0.99, help="Of the moving average.")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--output_dir", required=True)
    options = parser.parse_args()
    stored = load_images(options.dataset or handwritten_digits.make(Path(options.output_dir) / "_made"))
    total = options.train_images + options.unlabelled_images
    stored["train"] = stored["train"].shuffle(seed=0).select(range(total))
    data = as_image_classification(stored, options.image_size)
    normalization = data.channel_statistics()
    augmentation = Augmentation(padding=options.image_size // 8, flip=not options.no_flip)
    labelled = data.splits["train"].select(range(options.train_images))
    rows = {False: data.views(labelled, *normalization, augmentation)}
    if options.unlabelled_images:
        others = data.splits["train"].select(range(options.train_images, total)).remove_columns("labels")
        others = others.add_column("labels", [NO_LABEL] * len(others), feature=Value("int64"))
        rows[True] = data.views(concatenate_datasets([labelled, others]), *normalization, augmentation)
    test = data.read(data.evaluation()["test"], *normalization)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    found = contestants(total / options.train_images)
    for seed in seeds:
        for name, contestant in found.items():
            epochs = options.num_train_epochs * (total / options.train_images if contestant.longer else 1)
            train(name, contestant, seed, options, rows[contestant.unlabelled], epochs, test, len(data.classes))
    averages = [f"{name}{AVERAGE}" for name, one in found.items() if "average" in one.objective.terms]
    shown = {name: [name] for name in [*found, *averages]}
    shown["control and both generations together"] = ["control", "generation 1", "generation 2"]
    labels = np.array(data.evaluation()["test"]["labels"])
    scores = {title: [score(names, seed, options, labels) for seed in seeds] for title, names in shown.items()}
    alone = mean(scores["control"])
    print_table(["", "accuracy", "points over control"], [row(title, each, alone) for title, each in scores.items()])


def row(title: str, scores: Sequence[float], alone: float) -> list[str]:
    """A line of the table."""
    spread = f" ± {stdev(scores):.3f}" if len(scores) > 1 else ""
    return [title, f"{mean(scores):.3f}{spread}", f"{100 * (mean(scores) - alone):+.1f}"]


if __name__ == "__main__":
    main()
