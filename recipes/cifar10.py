"""Distil an image classifier: CIFAR-10 from VGG-13 to VGG-8, or any other data set, teacher and student.

    accelerate launch recipes/cifar10.py --preset quick
    accelerate launch recipes/cifar10.py --output_dir out/cifar10
    accelerate launch recipes/cifar10.py --dataset path/to/images --teacher path/to/teacher --student vgg8-half

In order: train the teacher, unless it knows these classes already; train a student and its control (the same student,
steps and seed, without the teacher) for each seed; compare all three on validation and test; save the first seed's
student with its report, plots and model card in --output_dir. A teacher that was trained on other classes keeps its
body and gets a new head; one that was trained on images of another size or normalisation gets its own, made of the
student's. What was finished is not done again when the same command is run again, and a training that was killed goes
on from its last checkpoint.

Teacher and student see the same random view of each image. There is a new one in each epoch, so the teacher answers
live; with --views N there are N of each image, the same for all seeds, and it is asked once about each. The learning
rate rises and falls once over a training; the last epoch counts, never the best one.

What to expect: quick took 37 s on two cores and gave on its test set: teacher 0.982, student 0.978 ± 0.002, control
0.973 ± 0.003. It shows that everything works, not how much distillation helps: the digits are too easy for that.
full has not been run here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import handwritten_digits
from image_methods import METHODS
from torch import Tensor

from hf_distill import DistillationTrainingArguments, Objective, VGGConfig, with_example_ids
from hf_distill.augmentation import Augmentation, Sometimes
from hf_distill.recipe import (
    EXPORTS,
    AnswerArguments,
    CardArguments,
    Preset,
    about_start,
    as_image_classification,
    asked_once,
    channels_last_collator,
    check_export,
    check_image_model,
    check_objective,
    check_push,
    check_sources,
    check_training,
    hardware_defaults,
    live_image_teacher,
    load_images,
    named_by,
    new_image_classifier,
    origin_of_student,
    parse,
    parse_seeds,
    prepare_images,
    report_results,
    run,
    suit_cpu,
    take_folder,
    train_with_controls,
    trained_image_teacher,
    weights_fingerprint,
    without_teacher,
)

NEW_MODELS = {
    "vgg8": VGGConfig.vgg8,
    "vgg11": VGGConfig.vgg11,
    "vgg13": VGGConfig.vgg13,
    "vgg16": VGGConfig.vgg16,
    "vgg19": VGGConfig.vgg19,
    "vgg8-half": partial(VGGConfig.vgg8, width=0.5),
    "vgg8-eighth": partial(VGGConfig.vgg8, width=0.125),
    "vgg13-quarter": partial(VGGConfig.vgg13, width=0.25),
}
"""Models with random weights; the second word is the width."""


@dataclass
class RecipeArguments:
    """The flags of this recipe."""

    dataset: str | None = field(
        default="uoft-cs/cifar10",
        metadata={
            "help": "Hub name (name:config where there are several), folder or file of Parquet, or folder of images."
        },
    )
    image_column: str | None = field(default=None, metadata={"help": "Image column; found if left out."})
    label_column: str | None = field(default=None, metadata={"help": "Label column; found if left out."})
    image_size: int = field(default=32, metadata={"help": "Height and width; images of another size are resized."})
    hold_out: bool = field(
        default=False,
        metadata={"help": "Hold out a tenth of each class of the training images where none are for validation."},
    )
    skip_corrupt: bool = field(default=False, metadata={"help": "Leave out images that cannot be read."})
    teacher: str = field(
        default="vgg13",
        metadata={
            "help": f"{', '.join(NEW_MODELS)}; or name or path of a checkpoint. Where it does not know these classes "
            "it is trained first and kept in SHARED_DIR/_teacher."
        },
    )
    teacher_epochs: float = field(default=30.0, metadata={"help": "Epochs of that training."})
    teacher_learning_rate: float = field(default=0.1, metadata={"help": "Highest learning rate of that training."})
    student: str = field(default="vgg8", metadata={"help": "The same names, or name or path of a checkpoint."})
    method: str = field(
        default="soft",
        metadata={
            "help": f"What the student learns: {', '.join(METHODS)}. decoupled, dist, nkd and wttm have "
            "weights of their own in place of --distillation_weight, wttm and multi_level temperatures.",
            "choices": list(METHODS),
        },
    )
    padding: int = field(default=4, metadata={"help": "Training images are shifted by up to so many pixels."})
    flip: bool = field(default=True, metadata={"help": "Mirror every second training image."})
    policy: str = field(
        default="none",
        metadata={
            "help": "RandAugment or TrivialAugment beside that; needs kornia, and is slow: give it data workers.",
            "choices": ["none", "rand", "trivial"],
        },
    )
    strong_share: float = field(default=1.0, metadata={"help": "Share of the training images that --policy changes."})
    mixup: float = field(default=0.0, metadata={"help": "Parameter of mixup; 0 for none."})
    cutmix: float = field(default=0.0, metadata={"help": "Parameter of CutMix; 0 for none."})
    views: int = field(
        default=0, metadata={"help": "So many random views of each image; 0 for a new one in each epoch."}
    )
    shared_dir: str | None = field(
        default=None,
        metadata={
            "help": "Where the trained teacher, its answers and the controls are kept; OUTPUT_DIR if left out. Runs of "
            "one student that differ in --method, --temperature or --distillation_weight alone can share theirs, also "
            "at the same time."
        },
    )
    keep_features: str = field(
        default="",
        metadata={
            "help": "Modules of the teacher, with commas between them, whose output is kept with its answers, such as "
            "vgg.pooler; 2 bytes a number. Methods that look at others ask it in every step."
        },
    )
    seeds: str = field(
        default="0", metadata={"help": "Seeds with commas between them, each for a student and a control."}
    )
    export: str = field(
        default="none",
        metadata={
            "help": "Write the student as an ONNX file too, or (int8) as two, and measure both and the teacher's.",
            "choices": list(EXPORTS),
        },
    )


SGD = {
    "optim": "sgd",
    "optim_args": "momentum=0.9,nesterov=true",
    "weight_decay": 5e-4,
    "max_grad_norm": 5.0,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0.2,
    "temperature": 4.0,
    "distillation_weight": 0.9,
    "log_level": "warning",
}
PRESETS = {
    "full": Preset(
        "CIFAR-10 from the Hub, VGG-13 to VGG-8; some five hours on two cores (an estimate), far less on a GPU.",
        {
            **hardware_defaults(),
            **SGD,
            "output_dir": "out/cifar10",
            "num_train_epochs": 30.0,
            "per_device_train_batch_size": 128,
            "per_device_eval_batch_size": 256,
            "learning_rate": 0.1,
            "save_strategy": "epoch",
            "save_total_limit": 1,
            "logging_steps": 50,
        },
    ),
    "quick": Preset(
        "Handwritten digits of scikit-learn, small VGGs; no network, under a minute on two cores.",
        {
            **SGD,
            "output_dir": "out/quick-images",
            "dataset": "",
            "image_size": 16,
            "teacher": "vgg13-quarter",
            "teacher_epochs": 15.0,
            "teacher_learning_rate": 0.05,
            "student": "vgg8-eighth",
            "padding": 1,
            "flip": False,
            "seeds": "0,1,2",
            "num_train_epochs": 6.0,
            "per_device_train_batch_size": 32,
            "per_device_eval_batch_size": 256,
            "learning_rate": 0.05,
            "use_cpu": True,
            "eval_strategy": "epoch",
            "save_strategy": "no",
            "logging_steps": 20,
        },
    ),
}


def find_policy(name: str, share: float = 1.0) -> Callable[[Tensor], Tensor] | None:
    """What --policy names, from kornia, which works without torchvision."""
    if name == "none":
        if share != 1.0:
            raise ValueError("--strong_share is the share of the images that --policy changes: name a policy.")
        return None
    try:
        from kornia.augmentation.auto import RandAugment, TrivialAugment
    except ImportError as error:
        raise ValueError(f"--policy {name} needs kornia: pip install kornia") from error
    made: Callable[[Tensor], Tensor] = TrivialAugment() if name == "trivial" else RandAugment(n=2, m=10)
    return made if share == 1.0 else Sometimes(made, share)


def with_method(args: DistillationTrainingArguments, method: str) -> tuple[DistillationTrainingArguments, Objective]:
    """The arguments without the two numbers that went into the objective, and the objective."""
    return replace(args, **without_teacher()), METHODS[method](args.temperature, args.distillation_weight)


def against_a_cache(recipe: RecipeArguments, looked_at: Set[str], kept: Set[str]) -> str | None:
    """Why the teacher's answers cannot be kept, if so, and what to do about it."""
    if not recipe.views:
        return "each epoch shows a new random view of each image. Say how many there shall be: --views N."
    if not looked_at <= kept:
        wanted = ",".join(sorted(looked_at | kept))
        return f"--method {recipe.method} looks at features that are not kept. Keep them: --keep_features {wanted}"
    return None


