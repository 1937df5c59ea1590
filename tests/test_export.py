"""What is written agrees with PyTorch, and what does not agree is not written."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import exported
import numpy as np
import onnx
import onnxruntime
import pytest
import tiny
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from transformers import BertConfig, BertForSequenceClassification

from hf_distill import export
from hf_distill.export import export_folder, export_onnx
from hf_distill.onnx_classifier import remove_exports


def logits_of_onnx(path: Path, batch: dict[str, Any]) -> np.ndarray:
    """With onnxruntime as anybody would call it, apart from the package's own class."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    [logits] = session.run(["logits"], {name: batch[name].numpy() for name in names})
    return logits


def logits_of_pytorch(model: Any, batch: dict[str, Any]) -> np.ndarray:
    with torch.no_grad():
        return model.eval()(**{name: value for name, value in batch.items() if name != "labels"}).logits.numpy()


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the file that was exported already, which takes no time."""
    source = exported.bert().path
    monkeypatch.setattr(export, "_write", lambda model, batch, path: shutil.copy(source, path))


@pytest.mark.parametrize(("size", "length"), [(1, 1), (1, 16), (2, 2), (5, 11), (33, 7)])
def test_any_batch_of_any_length_answers_as_pytorch_does(size: int, length: int) -> None:
    rows = exported.texts(size, seed=length)
    for row in rows:
        for name in ("input_ids", "attention_mask", "token_type_ids"):
            row[name] = row[name][:length]
    batch = exported.pad(rows)
    np.testing.assert_allclose(
        logits_of_onnx(exported.bert().path, batch), logits_of_pytorch(exported.model(), batch), atol=1e-5
    )


def test_the_result_says_what_was_found() -> None:
    """Against accuracies counted here, one text at a time."""
    result, rows, model = exported.bert(), exported.texts(), exported.model()
    right = [logits_of_pytorch(model, exported.pad([row])).argmax() == row["labels"] for row in rows]
    assert result.accuracy == result.pytorch_accuracy == pytest.approx(np.mean(right))
    assert 0 < result.max_error < 1e-4
    assert (result.agreement, result.examples) == (1.0, 40)
    assert result.size_mb == result.path.stat().st_size / 1e6
    assert (result.int8, result.bound, result.within_bound) == (False, None, None)


def test_the_file_names_its_axes_and_classes_and_no_path_of_this_machine() -> None:
    file = onnx.load(exported.bert().path)
    axes = {value.name: [axis.dim_param for axis in value.type.tensor_type.shape.dim] for value in file.graph.input}
    assert axes == {name: ["batch", "sequence"] for name in ("input_ids", "attention_mask", "token_type_ids")}
    assert "good" in {entry.key: entry.value for entry in file.metadata_props}["id2label"]
    content = exported.bert().path.read_bytes()
    for private in (str(Path(export.__file__).parent), str(Path(torch.__file__).parent), ".py"):
        assert private.encode() not in content


def test_nothing_but_the_file_and_its_figures_is_left(tmp_path: Path, ready: None) -> None:
    result = export_onnx(
        exported.model(), tmp_path / "new" / "model.onnx", examples=exported.texts(), data_collator=exported.pad
    )
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["model.onnx", "model.onnx.json"]
    figures = json.loads((tmp_path / "new" / "model.onnx.json").read_text())
    assert figures == {**asdict(result), "path": "model.onnx"}
    assert figures["max_error"] < 1e-4


@pytest.mark.usefixtures("ready")
def test_a_folder_gets_both_files_for_one_look_at_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is what it is when it is exported alone; transformers.js asks for these names by dtype fp32 and int8."""
    settings: dict[str, Any] = {"examples": exported.texts(), "data_collator": exported.pad}
    alone = [export_onnx(exported.model(), tmp_path / f"{int8}.onnx", int8=int8, **settings) for int8 in (False, True)]
    real, calls = export.predict, []
    monkeypatch.setattr(
        export, "predict", lambda *given, **more: calls.append(more["desc"]) or real(*given, **more)
    )  # fmt: skip
    both = export_folder(exported.model(), tmp_path / "student", int8=True, **settings)
    assert calls == ["PyTorch", "ONNX", "ONNX int8"]
    names = {"onnx/model.onnx", "onnx/model.onnx.json", "onnx/model_int8.onnx", "onnx/model_int8.onnx.json"}
    assert {str(path.relative_to(tmp_path / "student")) for path in (tmp_path / "student").glob("*/*")} == names
    assert [replace(found, path=one.path) for found, one in zip(both, alone, strict=True)] == alone
    assert [found.int8 for found in both] == [False, True]
    remove_exports(tmp_path / "student")
    assert not list((tmp_path / "student").glob("*/*"))


@pytest.mark.usefixtures("ready")
def test_a_file_that_answers_differently_is_not_written(tmp_path: Path) -> None:
    other = exported.model()
    other.classifier.bias.data[1] += 0.01
    (tmp_path / "model.onnx").write_text("what was there before")
    with pytest.raises(ValueError, match=r"differ by up to 0\.01.* where 0\.0001 is allowed"):
        export_onnx(other, tmp_path / "model.onnx", examples=exported.texts(), data_collator=exported.pad)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["what was there before"]


