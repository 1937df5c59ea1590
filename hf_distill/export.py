"""A trained classifier as one ONNX file, checked against PyTorch before anybody can use it."""

from __future__ import annotations

import copy
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hf_distill.evaluation import Predictions, predict, size_mb
from hf_distill.evaluation.prediction import Collator, model_inputs
from hf_distill.labels import MULTI_LABEL, REGRESSION
from hf_distill.onnx_classifier import CLASSES_KEY, ONNX_FILES, OnnxClassifier, figures_path, needed
from hf_distill.teachers import load_classifier
from hf_distill.whole_file import whole_file

logger = logging.getLogger(__name__)

ODD_BATCHES = (1, 2, 3, 7)
"""Batches of these sizes are checked besides the full ones: a shape that was frozen by mistake shows there."""

LARGEST_FILE_MB = 1900.0
NOISY = ("torch.onnx", "onnxscript", "onnx_ir", "root")


@dataclass(frozen=True)
class OnnxExport:
    """What was written, and how well it agrees with the model it was made from.

    Args:
        path: The file.
        int8: Whether its weights are 8-bit integers.
        examples: How many examples both models answered.
        max_error: Largest absolute difference between two logits.
        agreement: Share of examples that both put into the same class.
        accuracy: Of the file, on the examples that have a label; ``None`` where none has.
        pytorch_accuracy: Of the PyTorch model on the same examples.
        size_mb: Megabytes (10^6 bytes) of the file.
        pytorch_size_mb: Of the PyTorch weights.
        bound: What int8 may lose; ``None`` without int8.
        within_bound: Whether it loses no more; ``None`` without int8.
    """

    path: Path
    int8: bool
    examples: int
    max_error: float
    agreement: float
    accuracy: float | None
    pytorch_accuracy: float | None
    size_mb: float
    pytorch_size_mb: float
    bound: float | None = None
    within_bound: bool | None = None

    @property
    def figures_path(self) -> Path:
        """Beside the file: all of this as JSON, for programs to read."""
        return figures_path(self.path)

    def save(self) -> None:
        """Write the figures as JSON. The file is called by its name there, wherever it lies."""
        figures = {**asdict(self), "path": self.path.name}
        with whole_file(self.figures_path) as file:
            file.write(json.dumps(figures, indent=2, ensure_ascii=False) + "\n")


def export_onnx(
    model: nn.Module | str | Path,
    path: str | Path,
    *,
    examples: Any,
    data_collator: Collator | None = None,
    int8: bool = False,
    tolerance: float = 1e-4,
    bound: float = 0.01,
    batch_size: int = 32,
) -> OnnxExport:
    """Write a text or image classifier as an ONNX file, for batches of any size and texts of any length.

    The file is made under a temporary name in float32. It then answers all examples, in full batches and some of them
    in batches of 1, 2, 3 and 7, and every logit must lie within ``tolerance`` of PyTorch's; only then does it get its
    name, in place of what was there. With ``int8`` the checked file is quantised dynamically: weights become 8-bit
    integers, activations do so in each call. That changes the logits, so the test is another one: accuracy may fall by
    ``bound`` at most, or, where no example has a label, decisions may differ on a share of ``bound``. A file that loses
    more is written all the same, with a warning and ``within_bound=False``.

    What was found stands as JSON beside the file, in ``model.onnx.json`` for ``model.onnx``.

    Args:
        model: A classifier, one class an input; or its folder, or its name on the Hub. It is left as it is.
        path: The file to write. Folders are made where they are missing.
        examples: Rows as the dataset has them, real ones, best a whole evaluation split.
        data_collator: Turns a list of rows into a batch; default ``transformers.default_data_collator``.
        int8: Whether to quantise.
        tolerance: Largest difference of a logit in float32.
        bound: What int8 may lose, a fraction.
        batch_size: Rows in a full batch.

    Raises:
        ImportError: the extra ``onnx`` is not installed.
        ValueError: the model is no single-label classifier, cannot be exported, or answers differently as ONNX; nothing
            is written then.
    """
    [result] = _exported(model, {int8: Path(path)}, examples, data_collator, tolerance, bound, batch_size)
    return result


