"""Index and cards of ``model_cards/`` are what the reports beside them say, and the Hub would take them."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import huggingface_hub
import pytest
from card_rules import errors_of
from hub_server import HubServer
from huggingface_hub import ModelCard

from hf_distill.deployment_table import deployment_cells, deployment_notes
from hf_distill.figures import MODELS, class_rows, figure, measure_rows
from hf_distill.model_card import CardFacts, write_card
from hf_distill.report import training_notes

CARDS = Path(__file__).parent.parent / "model_cards"
NAMES = sorted(path.stem for path in CARDS.glob("*.md") if path.name != "README.md")


@pytest.fixture(scope="module")
def index() -> ModuleType:
    spec = importlib.util.spec_from_file_location("model_cards_index", CARDS / "index.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_index_is_up_to_date(index: ModuleType) -> None:
    text = (CARDS / "README.md").read_text(encoding="utf-8")
    assert text == index.with_parts(text, index.parts()), "run `python model_cards/index.py`"


def test_every_card_has_a_row_with_the_figures_and_the_command_of_its_report() -> None:
    text = (CARDS / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| \[([\w.-]+)\]\(\1\.md\) \| (.*)$", text, re.MULTILINE))
    assert sorted(rows) == NAMES == sorted(path.stem for path in CARDS.glob("*.json"))
    for name, row in rows.items():
        report = json.loads((CARDS / f"{name}.json").read_text(encoding="utf-8"))
        for model in ("teacher", "student", "control"):
            assert f"| {report[model]['accuracy']:.3f}" in row
        assert f"| {report['student']['size_mb']:.1f} of {report['teacher']['size_mb']:.1f} |" in row
        assert f"{report['student']['latency_ms']['p50']:.2f}" in row
        assert f"### {name}\n\n```bash\n{report['command']}\n```\n" in text.replace(" \\\n ", "")
        assert f"[below](#{name})" in row


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_what_its_report_says(name: str) -> None:
    card = ModelCard.load(CARDS / f"{name}.md")
    report = json.loads((CARDS / f"{name}.json").read_text(encoding="utf-8"))
    results = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert results["accuracy"] == round(report["student"]["accuracy"], 4)
    assert results["f1"] == round(report["student"]["macro_f1"], 4)
    assert report["command"] in card.text.replace(" \\\n ", "")


@pytest.mark.parametrize("name", NAMES)
def test_all_tables_and_notes_of_a_card_are_its_reports(name: str) -> None:
    """Line by line from the results to the training, and after it all that the report knows."""
    text = (CARDS / f"{name}.md").read_text(encoding="utf-8")
    report = json.loads((CARDS / f"{name}.json").read_text(encoding="utf-8"))
    results, training = re.search(r"\n## Results\n(.*)\n## Training\n(.*)\n## Serving\n", text, re.DOTALL).groups()
    deployment, others = report.get("deployment"), report["other_splits"].values()
    rows = [
        *measure_rows(report, MODELS),
        *class_rows(report, ["teacher", "control"]),
        *(row for split in others for row in measure_rows(split, MODELS, main=False)),
        *(deployment_cells(deployment) if deployment else []),
    ]
    said = [cells for cells in table_rows(results) if cells[0] and cells[0] != "Class"]
    assert [(cells[0].lower(), cells[1:]) for cells in said] == [(label.lower(), cells) for label, *cells in rows]
    assert re.findall("^- (?:In float32|The .* int8).*", results, re.MULTILINE) == [
        f"- {note}" for note in (deployment_notes(deployment) if deployment else [])
    ]
    relations = ("agreement", ".3f"), ("kl_nats", ".3f"), ("gap_closed", ".2f")
    found = re.findall(r"^- (?:Agreement|KL|Gap closed).*: (.*)$", results, re.MULTILINE)
    assert found == [figure(report, key, spec) for key, spec in relations]

    notes = training_notes(report["student"])
    assert re.findall(r"^Training: .*$", training, re.MULTILINE) == notes
    known = {**report["machine"], **report["versions"], **(report.get("training") or {}).get("settings", {})}
    shown = dict(table_rows(training))
    for key, value in known.items():
        assert shown.get(key) == (str(value) if value not in (None, "") else None)


def table_rows(text: str) -> list[list[str]]:
    """The cells of all tables in Markdown, without the lines under their heads."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("|:")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_what_a_card_says_in_words(index: ModuleType) -> None:
    card = (
        "# A\n\n- Teacher: t\n- Data: d\n\n| Name in the logs | Term |\n|:--|:--|\n"
        "| ce | `LabelTerm(weight=0.5)` |\n| kd | `LogitTerm(SoftTargetLoss(temperature=2.0), weight=0.5)` |\n"
        "| training examples | 1200 |\n| of them without a label | 200 |\n"
    )
    assert index.terms(card) == ["0.5 labels", "0.5 SoftTargetLoss"]
    assert index.terms("| a.b | `FeatureTerm(HintLoss(), pairs=[1, 2], weight=1.0)` |") == ["HintLoss"]
    assert index.data(card) == "d, 1,200 examples, 200 of them unlabelled"
    assert index.data("- Data: d\n") == "d"
    with pytest.raises(ValueError, match=r"The card \['# A'\] has no line '- Student: \.\.\.'"):
        index.fact(card, "Student")


