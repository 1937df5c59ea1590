import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import classification_report

from hf_distill.deployment_table import deployment_lines
from hf_distill.evaluation.prediction import Predictions
from hf_distill.evaluation.scores import class_scores
from hf_distill.report import DistillationReport

NAMES = ["bad", "good", "indifferent"]


def figures(accuracy=0.8, std=None, **changes):
    values = {
        **{"accuracy": accuracy, "macro_f1": 0.75, "ece": 0.05, "parameters": 22_713_986, "size_mb": 90.9},
        **{"latency_ms": {"p50": 12.345, "p95": 20.0}, "throughput_per_s": 1234.5},
    }
    stds = {
        f"{key}_std": std and (dict.fromkeys(value, std) if isinstance(value, dict) else std)
        for key, value in values.items()
    }
    rng = np.random.default_rng(0)
    predictions = Predictions(rng.normal(size=(50, 3)).astype(np.float32), rng.integers(0, 3, 50))
    return {**values, **stds, **class_scores([predictions], NAMES), **changes}


def report(**changes):
    given = {
        **{"teacher": figures(0.9), "student": figures(0.85, 0.01), "control": figures(0.8, 0.02)},
        **{"agreement": 0.9, "agreement_std": 0.01, "kl_nats": 0.0912, "gap_closed": 0.5, "gap_closed_std": 0.125},
        **{"examples": 50, "seeds": [0, 1, 2], "dataset": "org/toy", "split": "test", "versions": {"torch": "2"}},
        **{"machine": {"cpu": "A processor", "gpu": None, "cores": 2, "threads": 1}, "command": "train.py"},
    }
    return DistillationReport(**{**given, **changes})


def lines(table):
    """The cells of each line under its label."""
    return {line[:26].strip(): line[26:].split("   ") for line in table.splitlines()}


def test_survives_saving_and_loading(tmp_path):
    saved = report(other_splits={"validation": dict(report().of_split())})
    assert saved.save(tmp_path / "new" / "folder") == tmp_path / "new" / "folder" / "report.json"
    assert DistillationReport.load(tmp_path / "new" / "folder") == saved
    assert DistillationReport.load(tmp_path / "new" / "folder" / "report.json") == saved


def test_file_has_the_keys_of_the_main_split_on_top(tmp_path):
    content = json.loads(report().save(tmp_path).read_text(encoding="utf-8"))
    asked = "teacher student control agreement kl_nats gap_closed seeds dataset split machine versions command"
    assert set(asked.split()) <= set(content)
    asked = "accuracy macro_f1 ece parameters size_mb latency_ms throughput_per_s per_class"
    assert {f"{key}{std}" for key in asked.split() for std in ("", "_std")} <= set(content["student"])


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path):
    report().save(tmp_path)
    with pytest.raises(ValueError, match="JSON"):
        report(kl_nats=float("nan")).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    assert DistillationReport.load(tmp_path) == report()


def test_a_killed_save_leaves_the_old_file(tmp_path, monkeypatch):
    report().save(tmp_path)
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        report(dataset="another").save(tmp_path)
    assert DistillationReport.load(tmp_path).dataset == "org/toy"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_loading_something_else_is_an_error(tmp_path):
    (tmp_path / "report.json").write_text('{"accuracy": 1}')
    with pytest.raises(ValueError, match="no report of hf_distill"):
        DistillationReport.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        DistillationReport.load(tmp_path / "nowhere.json")


def test_a_part_of_a_report_is_an_error_that_names_what_is_missing(tmp_path):
    whole = report().to_dict()
    parts = {name: value for name, value in whole.items() if name not in ("agreement", "machine", "command")}
    (tmp_path / "report.json").write_text(json.dumps(parts))
    with pytest.raises(ValueError, match=r"no whole report: agreement, machine is missing\. Run"):
        DistillationReport.load(tmp_path)


