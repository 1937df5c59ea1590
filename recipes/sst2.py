"""Distil a BERT-style text classifier: sentiment on SST-2, or any other data set of texts or pairs of texts.

    accelerate launch recipes/sst2.py --preset quick
    accelerate launch recipes/sst2.py --output_dir out/sst2
    accelerate launch recipes/sst2.py --dataset path/to/data --teacher path/to/teacher --student layers:0,1

In order: fine-tune the teacher, unless it is fine-tuned already; ask it once about every training text; train a
student and its control (the same student, steps and seed, without the teacher) for each seed; compare all three on
validation and test; save the first seed's student with its report, plots and model card in --output_dir. What was
finished is not done again when the same command is run again, and a training that was killed goes on from its last
checkpoint.

What to expect: quick took 2 min 22 s on two cores without a GPU, and gave on its test set: teacher 0.913, student
0.915 ± 0.002, control 0.891 ± 0.017, over three seeds. For full, the literature has 0.93 for BERT-base and 0.913 for
DistilBERT on the validation set of SST-2 (arXiv:1910.01108); it has not been run here. SST-2 with smaller models, soft
against hard and mixed targets, and unlabelled texts: see model_cards/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import sentiment_grammar

from hf_distill import DistillationTrainingArguments, LogitTerm, Objective
from hf_distill.losses import HardTargetLoss
from hf_distill.recipe import (
    EXPORTS,
    AnswerArguments,
    CardArguments,
    Preset,
    about_start,
    as_classification,
    asked_once,
    check_export,
    check_names,
    check_push,
    check_sources,
    check_training,
    fine_tuned_teacher,
    grouping_by_length,
    hardware_defaults,
    live_teacher,
    load_splits,
    load_tokenizer,
    named_by,
    new_student,
    origin_of_student,
    parse,
    parse_seeds,
    report_results,
    run,
    suit_cpu,
    take_folder,
    tokenize_data,
    tokenizer_of_student,
    train_with_controls,
    weights_fingerprint,
    with_unlabelled,
    without_teacher,
)


@dataclass
class RecipeArguments:
    """The flags of this recipe."""

    dataset: str = field(
        default="stanfordnlp/sst2",
        metadata={
            "help": "Hub name (name:config where there are several), folder or file of Parquet, CSV, JSON lines."
        },
    )
    text_column: str | None = field(
        default=None, metadata={"help": "Text column, or two with a comma; found if left out."}
    )
    label_column: str | None = field(default=None, metadata={"help": "Label column; found if left out."})
    unlabelled: str | None = field(
        default=None, metadata={"help": "More texts, without labels, for the teacher to judge."}
    )
    unlabelled_examples: int | None = field(default=None, metadata={"help": "At most so many of them."})
    max_length: int = field(default=128, metadata={"help": "Longest text in tokens; the rest is cut off."})
    teacher: str = field(
        default="google-bert/bert-base-uncased",
        metadata={
            "help": "Name or path. Without a fine-tuned head it is fine-tuned first and kept in SHARED_DIR/_teacher."
        },
    )
    teacher_epochs: float = field(default=3.0, metadata={"help": "Epochs of that fine-tuning."})
    teacher_learning_rate: float = field(default=2e-5, metadata={"help": "Learning rate of that fine-tuning."})
    student: str = field(
        default="distilbert/distilbert-base-uncased",
        metadata={
            "help": "Name or path; layers:0,1 for layers of the fine-tuned teacher; NAME:0,1 for those of a model."
        },
    )
    target: str = field(
        default="soft",
        metadata={
            "help": "What the student learns: the teacher's probabilities (soft) or decisions (hard) alone, without "
            "labels; or (mixed) its probabilities and the labels, weighted by --distillation_weight.",
            "choices": ["soft", "hard", "mixed"],
        },
    )
    shared_dir: str | None = field(
        default=None,
        metadata={
            "help": "Where the fine-tuned teacher, its answers and the controls are kept; OUTPUT_DIR if left out. Runs "
            "that differ in --target, --temperature or --distillation_weight alone can share theirs, also at the same "
            "time."
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


PRESETS = {
    "full": Preset(
        "SST-2 from the Hub, BERT-base to DistilBERT; about half an hour on a recent GPU (an estimate).",
        {
            **hardware_defaults(),
            "output_dir": "out/sst2",
            "num_train_epochs": 3.0,
            "per_device_train_batch_size": 64,
            "per_device_eval_batch_size": 64,
            "learning_rate": 5e-5,
            "warmup_steps": 0.06,
            "weight_decay": 0.01,
            **grouping_by_length(),
            "eval_strategy": "epoch",
            "save_strategy": "epoch",
            "save_total_limit": 1,
            "logging_steps": 50,
            "log_level": "warning",
        },
    ),
    "quick": Preset(
        "Texts and models that the recipe makes itself; no network, under three minutes on two cores.",
        {
            "output_dir": "out/quick",
            **dict.fromkeys(["dataset", "teacher", "student"], ""),
            "teacher_epochs": 5.0,
            "teacher_learning_rate": 5e-4,
            "seeds": "0,1,2",
            "num_train_epochs": 2.0,
            "per_device_train_batch_size": 32,
            "per_device_eval_batch_size": 256,
            "learning_rate": 1e-3,
            "warmup_steps": 0.1,
            "weight_decay": 0.01,
            "use_cpu": True,
            **grouping_by_length(),
            "eval_strategy": "epoch",
            "save_strategy": "no",
            "logging_steps": 50,
            "log_level": "warning",
        },
    ),
}


def with_target(
    args: DistillationTrainingArguments, target: str
) -> tuple[DistillationTrainingArguments, Objective | None]:
    """The arguments and the objective that a target stands for.

    Raises:
        ValueError: a number was given that this target does not have.
    """
    unused = {"soft": ["distillation_weight"], "hard": ["distillation_weight", "temperature"], "mixed": []}[target]
    if given := [f"--{name}" for name in unused if getattr(args, name) != without_teacher()[name]]:
        raise ValueError(f"--target {target} has no {' and no '.join(given)}: leave it out, or use --target mixed.")
    if target == "soft":
        return replace(args, distillation_weight=1.0), None
    if target == "hard":
        return replace(args, **without_teacher()), Objective(hard=LogitTerm(HardTargetLoss()))
    return args, None


def main() -> None:
    types = [RecipeArguments, AnswerArguments, CardArguments, DistillationTrainingArguments]
    recipe, kept, about_card, args = parse(types, PRESETS, description=__doc__)
    output, seeds = Path(args.output_dir), parse_seeds(recipe.seeds)
    check_export(recipe.export)
    check_training(args)
    check_push(args)
    shared = Path(recipe.shared_dir or output)
    check_sources((recipe.teacher, recipe.student), output, shared)
    args, objective = with_target(args, recipe.target)
    name = recipe.dataset or "film reviews from a grammar"
    language = "en" if recipe.dataset in ("", RecipeArguments.dataset) else None
    card = about_card.for_card(recipe.dataset, recipe.unlabelled, language=language)
    take_folder(args)
    usual: RecipeArguments | sentiment_grammar.Made = RecipeArguments()
    if recipe.dataset:
        suit_cpu(args)  # quick's models are too small to share out
    else:
        with args.main_process_first():
            usual = sentiment_grammar.make(output / "_made")
    recipe = replace(
        recipe,
        dataset=recipe.dataset or usual.dataset,
        unlabelled=usual.unlabelled if recipe.unlabelled is None else recipe.unlabelled,
        teacher=recipe.teacher or usual.teacher,
        student=recipe.student or usual.student,
    )
    data = as_classification(load_splits(recipe.dataset), recipe.text_column, recipe.label_column, hold_out=True)
    kept.check_classes(len(data.classes))
    check_names(recipe.teacher, recipe.student)
    teacher_tokenizer = load_tokenizer(recipe.teacher)
    tokenizer = tokenizer_of_student(recipe.student, teacher_tokenizer)
    more = with_unlabelled(data, recipe.unlabelled, recipe.unlabelled_examples) if recipe.unlabelled else data

    tuning = replace(
        args,
        output_dir=str(shared / "_teacher"),
        num_train_epochs=recipe.teacher_epochs,
        max_steps=-1,
        learning_rate=recipe.teacher_learning_rate,
        seed=seeds[0],
        **without_teacher(),
    )
    teacher = fine_tuned_teacher(recipe.teacher, data, teacher_tokenizer, tuning, recipe.max_length)
    classes = named_by(teacher, data.classes)
    about = {"student": recipe.student, "teacher": weights_fingerprint(teacher), **about_start(recipe.student)}
    same_tokens = tokenizer is teacher_tokenizer
    theirs = tokenize_data(more, teacher_tokenizer, recipe.max_length)
    ours = theirs if same_tokens else tokenize_data(more, tokenizer, recipe.max_length, keep_text=True)
    name_of_teacher = recipe.teacher.removeprefix("config:")
    answers = asked_once(
        live_teacher(teacher, name_of_teacher, teacher_tokenizer, None if same_tokens else more, recipe.max_length),
        ours.train,
        args,
        collator=ours.collator,
        kept=kept,
        folder=shared / "_teacher_cache",
    )

    students, controls = train_with_controls(
        lambda seed: new_student(recipe.student, teacher, classes, seed),
        args,
        ours.train,
        ours.labelled,
        ours.evaluation.get("validation"),
        teacher=answers,
        objective=objective,
        seeds=seeds,
        processing_class=tokenizer,
        collator=ours.collator,
        about=about,
        about_teacher=kept.shortened(),
        control_folder=shared,
    )
    report = report_results(
        students,
        controls,
        teacher,
        ours.evaluation,
        ours.collator,
        teacher_evaluation=theirs.evaluation,
        teacher_collator=theirs.collator,
        dataset=name,
        origin=origin_of_student(recipe.student),
        card=card,
        settings={"longest text in tokens": recipe.max_length, **kept.shortened()},
        export=recipe.export,
        push=args.push_to_hub,
    )
    if report is not None:
        print(f"\n{report.to_table()}\n\nStudent, by class:\n{report.classification_report()}")


if __name__ == "__main__":
    run(main)