@pytest.mark.usefixtures("ready")
def test_a_shape_that_is_frozen_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is right for all full batches, and wrong for a batch of seven."""
    forward = export.OnnxClassifier.forward

    def frozen(self: Any, **inputs: Any) -> Any:
        output = forward(self, **inputs)
        output.logits += len(output.logits) == 7
        return output

    monkeypatch.setattr(export.OnnxClassifier, "forward", frozen)
    with pytest.raises(ValueError, match="differ by up to 1"):
        export_onnx(exported.model(), tmp_path / "model.onnx", examples=exported.texts(), data_collator=exported.pad)


@pytest.mark.usefixtures("ready")
def test_int8_is_smaller_in_its_weights_and_close(tmp_path: Path) -> None:
    result = export_onnx(
        exported.model(), tmp_path / "model.onnx", examples=exported.texts(), data_collator=exported.pad, int8=True,
        bound=0.1,
    )  # fmt: skip
    batch = exported.pad(exported.texts())
    difference = np.abs(logits_of_onnx(result.path, batch) - logits_of_pytorch(exported.model(), batch)).max()
    assert 1e-4 < difference < 1.0
    assert result.max_error == pytest.approx(difference, rel=0.5)  # activations are quantised batch by batch
    weights = [weight for weight in onnx.load(result.path).graph.initializer if np.prod(weight.dims) == 16 * 16]
    assert {weight.data_type for weight in weights} == {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    assert (result.int8, result.bound, result.within_bound) == (True, 0.1, True)


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("labelled", [True, False])
def test_int8_that_loses_too_much_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, labelled: bool
) -> None:
    """Quantisation that turns two of the forty decisions: the labels are those of PyTorch, so both are mistakes."""
    model, rows = exported.model(), exported.texts()
    for row in rows:
        row["labels"] = int(logits_of_pytorch(model, exported.pad([row])).argmax()) if labelled else -100
    real, calls = export.predict, []

    def worse(model: Any, *arguments: Any, **settings: Any) -> Any:
        found = real(model, *arguments, **settings)
        calls.append(settings["desc"])
        if settings["desc"] == "ONNX int8":
            found.logits[:] = np.eye(3)[real(exported.model(), *arguments).classes]
            found.logits[:2] = np.roll(found.logits[:2], 1, axis=1)
        return found

    monkeypatch.setattr(export, "predict", worse)
    with caplog.at_level(logging.WARNING):
        result = export_onnx(
            model, tmp_path / "model.onnx", examples=rows, data_collator=exported.pad, int8=True, bound=0.04
        )
    assert calls == ["PyTorch", "ONNX", "ONNX int8"]
    assert (result.agreement, result.within_bound) == (0.95, False)
    assert (result.accuracy, result.pytorch_accuracy) == ((0.95, 1.0) if labelled else (None, None))
    what = "accuracy" if labelled else "agreement with PyTorch"
    assert f"model.onnx loses 0.050 of {what} as int8, more than 0.040" in caplog.text
    assert result.path.is_file()


@pytest.mark.usefixtures("ready")
def test_a_model_trained_under_autocast_is_exported_in_float32(tmp_path: Path) -> None:
    """As accelerate leaves it: ``forward`` runs in bfloat16, and the trainer goes on using it."""
    model = exported.model()
    AcceleratorState._reset_state()  # whatever tests before have chosen
    Accelerator(cpu=True, mixed_precision="bf16").prepare_model(model)
    AcceleratorState._reset_state()
    wrapped = model.forward
    result = export_onnx(model, tmp_path / "model.onnx", examples=exported.texts(), data_collator=exported.pad)
    assert result.max_error < 1e-5
    assert model.forward is wrapped


@pytest.mark.parametrize("problem", ["regression", "multi_label_classification"])
def test_other_tasks_are_refused(tmp_path: Path, problem: str) -> None:
    config = BertConfig(
        vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4,
        num_labels=1 if problem == "regression" else 3, problem_type=problem,
    )  # fmt: skip
    with pytest.raises(ValueError, match=f"one class an input.*{problem}"):
        export_onnx(BertForSequenceClassification(config), tmp_path / "model.onnx", examples=exported.texts())
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_model_that_cannot_be_traced_is_an_error_that_says_why(tmp_path: Path) -> None:
    model = exported.model()
    before = model.bert.forward
    model.bert.forward = lambda *args, **inputs: before(*args, **inputs) if inputs.pop("x", 1) else None
    real = model.classifier.forward
    model.classifier.forward = lambda state: real(state * 2 if state.sum() > 0 else state)
    with pytest.raises(ValueError, match="BertForSequenceClassification cannot be exported to ONNX: "):
        export_onnx(model, tmp_path / "model.onnx", examples=exported.texts(), data_collator=exported.pad)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["vgg", *(pytest.param(name, marks=pytest.mark.slow) for name in ("distilbert", "resnet", "vit"))]
)
def test_other_families(tmp_path: Path, name: str) -> None:
    model, rows = tiny.MODELS[name](), tiny.dataset(name)
    result = export_onnx(model, tmp_path / "model.onnx", examples=rows)
    names = {"input_ids", "attention_mask"} if name == "distilbert" else {"pixel_values"}
    batch = {key: torch.tensor(rows[key][:5]) for key in names}
    np.testing.assert_allclose(logits_of_onnx(result.path, batch), logits_of_pytorch(model, batch), atol=1e-5)