def test_table_shows_means_and_deviations_within_100_columns():
    table = report(dataset="path/to/toy", other_splits={"validation": dict(report().of_split())}).to_table()
    assert max(map(len, table.splitlines())) <= 100
    cells = {label: [cell.strip() for cell in cells if cell] for label, cells in lines(table).items()}
    assert cells["accuracy"] == ["0.900", "0.850 ± 0.010", "0.800 ± 0.020"]
    assert cells["latency p50, ms"] == ["12.35", "12.35 ± 0.01", "12.35 ± 0.02"]
    assert cells["gap closed"] == ["50.0% ± 12.5%"]
    assert cells["agreement with teacher"] == ["0.900 ± 0.010"]
    assert cells["KL(teacher‖student), nats"] == ["0.091"]
    assert "toy test: 50 examples, 3 seeds" in table
    assert "toy validation: 50 examples, 3 seeds" in table
    assert "path/to" not in table


def test_table_says_why_there_is_no_gap():
    table = report(teacher=figures(0.7), gap_closed=None, gap_closed_std=None).to_table()
    assert "the teacher's accuracy (0.700) is not above the control's (0.800)" in table
    assert max(map(len, table.splitlines())) <= 100


def test_table_without_control_or_a_teachers_speed():
    soft = figures(0.9, parameters=None, size_mb=None, latency_ms=None, latency_ms_std=None, throughput_per_s=None)
    table = report(teacher=soft, control=None, gap_closed=None, seeds=[0]).to_table()
    assert "control" not in table
    assert "gap" not in table.lower()
    assert "seeds" not in table
    [line] = [line for line in table.splitlines() if line.startswith("latency p95, ms")]
    assert line.split()[3:] == ["–", "20.00", "±", "0.01"]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("classes", [[0, 1, 2], [0, 1]])
def test_classification_report_equals_sklearns(seed, classes):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(50, 3)).astype(np.float32), rng.choice(classes, 50)
    logits[:, 2] -= 100 * (2 not in classes)
    predictions = Predictions(logits, labels)
    accuracy = float((predictions.classes == labels).mean())
    ours = report(student={**class_scores([predictions], NAMES), "accuracy": accuracy}).classification_report("student")
    names = [NAMES[index] for index in classes]
    theirs = classification_report(labels, predictions.classes, target_names=names, digits=3, zero_division=0)
    assert [line.split() for line in ours.splitlines()] == [line.split() for line in theirs.splitlines()]
    assert [len(line) for line in ours.splitlines()] == [len(line.rstrip()) for line in theirs.splitlines()]


def test_unknown_split_or_model_is_a_key_error():
    with pytest.raises(KeyError, match="validation"):
        report().of_split("validation")
    with pytest.raises(KeyError, match="teacher"):
        replace(report(), control=None).classification_report("control")


def test_table_has_time_and_energy_of_a_training_where_they_are_known():
    timed = report(student=figures(0.85, training_s=1234.4, training_energy_wh=7.251, training_energy_of=["GPU"]))
    table = timed.to_table()
    cells = {label: [cell.strip() for cell in cells if cell] for label, cells in lines(table).items()}
    assert cells["training, s"] == ["–", "1,234", "–"]
    assert cells["training energy, Wh"] == ["–", "7.25", "–"]
    assert "the counters of GPU counted meanwhile" in " ".join(table.split())
    assert max(map(len, table.splitlines())) <= 100
    assert "training" not in report().to_table()


def test_table_ends_with_what_was_deployed(tmp_path):
    section = {"dataset": "toy", "split": "test", "examples": 5, "machine": {}, "versions": {}, "rows": []}
    deployed = report(deployment=section)
    deployed.save(tmp_path)
    assert DistillationReport.load(tmp_path) == deployed
    table = deployed.to_table()
    assert table.startswith(report().to_table())
    assert table.endswith("\n".join(["", "", *deployment_lines(section)]))
