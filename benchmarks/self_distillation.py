"""Ways for a student to be its own teacher, beside each other: one model, one budget, the last epoch, the test set.

    python benchmarks/self_distillation.py --dataset path/to/cifar10 --train_images 5000 --output_dir out/self

Trains a VGG on some images of the training set: alone, with smoothed labels, with a virtual teacher, with early
exits, with the moving average of its weights as a teacher, and in generations, each taught by the one before. What is
finished is not done again when the same command is run again. See README.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from common import print_table
from datasets import Dataset
from transformers import set_seed

from hf_distill import (
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
from cifar10 import NEW_MODELS, SGD  # the recipe whose settings these are

AVERAGE = ", its average"
SOFT = LogitTerm(SoftTargetLoss(4.0), weight=0.9)
OBJECTIVES = {
    "control": Objective(ce=LabelTerm(), average=LogitTerm(SoftTargetLoss(), weight=0.0)),
    "smoothed labels, 0.1": Objective(ce=LabelTerm(loss=ClassificationLoss(0.1))),
    "virtual teacher": Objective(ce=LabelTerm(0.1), virtual=LabelTerm(0.9, VirtualTeacherLoss())),
    "exits": Objective(ce=LabelTerm(), exits=ExitTerm("vgg.blocks.1", "vgg.blocks.2", "vgg.blocks.3")),
    "moving average": Objective(ce=LabelTerm(), average=LogitTerm(SoftTargetLoss(), weight=warmup(0.2, 1.0))),
    "generation 1": Objective(ce=LabelTerm(0.1), kd=SOFT),
    "generation 2": Objective(ce=LabelTerm(0.1), kd=SOFT),
}
BEFORE = {"generation 1": "control", "generation 2": "generation 1"}


def folder_of(contestant: str, seed: int, options: argparse.Namespace) -> Path:
    """Where a training lies."""
    return Path(options.output_dir) / f"{contestant.replace(' ', '-').replace(',', '')}-{seed}"


def train(contestant: str, seed: int, options: argparse.Namespace, rows: Views, test: Dataset, classes: int) -> None:
    """Train a contestant and keep what it says of the test set, as does its moving average where it has one."""
    folder, objective = folder_of(contestant, seed, options), OBJECTIVES[contestant]
    if (folder / "logits.npy").is_file():
        return
    teacher = None
    if contestant in BEFORE:
        teacher = load_classifier(str(folder_of(BEFORE[contestant], seed, options)))
    elif "average" in objective.terms:
        teacher = MovingAverageTeacher(options.decay)
    own_seed = seed + 1000 * list(BEFORE).index(contestant) + 1000 if contestant in BEFORE else seed
    args = DistillationTrainingArguments(
        str(folder),
        **{**SGD, **without_teacher()},
        num_train_epochs=options.num_train_epochs,
        per_device_train_batch_size=128,
        per_device_eval_batch_size=256,
        learning_rate=0.1,
        seed=own_seed,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=50,
    )
    set_seed(own_seed)
    channels = rows[0]["pixel_values"].shape[0]
    trainer = DistillationTrainer(
        VGGForImageClassification(NEW_MODELS[options.student](num_channels=channels, num_labels=classes)),
        args,
        teacher_model=teacher,
        objective=objective,
        train_dataset=rows.for_training(own_seed),
        data_collator=channels_last_collator,
    )
    trainer.train()
    trainer.save_model()
    if isinstance(teacher, MovingAverageTeacher):
        averaged = folder_of(contestant + AVERAGE, seed, options)
        averaged.mkdir(parents=True, exist_ok=True)
        student = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        trainer.model.load_state_dict(teacher.model.state_dict())
        np.save(averaged / "logits.npy", trainer.predict(test).predictions)
        trainer.model.load_state_dict(student)
    np.save(folder / "logits.npy", trainer.predict(test).predictions)


def scores(contestants: list[str], seed: int, options: argparse.Namespace, labels: np.ndarray) -> float:
    """The accuracy on the test set, of several as the mean of their logits."""
    logits = [np.load(folder_of(contestant, seed, options) / "logits.npy") for contestant in contestants]
    return float((np.mean(logits, axis=0).argmax(axis=1) == labels).mean())


def main() -> None:
    """Run what has not been run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="Images, as recipes/cifar10.py takes them.")
    parser.add_argument("--image_size", type=int, default=32)
    parser.add_argument("--train_images", type=int, default=5000, help="So many, drawn with seed 0.")
    parser.add_argument("--student", default="vgg8-half", choices=sorted(NEW_MODELS))
    parser.add_argument("--num_train_epochs", type=float, default=20.0)
    parser.add_argument("--decay", type=float, default=0.99, help="Of the moving average.")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--output_dir", required=True)
    options = parser.parse_args()
    stored = load_images(options.dataset)
    stored["train"] = stored["train"].shuffle(seed=0).select(range(options.train_images))
    data = as_image_classification(stored, options.image_size)
    normalization = data.channel_statistics()
    rows = data.views(data.labelled("train"), *normalization, Augmentation())
    test = data.read(data.evaluation()["test"], *normalization)
    labels = np.array(data.evaluation()["test"]["labels"])
    seeds = [int(seed) for seed in options.seeds.split(",")]
    for seed in seeds:
        for contestant in OBJECTIVES:
            train(contestant, seed, options, rows, test, len(data.classes))
    shown = {name: [name] for name in [*OBJECTIVES, *(f"{name}{AVERAGE}" for name in ("control", "moving average"))]}
    shown["control and both generations, mean of logits"] = ["control", *BEFORE]
    found = {title: [scores(names, seed, options, labels) for seed in seeds] for title, names in shown.items()}
    alone = mean(found["control"])
    print_table(
        ["", "accuracy", "points over control"],
        [
            [
                title,
                f"{mean(each):.3f}" + (f" ± {stdev(each):.3f}" if len(each) > 1 else ""),
                f"{100 * (mean(each) - alone):+.1f}",
            ]
            for title, each in found.items()
        ],
    )


if __name__ == "__main__":
    main()
