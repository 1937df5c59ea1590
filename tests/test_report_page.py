"""The page holds everything, loads nothing, and takes no markup from a report."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_distill.evaluation.prediction import Predictions
from hf_distill.evaluation.scores import class_scores
from hf_distill.report import DistillationReport
from hf_distill.report_page import report_page


def figures(accuracy: float, names: list[str], **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    predictions = Predictions(rng.normal(size=(50, 2)).astype(np.float32), rng.integers(0, 2, 50))
    scores = {"accuracy": accuracy, "macro_f1": 0.7, "ece": 0.05, "parameters": 1000, "size_mb": 2.0}
    speed = {"latency_ms": {"p50": 1.0, "p95": 2.0}, "throughput_per_s": 100.0}
    return {**scores, **speed, **class_scores([predictions], names), **changes}


def report(names: list[str] | None = None, **changes: Any) -> DistillationReport:
    names = names or ["bad", "good"]
    given: dict[str, Any] = {
        "teacher": figures(0.9, names, size_mb=8.0, throughput_per_s=40.0),
        "student": figures(0.85, names),
        "control": figures(0.8, names),
        **{"agreement": 0.9, "kl_nats": 0.1, "gap_closed": 0.5, "examples": 50, "seeds": [0, 1], "dataset": "toy"},
        **{"split": "test", "machine": {"cpu": "A processor", "gpu": None, "cores": 2, "threads": 1}},
        **{"versions": {"torch": "2"}, "command": "train.py --dataset toy"},
    }
    return DistillationReport(**{**given, **changes})


class Page(HTMLParser):
    """What a browser would see: text, tags in order, and every address."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [str(value) for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text.append(data.strip())


def test_it_says_what_the_report_says() -> None:
    page = Page(report_page(report(other_splits={"validation": dict(report().of_split())})))
    assert not page.open  # every tag is closed
    assert "The control is a student that was trained without the teacher. Gap closed" in " ".join(page.text)
    made = report_page(report(training={"control": "the same student, but on the labelled examples alone"}))
    assert "The control is the same student, but on the labelled examples alone. Gap closed" in made
    said = [text for text in page.text if text]
    for cell in (
        "toy test: 50 examples, 2 seeds",
        "0.850",
        "0.900",
        "0.800",
        "A processor",
        "train.py \\\n  --dataset toy",
    ):
        assert cell in said
    # 2 MB of 8, 100 a second to 40, half of the gap:
    assert {"25%", "2.5×", "50%"} <= set(said)
    assert "toy validation: 50 examples, 2 seeds" in said
    assert page.tags.count("table") == 4  # two splits, the classes, the machine


def test_nothing_is_loaded_and_plots_are_inside(tmp_path: Path) -> None:
    (tmp_path / "models.png").write_bytes(b"a picture")
    (tmp_path / "foreign.png").write_bytes(b"another")
    page = Page(report_page(report(), tmp_path))
    assert page.addresses == ["data:image/png;base64," + base64.b64encode(b"a picture").decode()]
    assert not re.search(r"url\(|@import|<script|<link", report_page(report(), tmp_path))


@pytest.mark.parametrize("attack", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a & b"])
def test_names_are_text_and_no_markup(attack: str) -> None:
    plain = Page(report_page(report()))
    html = report_page(report(names=[attack, "good"], dataset=attack, command=attack, versions={attack: attack}))
    page = Page(html)
    assert page.tags == plain.tags
    assert attack in page.text
    assert attack not in html


def test_without_control_or_speed() -> None:
    page = Page(
        report_page(
            report(
                control=None,
                gap_closed=None,
                teacher=figures(0.9, ["bad", "good"], size_mb=None, throughput_per_s=None, latency_ms=None),
                seeds=[0],
                command=None,
            )
        )
    )
    assert not any("ontrol" in text or "seeds" in text or "gap" in text.lower() for text in page.text)
    assert "pre" not in page.tags
    assert page.text.count("–") == 4  # the teacher's size, two latencies and throughput


def test_pytorch_onnx_and_int8_are_a_table_of_their_own() -> None:
    row = {
        **{"model": "student", "format": "ONNX int8", "size_bytes": 15_700_000, "latency_ms": {"p50": 0.95}},
        **{"throughput_per_s": 616.0, "accuracy": 0.857, "agreement": 0.991, "max_error": 0.42},
        **{"bound": 0.01, "within_bound": True},
    }
    section = {
        **{"dataset": "toy", "split": "test", "examples": 50, "rows": [row], "versions": {"onnxruntime": "<1.32>"}},
        "machine": {"cpu": "A processor", "cores": 2, "threads": 1},
    }
    page, plain = Page(report_page(report(deployment=section))), Page(report_page(report()))
    assert page.tags.count("table") == plain.tags.count("table") + 1
    start = page.text.index("PyTorch, ONNX and int8 on toy test: 50 examples")
    said = [text for text in page.text[start:] if text][1:]
    heads = ["size, MB", "latency p50, ms", "examples/s", "accuracy", "as PyTorch", "largest error"]
    assert said[:13] == [*heads, "student, ONNX int8", "15.7", "0.95", "616", "0.857", "0.991", "0.42"]
    assert "The student's int8 keeps within its bound, a loss of 0.010 of accuracy." in said
    assert "onnxruntime <1.32>." in "".join(said)