def export_folder(
    model: nn.Module | str | Path,
    folder: str | Path,
    *,
    examples: Any,
    data_collator: Collator | None = None,
    int8: bool = False,
    tolerance: float = 1e-4,
    bound: float = 0.01,
    batch_size: int = 32,
) -> list[OnnxExport]:
    """Write the ONNX files of a model's folder where the Hub and its libraries look for them.

    ``onnx/model.onnx`` and, with ``int8``, ``onnx/model_int8.onnx``; each as :func:`export_onnx` writes it, whose
    arguments these are, and the model is traced and asked once for both.

    Args:
        model: As in :func:`export_onnx`.
        folder: Where ``onnx/`` goes.
        examples: As in :func:`export_onnx`, like all that follow but one.
        data_collator: Makes batches.
        int8: Whether to write the file with 8-bit weights too.
        tolerance: Largest difference of a logit in float32.
        bound: What int8 may lose, a fraction.
        batch_size: Rows in a full batch.
    """
    targets = {kind: Path(folder) / name for kind, name in ONNX_FILES.items() if int8 or not kind}
    return _exported(model, targets, examples, data_collator, tolerance, bound, batch_size)


def plain_copy(model: nn.Module) -> Any:
    """The model in float32 on the CPU, in evaluation mode, without the autocast that accelerate puts around it."""
    plain = copy.deepcopy(model)
    if "_original_forward" in vars(plain):
        for name in ("forward", "_original_forward"):
            vars(plain).pop(name, None)
    return plain.float().cpu().eval().requires_grad_(False)


def check_installed() -> None:
    """The packages of the extra ``onnx`` are there.

    Raises:
        ImportError: one is not.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        needed(package)


def _exported(
    model: nn.Module | str | Path,
    targets: Mapping[bool, Path],
    examples: Any,
    data_collator: Collator | None,
    tolerance: float,
    bound: float,
    batch_size: int,
) -> list[OnnxExport]:
    """Write the files, by whether they are int8, once they have been checked."""
    check_installed()
    plain = _exportable(load_classifier(str(model)) if isinstance(model, (str, Path)) else model)
    target = next(iter(targets.values()))
    for path in targets.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    expected = predict(plain, examples, data_collator, batch_size, desc="PyTorch")
    with _temporary(target, "float32") as whole, _temporary(target, "int8") as small:
        _write(plain, _batch(plain, examples, 3, data_collator), whole)
        answered = OnnxClassifier(whole)
        found = predict(answered, examples, data_collator, batch_size, desc="ONNX")
        error = max(_largest_error(expected, found), _error_in_odd_batches(plain, answered, examples, data_collator))
        if not error <= tolerance:
            raise ValueError(
                f"As ONNX the model answers differently: logits differ by up to {error:.2g}, where {tolerance:.2g} is "
                f"allowed, and {_agreement(expected, found):.1%} of {len(found.logits)} decisions agree. Nothing was "
                f"written to {target}. Try another version of torch or onnxruntime, or allow more with `tolerance`."
            )
        made = {False: (whole, found, error)}
        if True in targets:
            _quantize(whole, small)
            found = predict(OnnxClassifier(small), examples, data_collator, batch_size, desc="ONNX int8")
            made[True] = (small, found, _largest_error(expected, found))
        results = []
        for int8, path in targets.items():
            file, found, error = made[int8]
            result = OnnxExport(
                path=path,
                int8=int8,
                examples=len(found.logits),
                max_error=error,
                agreement=_agreement(expected, found),
                accuracy=_accuracy(found),
                pytorch_accuracy=_accuracy(expected),
                size_mb=file.stat().st_size / 1e6,
                pytorch_size_mb=size_mb(plain),
                bound=bound if int8 else None,
                within_bound=_loss(expected, found) <= bound if int8 else None,
            )
            file.replace(path)
            result.save()
            results.append(result)
            if result.within_bound is False:
                what = "accuracy" if result.accuracy is not None else "agreement with PyTorch"
                logger.warning(
                    "%s loses %.3f of %s as int8, more than %.3f. Use the float32 file where that matters.",
                    path.name, _loss(expected, found), what, bound,
                )  # fmt: skip
    return results


# ---- Writing ----


class _Logits(nn.Module):
    """Tensors in, logits out: the form that the exporter wants."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *tensors: Tensor) -> Tensor:
        logits: Tensor = self.model(**dict(zip(self.names, tensors, strict=True))).logits
        return logits


def _exportable(model: nn.Module) -> Any:
    """A copy to write, once it is clear that it can be written."""
    config: Any = getattr(model, "config", None)
    if config is None or config.num_labels < 2 or config.problem_type in (REGRESSION, MULTI_LABEL):
        raise ValueError(
            "Only classifiers of one class an input can be exported, with two classes or more; this is "
            f"{type(model).__name__} for {getattr(config, 'problem_type', None) or 'something else'}."
        )
    if size_mb(model) > LARGEST_FILE_MB:
        raise ValueError(
            f"A model of {size_mb(model):.0f} MB does not fit into one ONNX file, which holds 2 GB at most."
        )
    return plain_copy(model)


