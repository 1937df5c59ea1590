"""The model card: what was distilled from what, how, and how well it went.

A card says nothing that is not in the facts or in the report it is given, and it holds no local path and no token.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hf_distill.deployment_table import COLUMNS, MISSING, deployment_cells, deployment_notes
from hf_distill.figures import MODELS, class_rows, figure, is_number, measure_rows
from hf_distill.hub_codes import check_language, check_license
from hf_distill.hub_names import data_link, hub_dataset, hub_id, link, plain_name
from hf_distill.redaction import public_settings, redacted
from hf_distill.report import flag_by_flag, training_notes
from hf_distill.serving import TEI_ARCHITECTURES, endpoint_name
from hf_distill.templating import template

TASK_NAMES = {"text-classification": "Text Classification", "image-classification": "Image Classification"}
CLASS_COLUMNS = ("Class", "Precision", "Recall", "F1")
ARXIV = re.compile(r"arXiv:? ?(\d{4}\.\d{4,5})")


@dataclass(frozen=True)
class TeacherFacts:
    """Whom the student learned from.

    Args:
        name: A name on the Hub such as ``org/name``, or a description in words.
        revision: The commit of the Hub repository that was used.
    """

    name: str
    revision: str | None = None


@dataclass(frozen=True)
class CardFacts:
    """What is known about a student apart from its results.

    Args:
        model_name: The title of the card.
        task: ``text-classification`` or ``image-classification``.
        repo_id: Where the model will be on the Hub; makes the example of use run as it stands.
        teachers: Whom the student learned from; empty for training without a teacher.
        base_model: The Hub name of the weights that the student started from. ``None`` for a student built from
            a config. A local path is left out, because a link to it would be broken.
        student_origin: Where a student without ``base_model`` came from, such as ``layers 0 and 2 of the teacher``.
        base_model_relation: How the student derives from ``base_model``, in the Hub's words; ``None`` where none fits.
        datasets: The training data: ``owner/name`` or ``owner/name:configuration`` on the Hub, or local paths, which
            are shown by their last name only, or words.
        dataset_tags: Hub names of the training data, as far as ``datasets`` does not give them with their owners.
        language: Codes such as ``en``; for text.
        license: The Hub's identifier, such as ``apache-2.0``.
        tags: Tags beyond those that every card gets.
        labels: The class names.
        objective: The terms of the loss in words, as ``Objective.describe()`` gives them.
        training: The settings: learning rate, batch size, epochs, precision, seed and the like; those in a report
            come first.
        versions: The versions of the libraries.
        references: The papers behind losses, terms and teachers, one line each; see :func:`sources`.
        limits: What a user should know about this model beyond what every card says.
        brings_code: Whether the model's own code lies beside its weights, because transformers has no such model.
        architecture: The ``model_type`` of its config, such as ``bert``.
        onnx_file: Where among the files the model lies as ONNX; ``None`` if it does not.
        plots: The pictures among the files, with what they show.
    """

    model_name: str
    task: str
    repo_id: str | None = None
    teachers: Sequence[TeacherFacts] = ()
    base_model: str | None = None
    base_model_relation: str | None = "finetune"
    student_origin: str | None = None
    datasets: Sequence[str] = ()
    dataset_tags: Sequence[str] = ()
    language: str | Sequence[str] | None = None
    license: str | None = None
    tags: Sequence[str] = ()
    labels: Sequence[str] = ()
    objective: Mapping[str, str] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    references: Sequence[str] = ()
    limits: Sequence[str] = ()
    brings_code: bool = False
    architecture: str | None = None
    onnx_file: str | None = None
    plots: Mapping[str, str] = field(default_factory=dict)


def write_card(facts: CardFacts, report: Mapping[str, Any] | None = None) -> ModelCard:
    """Write the card of a student.

    Args:
        facts: What the student is and how it was trained.
        report: The content of ``report.json``. Without it the card says that no results were recorded.

    Returns:
        The card, with the Hub's metadata; ``card.save(path)`` writes it.

    Raises:
        ValueError: the task is neither text nor image classification, or the Hub knows no such licence or language.

    Example:
        >>> facts = CardFacts("tiny-sentiment", "text-classification", teachers=[TeacherFacts("org/large-sentiment")])
        >>> card = write_card(facts)
        >>> card.data.pipeline_tag, "No results were recorded" in card.text
        ('text-classification', True)
    """
    if facts.task not in TASK_NAMES:
        raise ValueError(f"A card's task must be one of {', '.join(TASK_NAMES)}; got {facts.task!r}.")
    check_license(facts.license)
    check_language(facts.language)
    facts = _publishable(facts)
    if report is not None:
        absent = dict.fromkeys(("split", "examples", "control", "command", "deployment", "training"))
        report = redacted({**absent, **report, "machine": public_settings(report.get("machine") or {})})
    deployment, trainings = ((report or {}).get(name) or {} for name in ("deployment", "training"))
    text = template("model_card.md", FILTERS).render(
        facts=facts,
        report=report,
        trainings=trainings,
        settings=public_settings(trainings.get("settings") or facts.training),
        teachers=[link(teacher.name) for teacher in facts.teachers],
        origins=_origins(facts),
        onnx_route=_onnx_route(facts.onnx_file, facts.task) if facts.onnx_file else "",
        served_by_tei=facts.task == "text-classification" and facts.architecture in TEI_ARCHITECTURES,
        evaluation=_evaluation(report) if report is not None else None,
        versions=(report or {}).get("versions") or facts.versions,
        training_notes=training_notes((report or {}).get("student") or {}),
        deployed=_deployed(deployment) if deployment else "",
        limits=_limits(facts, report),
    )
    return ModelCard(f"---\n{_metadata(facts, report).to_yaml()}\n---\n\n{text}")


def with_deployment(card: str, deployment: Mapping[str, Any]) -> str | None:
    """A card with what a report says about PyTorch, ONNX and int8, in place of what the card said before.

    Args:
        card: The text of a card that :func:`write_card` wrote.
        deployment: That section of the report.

    Returns:
        The new text; ``None`` where the card is another one, with no place for this.
    """
    return _with_section(card, r"^## (?:Training|Limits)$", lambda task: _deployed(redacted(deployment)))


def with_onnx_route(card: str, file: str) -> str | None:
    """A card that shows how the model is served from an ONNX file.

    Args:
        card: The text of a card that :func:`write_card` wrote.
        file: The ONNX file, within the folder.

    Returns:
        The new text; ``None`` where the card is another one, with no place for this.
    """
    return _with_section(card, r"^### Inference Endpoints$", lambda task: _onnx_route(file, task))


def sources(methods: Iterable[object]) -> list[str]:
    """The papers behind losses, terms and teachers, from the ``Source`` section of their docstrings, if they have one.

    Example:
        >>> class SoftTargets:
        ...     '''Soft targets.
        ...
        ...     Source:
        ...         Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2.
        ...     '''
        >>> sources([SoftTargets()])
        ['SoftTargets: Hinton, Vinyals, Dean 2015, [arXiv:1503.02531](https://arxiv.org/abs/1503.02531), section 2.']
    """
    found = {}
    for method in methods:
        section = re.search(r"^Source:\n((?: +.*\n?)+)", inspect.getdoc(type(method)) or "", re.MULTILINE)
        if section:
            text = " ".join(section[1].replace("``", "`").split())
            found[type(method).__name__] = ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", text)
    return [f"{name}: {text}" for name, text in found.items()]


def _publishable(facts: CardFacts) -> CardFacts:
    """The facts without secrets and local paths; a base model or a repository that is not on the Hub is dropped."""
    clean = {entry.name: redacted(getattr(facts, entry.name)) for entry in fields(facts)}
    clean["training"] = public_settings(facts.training)
    clean["teachers"] = [TeacherFacts(redacted(teacher.name), teacher.revision) for teacher in facts.teachers]
    clean["model_name"] = clean["model_name"].rstrip("/").split("/")[-1]
    clean["base_model"] = hub_id(facts.base_model) if facts.base_model else None
    clean["repo_id"] = facts.repo_id if facts.repo_id and "/" in facts.repo_id and hub_id(facts.repo_id) else None
    return replace(facts, **clean)


def _metadata(facts: CardFacts, report: Mapping[str, Any] | None) -> ModelCardData:
    results = _eval_results(facts, report) if report is not None else []
    tags = [*(["knowledge-distillation"] if facts.teachers else []), "hf-distill", *facts.tags]
    return ModelCardData(
        language=listed(facts.language) or None,
        license=facts.license,
        library_name="transformers",
        pipeline_tag=facts.task,
        base_model=facts.base_model,
        base_model_relation=facts.base_model_relation if facts.base_model else None,
        datasets=_on_the_hub(facts) or None,
        metrics=sorted({result.metric_type for result in results}) or None,
        tags=tags,
        model_name=facts.model_name if results else None,
        eval_results=results or None,
    )


def _eval_results(facts: CardFacts, report: Mapping[str, Any]) -> list[EvalResult]:
    """The student's accuracy and macro F1 in the form that the Hub shows beside the card."""
    dataset = str(report.get("dataset") or "unknown")
    repository, configuration = hub_dataset(dataset, facts.dataset_tags)
    seeds = len(report.get("seeds") or [])
    suffix = f" (mean of {seeds} seeds)" if seeds > 1 else ""
    splits = {str(report.get("split") or "unknown"): report, **(report.get("other_splits") or {})}
    return [
        EvalResult(
            task_type=facts.task,
            task_name=TASK_NAMES[facts.task],
            dataset_type=repository or "unknown",
            dataset_name=repository or plain_name(dataset),
            dataset_config=configuration,
            dataset_split=split,
            metric_type=metric,
            metric_name=name + suffix,
            metric_value=round(float(scores["student"][key]), 4),
        )
        for split, scores in splits.items()
        for key, metric, name in (("accuracy", "accuracy", "Accuracy"), ("macro_f1", "f1", "Macro F1"))
        if is_number((scores.get("student") or {}).get(key))
    ]


