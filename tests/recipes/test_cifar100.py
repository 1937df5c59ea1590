"""What the recipe sets; the rest is that of CIFAR-10."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))

import cifar10
import cifar100

from hf_distill import DistillationTrainingArguments
from hf_distill.recipe import parse

TYPES = [cifar10.RecipeArguments, DistillationTrainingArguments]


def test_the_fine_labels_and_the_schedule_of_the_literature() -> None:
    recipe, args = parse(TYPES, cifar100.PRESETS, [])
    assert (recipe.dataset, recipe.label_column, recipe.image_size) == ("uoft-cs/cifar100", "fine_label", 32)
    assert (recipe.teacher, recipe.student) == ("vgg13", "vgg8")
    assert args.num_train_epochs == recipe.teacher_epochs == 240
    assert args.learning_rate == recipe.teacher_learning_rate == 0.05
    assert (args.per_device_train_batch_size, args.optim_args, args.weight_decay) == (64, "momentum=0.9", 5e-4)


def test_a_flag_wins() -> None:
    recipe, args = parse(TYPES, cifar100.PRESETS, ["--label_column", "coarse_label", "--learning_rate", "0.1"])
    assert (recipe.label_column, args.learning_rate) == ("coarse_label", 0.1)
