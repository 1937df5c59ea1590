r"""Distil several text classifiers, one a task, into one student with one encoder and a head for all tasks.

    accelerate launch recipes/multi_task.py --preset quick
    accelerate launch recipes/multi_task.py --tasks sst2=path/to/sst2,cola=path/to/cola --teacher path/to/model \
        --student path/to/model:0,3 --output_dir out/multi

In order: fine-tune a teacher for each task, unless it is fine-tuned already; ask each once about its texts; train for
each seed a student of all tasks, its control (the same student, steps and seed, without the teachers), and for each
task a student of its own that learns from the same teacher; compare them task by task. --output_dir has the first
seed's student of all tasks, and in a folder for each task the classifier that was cut out of it, with its report.

What to expect: quick, with three seeds on one core, took 4 min of its time, and gave on its test sets, sentiment and
strength: teachers 0.882 and 0.800, the student of both 0.875 ± 0.018 and 0.815 ± 0.012, its control 0.715 ± 0.200 and
0.646 ± 0.138, students of one task 0.894 ± 0.005 and 0.803 ± 0.004. A real pair of tasks: see docs/multi_task.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import sentiment_grammar

from hf_distill import (
    DistillationReport,
    DistillationTrainingArguments,
    Tasks,
    compare,
    joint_dataset,
    linear,
    multi_task_objective,
    task_model,
    with_tasks,
)
from hf_distill.recipe import (
    AnswerArguments,
    Preset,
    TextData,
    about_start,
    as_classification,
    asked_once,
    check_names,
    check_sources,
    check_training,
    fine_tuned_teacher,
    grouping_by_length,
    hardware_defaults,
    leave_together,
    live_teacher,
    load_splits,
    load_tokenizer,
    new_student,
    parse,
    parse_seeds,
    run,
    split_layers,
    suit_cpu,
    take_folder,
    tokenize_data,
    tokenizer_of_student,
    train_run,
    train_with_controls,
    weights_fingerprint,
    with_unlabelled,
    without_teacher,
)


@dataclass
class RecipeArguments:
    """The flags of this recipe."""

    tasks: str = field(
        default="sst2=nyu-mll/glue:sst2,cola=nyu-mll/glue:cola",
        metadata={"help": "NAME=DATA for each task, with commas: Hub names, folders or files. Columns are found."},
    )
    unlabelled: str | None = field(
        default=None, metadata={"help": "More texts, without labels, for all teachers to judge."}
    )
    unlabelled_examples: int | None = field(default=None, metadata={"help": "At most so many of them."})
    train_examples: int | None = field(default=None, metadata={"help": "At most so many training rows a task."})
    max_length: int = field(default=128, metadata={"help": "Longest text in tokens; the rest is cut off."})
    teacher: str = field(
        default="google-bert/bert-base-uncased",
        metadata={
            "help": "Name or path, or NAME=MODEL for each task. Without a fine-tuned head it is fine-tuned first."
        },
    )
    teacher_epochs: float = field(default=3.0, metadata={"help": "Epochs of that fine-tuning."})
    teacher_learning_rate: float = field(default=2e-5, metadata={"help": "Learning rate of that fine-tuning."})
    student: str = field(
        default="distilbert/distilbert-base-uncased",
        metadata={"help": "Name or path; NAME:0,1 for layers of a model; layers:0,1 for those of the first teacher."},
    )
    annealing: bool = field(
        default=False, metadata={"help": "From the teachers alone to the labels alone, in a straight line (BAM)."}
    )
    single: bool = field(default=True, metadata={"help": "Whether to train students of one task as well."})
    seeds: str = field(default="0", metadata={"help": "Seeds with commas between them, each for all trainings."})


PRESETS = {
    "full": Preset(
        "SST-2 and CoLA from the Hub, BERT-base to DistilBERT; for a GPU, and not tried.",
        {
            **hardware_defaults(),
            "output_dir": "out/multi_task",
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
        "Texts and models that the recipe makes itself; no network, about two minutes on one core.",
        {
            "output_dir": "out/quick_tasks",
            **dict.fromkeys(["tasks", "teacher", "student"], ""),
            "teacher_epochs": 5.0,
            "teacher_learning_rate": 5e-4,
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


def by_task(flag: str, words: str, tasks: Any = None) -> dict[str, str]:
    """What ``NAME=VALUE,NAME=VALUE`` says of each task; one VALUE alone is for all of them.

    Raises:
        ValueError: it is not of this form, or has a task twice or not at all.
    """
    if tasks and "=" not in words:
        return dict.fromkeys(tasks, words)
    pairs = [word.partition("=") for word in words.split(",")]
    found = {name.strip(): value.strip() for name, _, value in pairs}
    if len(found) < len(pairs) or not all(found.values()) or set(found) != set(tasks or found):
        wanted = f", one for each of {', '.join(tasks)}" if tasks else ", each task once"
        raise ValueError(f"{flag} {words}: write NAME=VALUE with commas between them{wanted}.")
    return found


def task_data(task: str, source: str) -> TextData:
    """The data of one task.

    Raises:
        KeyError: it is not clear which column is meant.
    """
    try:
        return as_classification(load_splits(source, "--tasks"), hold_out=True)
    except KeyError as error:
        columns = str(error.args[0]).split(" Say so with")[0]
        raise KeyError(f"Task {task}, {source}: {columns} Call the columns `text` and `label`.") from error


def main() -> None:
    types = [RecipeArguments, AnswerArguments, DistillationTrainingArguments]
    recipe, kept, args = parse(types, PRESETS, description=__doc__)
    output, seeds = Path(args.output_dir), parse_seeds(recipe.seeds)
    check_training(args)
    if args.push_to_hub:
        raise ValueError("--push_to_hub has no place here. Push the folder of a task: hf-distill push OUTPUT_DIR/NAME.")
    take_folder(args)
    if recipe.tasks:
        suit_cpu(args)
        usual = RecipeArguments()  # quick's models know the words of its own reviews alone
        recipe = replace(recipe, teacher=recipe.teacher or usual.teacher, student=recipe.student or usual.student)
    else:
        with args.main_process_first():
            made = sentiment_grammar.make(output / "_made", unlabelled=8000)
            strengths = sentiment_grammar.make_strengths(output / "_made")
        recipe = replace(
            recipe,
            tasks=f"sentiment={made.dataset},strength={strengths}",
            unlabelled=made.unlabelled if recipe.unlabelled is None else recipe.unlabelled,
            teacher=recipe.teacher or made.teacher,
            student=recipe.student or made.student,
        )
    sources = by_task("--tasks", recipe.tasks)
    names = by_task("--teacher", recipe.teacher, sources)
    check_sources([*names.values(), recipe.student], output, output)
    for name in names.values():
        check_names(name, recipe.student)
    data = {task: task_data(task, source) for task, source in sources.items()}
    if recipe.train_examples is not None:
        for one in data.values():
            count = min(recipe.train_examples, len(one.splits["train"]))
            one.splits["train"] = one.splits["train"].shuffle(seed=0).select(range(count))
    tasks = Tasks({task: one.classes for task, one in data.items()})
    about = {"student": recipe.student, **about_start(recipe.student)}

    first = next(iter(tasks))
    source = names[first] if split_layers(recipe.student)[0] == "layers" else recipe.student
    teachers, answers, theirs, ours = {}, {}, {}, {}
    for task, name in names.items():
        theirs_alone = load_tokenizer(name)
        tuning = replace(
            args,
            output_dir=str(output / f"_teacher-{task}"),
            num_train_epochs=recipe.teacher_epochs,
            max_steps=-1,
            learning_rate=recipe.teacher_learning_rate,
            seed=seeds[0],
            **without_teacher(),
        )
        teachers[task] = fine_tuned_teacher(name, data[task], theirs_alone, tuning, recipe.max_length)
        more, others = data[task], list(data.values())
        if recipe.unlabelled:
            more = with_unlabelled(more, recipe.unlabelled, recipe.unlabelled_examples, others)
        tokenizer = tokenizer_of_student(source, theirs_alone)
        same = tokenizer is theirs_alone
        theirs[task] = tokenize_data(more, theirs_alone, recipe.max_length)
        ours[task] = theirs[task] if same else tokenize_data(more, tokenizer, recipe.max_length, keep_text=True)
        live = live_teacher(
            teachers[task], name.removeprefix("config:"), theirs_alone, None if same else more, recipe.max_length
        )
        folder = output / f"_teacher-{task}" / "_answers"
        answers[task] = asked_once(live, ours[task].train, args, collator=ours[task].collator, kept=kept, folder=folder)
        about[f"teacher of {task}"] = weights_fingerprint(teachers[task])
    labelled = {task: one.labelled for task, one in ours.items()}
    plain = {"processing_class": ours[first].tokenizer, "collator": ours[first].collator}
    objective, settings = None, args
    if recipe.annealing:
        objective = multi_task_objective(tasks, tasks, args.temperature, linear(1.0, 0.0))
        settings = replace(args, **without_teacher())
    students, controls = train_with_controls(
        lambda seed: with_tasks(new_student(recipe.student, teachers[first], tasks[first], seed), tasks),
        settings,
        joint_dataset({**labelled, first: ours[first].train}, tasks),  # unlabelled texts once
        joint_dataset(labelled, tasks),
        joint_dataset({task: one.evaluation["validation"] for task, one in ours.items()}, tasks),
        teacher=answers,
        objective=objective,
        seeds=seeds,
        about=about,
        about_teacher=kept.shortened(),
        **plain,
    )
    alone = {
        task: [
            train_run(
                f"student of {task} alone, seed {seed}",
                partial(new_student, recipe.student, teachers[task], tasks[task], seed),
                replace(args, output_dir=str(output / f"_{task}-seed{seed}"), seed=seed),
                ours[task].train,
                ours[task].evaluation["validation"],
                teacher=answers[task],
                about={**about, **kept.shortened()},
                **plain,
            )
            for seed in seeds
        ]
        for task in (tasks if recipe.single else ())
    }

    leave_together()
    if not students[0].is_world_process_zero():
        return
    for task in tasks:

        def compared(models: list[Any], controls: Sequence[Any] = (), task: str = task) -> DistillationReport:
            return compare(
                models,
                teachers[task],
                ours[task].evaluation,
                controls,
                data_collator=ours[task].collator,
                teacher_dataset=theirs[task].evaluation,
                teacher_collator=theirs[task].collator,
                seeds=seeds,
                dataset_name=task,
                batch_size=args.eval_batch_size,
            )

        folder = output / task
        cut = [task_model(trainer.model, task) for trainer in students]
        report = compared(cut, [task_model(trainer.model, task) for trainer in controls])
        report.save(folder)
        cut[0].save_pretrained(folder)
        ours[task].tokenizer.save_pretrained(folder)
        print(f"\n{task}: the student of all tasks\n{report.to_table()}")
        if recipe.single:
            report = compared([trainer.model for trainer in alone[task]])
            report.save(alone[task][0].args.output_dir)
            print(f"\n{task}: the student of this task alone\n{report.to_table()}")


if __name__ == "__main__":
    run(main)
