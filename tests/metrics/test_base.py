import os
import subprocess
import sys
from pathlib import Path

import evaluate
import pytest

import hf_distill.metrics
from hf_distill.metrics import Accuracy, ExpectedCalibrationError, MacroF1

FOLDER = Path(hf_distill.metrics.__file__).parent


# By hand: one of two right; F1 2/3 and 0; confidence 0.5 right and confidence 1 wrong.
PROGRAM = """
import evaluate
for name, expected in {"accuracy": 0.5, "macro_f1": 1 / 3, "expected_calibration_error": 0.75}.items():
    scores = evaluate.load(f"FOLDER/{name}.py").compute(predictions=[[0.5, 0.5], [1.0, 0.0]], references=[0, 1])
    [score] = scores.values()
    assert abs(score - expected) < 1e-9, (name, score)
"""


@pytest.mark.slow
def test_each_loads_from_its_file_without_a_network(tmp_path):
    """In a fresh process with a home of its own, which ``evaluate`` looks up when it is imported."""
    program = PROGRAM.replace("FOLDER", FOLDER.as_posix())
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = str(FOLDER.parent.parent)
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert not list(tmp_path.rglob("*.arrow*"))


def test_combines():
    metrics = evaluate.combine([Accuracy(), MacroF1(), ExpectedCalibrationError()])
    scores = metrics.compute(predictions=[[0.75, 0.25], [0.25, 0.75]], references=[0, 1])
    assert scores == {"accuracy": 1.0, "macro_f1": 1.0, "ece": 0.25}


def test_writes_no_file_and_needs_no_home(tmp_path, monkeypatch):
    home = tmp_path / "a file, where no folder can be made"
    home.write_text("")
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", home / "metrics")
    first, second = Accuracy(), Accuracy()
    first.add(prediction=1, reference=1)
    second.add(prediction=1, reference=0)
    assert (first.compute(), second.compute()) == ({"accuracy": 1.0}, {"accuracy": 0.0})


def test_several_processes_of_one_computation_still_go_through_files(tmp_path):
    metric = Accuracy(num_process=2, process_id=0, experiment_id="shared", cache_dir=str(tmp_path))
    assert not metric.keep_in_memory
    assert Path(metric.data_dir).is_dir()