def _evaluation(report: Mapping[str, Any]) -> dict[str, Any]:
    """The report's figures as the template shows them."""
    models = [name for name in MODELS if report.get(name)]
    compared = [name for name in models if name != "student"]
    relations = (
        ("Agreement with the teacher's decisions", figure(report, "agreement", ".3f")),
        ("KL divergence from the teacher, nats", figure(report, "kl_nats", ".3f")),
        ("Gap closed, (student − control) / (teacher − control) in accuracy", figure(report, "gap_closed", ".2f")),
    )
    return {
        "dataset": data_link(str(report["dataset"])) if report.get("dataset") else "data without a name",
        "seeds": report.get("seeds") or [],
        "columns": ["", *(name.capitalize() for name in models)],
        "rows": _titled(measure_rows(report, models)),
        "other_splits": {
            split: _titled(measure_rows(scores, models, main=False))
            for split, scores in (report.get("other_splits") or {}).items()
        },
        "relations": [(name, value) for name, value in relations if value != MISSING],
        "class_columns": [*CLASS_COLUMNS, *(f"{name.capitalize()} F1" for name in compared), "Examples"],
        "classes": class_rows(report, compared),
    }


def _titled(rows: Iterable[Sequence[str]]) -> list[list[str]]:
    """The rows of a table with a capital at the beginning of each."""
    return [[label[0].upper() + label[1:], *cells] for label, *cells in rows]


