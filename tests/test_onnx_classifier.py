"""An ONNX file in the place of a PyTorch model."""

from __future__ import annotations

import sys
from pathlib import Path

import exported
import numpy as np
import onnx
import pytest
import torch

from hf_distill.evaluation import measure_speed, predict
from hf_distill.labels import label_names
from hf_distill.onnx_classifier import OnnxClassifier


def test_it_answers_as_the_model_does_from_tensors_and_from_arrays() -> None:
    batch = exported.pad(exported.texts(5))
    with torch.no_grad():
        expected = exported.model().eval()(**batch).logits
    classifier = OnnxClassifier(exported.bert().path)
    torch.testing.assert_close(classifier(**batch).logits, expected, atol=1e-5, rtol=0)
    arrays = {name: value.numpy() for name, value in batch.items()}
    torch.testing.assert_close(classifier(**arrays).logits, expected, atol=1e-5, rtol=0)


def test_it_can_be_evaluated_and_timed_as_a_model_can() -> None:
    rows, classifier = exported.texts(), OnnxClassifier(exported.bert().path, threads=1)
    expected = predict(exported.model(), rows, exported.pad, 8)
    found = predict(classifier, rows, exported.pad, 8)
    np.testing.assert_allclose(found.logits, expected.logits, atol=1e-5)
    assert found.labels is not None
    assert found.labels.tolist() == [row["labels"] for row in rows]
    speed = measure_speed(classifier, rows[:4], exported.pad, seconds=0.2)
    assert classifier.session.get_session_options().intra_op_num_threads == 1
    assert 0 < speed.latency_ms["p50"] <= speed.latency_ms["p95"]


def test_it_knows_its_classes_and_has_the_threads_of_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)  # one, as on many a test machine, says nothing
    classifier = OnnxClassifier(exported.bert().path)
    assert label_names(classifier.config) == ["bad", "good", "neither"]
    assert classifier.session.get_session_options().intra_op_num_threads == 3


def test_a_missing_input_is_named() -> None:
    batch = exported.pad(exported.texts(2))
    del batch["token_type_ids"]
    with pytest.raises(ValueError, match="but token_type_ids was not given"):
        OnnxClassifier(exported.bert().path)(**batch)


def test_files_that_are_no_classifiers(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="hf-distill export DIR"):
        OnnxClassifier(tmp_path / "nothing.onnx")
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(ValueError, match="cannot be run as ONNX"):
        OnnxClassifier(tmp_path / "text.onnx")
    foreign = onnx.load(exported.bert().path)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(ValueError, match="no classifier that hf_distill exported"):
        OnnxClassifier(tmp_path / "foreign.onnx")


def test_without_the_package_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"pip install -c constraints.txt -e '\.\[onnx\]'"):
        OnnxClassifier(exported.bert().path)