@pytest.fixture(scope="module")
def hub() -> Iterator[None]:
    with HubServer("") as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        patch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        yield


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("name", NAMES)
def test_the_librarys_own_validation_takes_a_card(name: str) -> None:
    card = ModelCard.load(CARDS / f"{name}.md")
    card.validate()
    again = huggingface_hub.ModelCardData(**card.data.to_dict())
    assert again.eval_results == card.data.eval_results
    assert again.to_dict() == card.data.to_dict()


def generated(license: str | None = "apache-2.0", language: str = "en") -> ModelCard:
    origin = {"base_model": "org/base", "datasets": ["nyu-mll/glue:sst2", "/home/anna/more"]}
    facts = CardFacts("x", "text-classification", license=license, language=language, **origin)
    scores = {"student": {"accuracy": 0.9, "macro_f1": 0.8}, "dataset": "nyu-mll/glue:sst2", "split": "test"}
    return write_card(facts, {**scores, "other_splits": {"validation": {"student": {"accuracy": 0.7}}}})


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("right", "wrong"), [("license: apache-2.0", "license: Apache 2"), ("language:\n- en", "language:\n- English")]
)
def test_the_librarys_own_validation_takes_a_generated_card_and_refuses_a_bad_one(right: str, wrong: str) -> None:
    text = str(generated())
    ModelCard(text).validate()
    assert right in text
    with pytest.raises(ValueError, match=wrong.split()[-1]):
        ModelCard(text.replace(right, wrong)).validate()


def test_what_would_be_refused_is_not_written() -> None:
    with pytest.raises(ValueError, match=r"did you mean apache-2\.0"):
        generated(license="Apache 2")
    with pytest.raises(ValueError, match="'English' is no code of a language"):
        generated(language="English")


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        ("base_model: org/base", "base_model: a/b/c", "base_model"),
        ("- nyu-mll/glue\n", "- path/to/glue\n", "datasets"),
        ("type: nyu-mll/glue", "type: my reviews", "name on the Hub"),
        ("      type: nyu-mll/glue\n", "", "name and type"),
        ("value: 0.9", "value: high", "a number"),
        ("- name: x\n", "- name: 3\n", "model-index"),
        ("      type: text-classification\n", "", "task with a type"),
    ],
)
def test_the_hub_of_the_tests_sees_mistakes(right: str, wrong: str, says: str) -> None:
    text = str(generated())
    assert errors_of(text) == []
    assert right in text
    assert any(says in error for error in errors_of(text.replace(right, wrong, 1)))