def _with_section(card: str, following: str, write: Callable[[str], str]) -> str | None:
    """A card with a section in place of the one of its heading, or where there is none, before the following one."""
    task = ModelCard(card).data.get("pipeline_tag")
    after = re.search(following, card, re.MULTILINE)
    if task not in TASK_NAMES or after is None:
        return None
    section = write(task)
    before = card[: after.start()]
    start = before.find(section[: section.index("\n") + 1])
    return (before if start < 0 else before[:start]) + section + card[after.start() :]


def _deployed(deployment: Mapping[str, Any]) -> str:
    """The section about PyTorch, ONNX and int8."""
    text: str = template("deployment.md", FILTERS).render(
        deployment=deployment,
        dataset=data_link(str(deployment["dataset"])),
        columns=["", *(title for [title] in _titled(zip(COLUMNS, strict=True)))],
        rows=_titled(deployment_cells(deployment)),
        notes=deployment_notes(deployment),
    )
    return text


def _onnx_route(file: str, task: str) -> str:
    """The section about ONNX Runtime."""
    text: str = template("onnx_route.md", FILTERS).render(file=file, task=task)
    return text


def _origins(facts: CardFacts) -> list[tuple[str, str]]:
    """Teacher, student and data, as far as they are known."""
    teachers = [
        link(teacher.name) + (f" at revision `{teacher.revision}`" if teacher.revision else "")
        for teacher in facts.teachers
    ]
    lines = (
        ("Teachers" if len(teachers) > 1 else "Teacher", ", ".join(teachers)),
        ("Student", f"started from {link(facts.base_model)}" if facts.base_model else facts.student_origin),
        ("Data", ", ".join(map(data_link, facts.datasets))),
        ("Language", ", ".join(listed(facts.language))),
    )
    return [(title, value) for title, value in lines if value]


def _limits(facts: CardFacts, report: Mapping[str, Any] | None) -> list[str]:
    """What nobody has shown about this model, so that nobody takes it for granted."""
    others = "domains and languages" if facts.task == "text-classification" else "cameras, sizes and subjects"
    limits = []
    if report is None:
        limits.append("No results were recorded: test it on your own data before you rely on it.")
    else:
        limits.append(
            f"The figures hold for the data named above. Other {others}, inputs made to mislead, and "
            "differences between groups of people were not tested."
        )
        if len(seeds := report.get("seeds") or []) < 2:
            known = "There was one training run: how" if seeds else "How"
            limits.append(f"{known} far the figures vary with the seed is not known.")
        if not report.get("control"):
            limits.append("There is no control: how much of the result is owed to the teacher is not known.")
        if any((report.get(model) or {}).get("latency_ms") for model in MODELS):
            limits.append("Latency and throughput hold for the machine named above.")
    if facts.teachers:
        limits.append("A distilled model takes over errors and biases of its teacher, and adds its own.")
    return [*limits, *facts.limits]


def _on_the_hub(facts: CardFacts) -> list[str]:
    """The training data on the Hub, each once."""
    named = [hub_dataset(name, facts.dataset_tags)[0] for name in facts.datasets]
    return [name for name in dict.fromkeys([*named, *map(hub_id, facts.dataset_tags)]) if name]


def listed(value: str | Sequence[str] | None) -> list[str]:
    """One or several as a list."""
    return [value] if isinstance(value, str) else list(value or ())


def _cell(value: Any) -> str:
    """A value that cannot break out of a table or turn into HTML."""
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")


def _code(value: Any) -> str:
    """A value in code font, which needs no other escaping in a table."""
    return "`" + " ".join(str(value).split()).replace("|", "\\|").replace("`", "'") + "`"


FILTERS = {"cell": _cell, "code": _code, "endpoint_name": endpoint_name, "flag_by_flag": flag_by_flag}
