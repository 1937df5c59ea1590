"""The index of ``model_cards/`` is what the reports beside the cards say."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
from huggingface_hub import ModelCard

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