def main(presets: Mapping[str, Preset] = PRESETS, description: str | None = __doc__) -> None:
    """The recipe, also for others that only differ in what they set."""
    types = [RecipeArguments, AnswerArguments, CardArguments, DistillationTrainingArguments]
    recipe, kept, about_card, args = parse(types, presets, description=description)
    if recipe.dataset is None:
        raise ValueError("Say which images: --dataset PATH, of a folder with a folder of images for each class.")
    output, seeds = Path(args.output_dir), parse_seeds(recipe.seeds)
    check_export(recipe.export)
    check_training(args)
    check_push(args)
    shared = Path(recipe.shared_dir or output)
    check_sources({recipe.teacher, recipe.student} - NEW_MODELS.keys(), output, shared)
    args, objective = with_method(args, recipe.method)
    features = {path for path in recipe.keep_features.split(",") if path}
    if features and not recipe.views:
        raise ValueError(
            "--keep_features needs a fixed number of views of each image: say how many, --views N, or leave it out."
        )
    kept = kept.unless(against_a_cache(recipe, objective.teacher_layers("teacher"), features))
    policy = find_policy(recipe.policy, recipe.strong_share)
    augmentation = Augmentation(recipe.padding, recipe.flip, policy, recipe.mixup, recipe.cutmix)
    for flag, model in (("--teacher", recipe.teacher), ("--student", recipe.student)):
        check_image_model(model, flag, NEW_MODELS)
    take_folder(args)
    if recipe.dataset:
        suit_cpu(args)  # quick's models are too small to share out
    with args.main_process_first():
        source = recipe.dataset or handwritten_digits.make(output / "_made")
        data = as_image_classification(
            load_images(source),
            recipe.image_size,
            image=recipe.image_column,
            label=recipe.label_column,
            skip_corrupt=recipe.skip_corrupt,
            hold_out=recipe.hold_out,
        )
    if not data.evaluation():
        raise ValueError(
            "No labelled images are for validation or test, so there is nothing to compare on: add some, or --hold_out."
        )
    if args.eval_strategy != "no" and "validation" not in data.evaluation():
        raise ValueError(
            f"--eval_strategy {args.eval_strategy.value} needs labelled images for validation, and there are none: add "
            "some, or --hold_out, or say --eval_strategy no."
        )
    kept.check_classes(len(data.classes))
    check_objective(objective, len(data.classes), mixed_labels=bool(recipe.mixup or recipe.cutmix))
    images = prepare_images(
        data,
        augmentation,
        recipe.teacher,
        recipe.student,
        NEW_MODELS,
        recipe.views or None,
        teacher_layers=objective.teacher_layers("teacher") | features,
        student_layers=objective.student_layers(),
    )
    rows = with_example_ids(images.train) if objective.needs_example_ids else images.train

    tuning = replace(
        args,
        output_dir=str(shared / "_teacher"),
        num_train_epochs=recipe.teacher_epochs,
        max_steps=-1,
        learning_rate=recipe.teacher_learning_rate,
        seed=seeds[0],
    )
    teacher = trained_image_teacher(recipe.teacher, data, images, tuning, NEW_MODELS)
    classes = named_by(teacher, data.classes)
    answers = asked_once(
        live_image_teacher(teacher, recipe.teacher, images),
        rows,
        args,
        collator=channels_last_collator,
        kept=kept,
        folder=shared / "_teacher_cache",
        features=features,
    )
    students, controls = train_with_controls(
        lambda seed: new_image_classifier(recipe.student, classes, data.shape[0], seed, NEW_MODELS),
        args,
        rows,
        images.labelled,
        images.evaluation.get("validation"),
        teacher=answers,
        objective=objective,
        seeds=seeds,
        processing_class=images.processor,
        collator=channels_last_collator,
        about={
            "student": recipe.student,
            "images": str(images.train.transform),
            **about_start(recipe.student, NEW_MODELS),
        },
        about_teacher={"teacher": weights_fingerprint(teacher), **images.about_teacher, **kept.shortened()},
        control_folder=shared,
    )
    report = report_results(
        students,
        controls,
        teacher,
        images.evaluation,
        channels_last_collator,
        teacher_collator=images.teacher_collator,
        dataset=recipe.dataset or "handwritten digits of scikit-learn",
        origin=origin_of_student(f"config:{recipe.student}" if recipe.student in NEW_MODELS else recipe.student),
        card=about_card.for_card(recipe.dataset),
        settings={
            "height and width": recipe.image_size,
            "augmentation": str(augmentation),
            "views of an image": recipe.views or "a new one in each epoch",
            **kept.settings(objective.teacher_layers("teacher")),
        },
        export=recipe.export,
        push=args.push_to_hub,
    )
    if report is not None:
        print(f"\n{report.to_table()}\n\nStudent, by class:\n{report.classification_report()}")


if __name__ == "__main__":
    run(main)