def _write(model: Any, batch: dict[str, Tensor], path: Path) -> None:
    """Write the model as it is, with axes that may have any length."""
    onnx = needed("onnx")
    any_length = torch.export.Dim.DYNAMIC
    axes = tuple(
        {0: any_length, 1: any_length} if name != "pixel_values" and tensor.dim() > 1 else {0: any_length}
        for name, tensor in batch.items()
    )
    with _quiet():
        try:
            program: Any = torch.onnx.export(
                _Logits(model, list(batch)),
                tuple(batch.values()),
                None,
                dynamo=True,
                dynamic_shapes={"tensors": axes},
                input_names=list(batch),
                output_names=["logits"],
                external_data=False,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            cause = (str(error.__cause__ or error).strip().splitlines() or ["no reason given"])[0]
            raise ValueError(f"{type(model).__name__} cannot be exported to ONNX: {cause[:300]}.") from error
    proto = program.model_proto
    _strip(proto)
    for value in (*proto.graph.input, *proto.graph.output):
        for axis, name in enumerate(("batch", "sequence")):
            sizes = value.type.tensor_type.shape.dim
            if axis < len(sizes) and sizes[axis].dim_param:
                sizes[axis].dim_param = name
    names = {str(index): str(name) for index, name in model.config.id2label.items()}
    onnx.helper.set_model_props(proto, {CLASSES_KEY: json.dumps(names, ensure_ascii=False)})
    onnx.save_model(proto, str(path))


def _strip(proto: Any) -> None:
    """Take out the traces of the exporter, which name local paths, and inferred shapes, which quantising trips over."""
    del proto.graph.value_info[:]
    del proto.metadata_props[:]
    for part in (proto.graph, *proto.functions):
        del part.metadata_props[:]
        part.doc_string = ""
        for node in part.node:
            del node.metadata_props[:]
            node.doc_string = ""
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del value.metadata_props[:]
        value.doc_string = ""


def _quantize(whole: Path, small: Path) -> None:
    quantization = needed("onnxruntime.quantization")
    with _quiet():
        quantization.quantize_dynamic(
            str(whole), str(small), weight_type=quantization.QuantType.QInt8, per_channel=True
        )


@contextmanager
def _temporary(target: Path, kind: str) -> Iterator[Path]:
    """A name beside the target that is gone in the end, unless the file was moved away."""
    path = target.with_name(f".{target.name}.{kind}.{os.getpid()}")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of the exporter, which are about packages that are not needed and about its own insides."""
    loggers = [logging.getLogger(name) for name in NOISY]
    levels = [noisy.level for noisy in loggers]
    for noisy in loggers:
        noisy.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for noisy, level in zip(loggers, levels, strict=True):
            noisy.setLevel(level)


# ---- Checking ----


def _batch(model: nn.Module, examples: Any, size: int, data_collator: Collator | None) -> dict[str, Tensor]:
    """A batch of rows from all over the examples."""
    rows = [dict(examples[int(index)]) for index in np.linspace(0, len(examples) - 1, size).astype(int)]
    batch = model_inputs(model, rows, data_collator)
    return {name: value for name, value in batch.items() if isinstance(value, Tensor)}


def _error_in_odd_batches(
    model: nn.Module, answered: OnnxClassifier, examples: Any, data_collator: Collator | None
) -> float:
    errors = []
    for size in ODD_BATCHES:
        batch = _batch(model, examples, size, data_collator)
        with torch.inference_mode():
            errors.append(float((model(**batch).logits - answered(**batch).logits).abs().max()))
    return max(errors)


def _largest_error(expected: Predictions, found: Predictions) -> float:
    return float(np.abs(expected.logits - found.logits).max())


def _agreement(expected: Predictions, found: Predictions) -> float:
    return float((expected.classes == found.classes).mean())


def _accuracy(predictions: Predictions) -> float | None:
    if predictions.labels is None:
        return None
    known = predictions.labels >= 0
    return float((predictions.classes == predictions.labels)[known].mean())


def _loss(expected: Predictions, found: Predictions) -> float:
    """How much accuracy is lost; without labels, on which share of the examples the decision is another one."""
    before, after = _accuracy(expected), _accuracy(found)
    return 1.0 - _agreement(expected, found) if before is None or after is None else before - after
