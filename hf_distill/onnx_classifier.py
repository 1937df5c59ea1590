"""A classifier in an ONNX file, answering where a PyTorch model would, with ONNX Runtime alone."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_distill.redaction import first_line

ONNX_FILES = {False: "onnx/model.onnx", True: "onnx/model_int8.onnx"}
"""Where in a model's folder the Hub and its libraries look for ONNX files, without and with int8."""

CLASSES_KEY = "id2label"
"""Under this name the ONNX file holds the class names, so that it says what they are without a config beside it."""


def figures_path(path: Path) -> Path:
    """Where the figures of an ONNX file lie: ``model.onnx.json`` for ``model.onnx``."""
    return path.with_name(f"{path.name}.json")


def remove_exports(folder: str | Path) -> None:
    """Delete the ONNX files of a folder and their figures, because the model there is about to be another one."""
    for name in ONNX_FILES.values():
        for path in (Path(folder) / name, figures_path(Path(folder) / name)):
            path.unlink(missing_ok=True)


class OnnxClassifier(nn.Module):
    """Logits from an ONNX file that :func:`~hf_distill.export.export_onnx` wrote.

    It has no PyTorch weights. It is a module so that everything that runs a model runs this one too:
    :func:`~hf_distill.evaluation.predict`, :func:`~hf_distill.evaluation.measure_speed`, :func:`~hf_distill.compare`.

    Args:
        path: The file.
        threads: Threads of one call; default as many as PyTorch has.
        providers: Where ONNX Runtime computes, in order of preference, by its own names.

    Attributes:
        input_names: What a call must be given.
        config: The class names, as the config of a PyTorch model has them.

    Raises:
        ImportError: ONNX Runtime is not installed.
        FileNotFoundError: there is no such file.
        ValueError: the file is no classifier in ONNX, or a call lacks an input.

    Example:
        >>> classifier = OnnxClassifier("student/onnx/model.onnx")                 # doctest: +SKIP
        >>> classifier(**tokenizer(["a fine film"], return_tensors="pt")).logits   # doctest: +SKIP
        tensor([[-2.1, 2.3]])
    """

    def __init__(
        self, path: str | Path, threads: int | None = None, providers: Sequence[str] = ("CPUExecutionProvider",)
    ) -> None:
        super().__init__()
        runtime = needed("onnxruntime")
        file = Path(path)
        if not file.is_file():
            raise FileNotFoundError(f"There is no ONNX file {file}. Make one with `hf-distill export DIR`.")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads or torch.get_num_threads(), 1
        options.log_severity_level = 3  # errors only
        try:
            self.session = runtime.InferenceSession(str(file), options, providers=list(providers))
        except Exception as error:  # its own kinds, which share no base class
            raise ValueError(f"{file} cannot be run as ONNX ({first_line(error)}). Export it again.") from error
        self.input_names = [entry.name for entry in self.session.get_inputs()]
        stored = self.session.get_modelmeta().custom_metadata_map.get(CLASSES_KEY)
        if stored is None or [entry.name for entry in self.session.get_outputs()] != ["logits"]:
            raise ValueError(
                f"{file} is no classifier that hf_distill exported. Make one with `hf-distill export DIR`."
            )
        names = {int(index): str(name) for index, name in json.loads(stored).items()}
        self.config = PreTrainedConfig(id2label=names, label2id={name: index for index, name in names.items()})
        self.name_or_path = file.name

    def forward(self, **inputs: Any) -> SequenceClassifierOutput:
        """The logits of a batch.

        Args:
            **inputs: Tensors or arrays, as the tokenizer or image processor returns them; what the file does not read
                is left out.
        """
        if missing := [name for name in self.input_names if name not in inputs]:
            raise ValueError(
                f"{self.name_or_path} reads {', '.join(self.input_names)}, but {', '.join(missing)} was not given. Use "
                "the tokenizer or image processor that was saved with the model."
            )
        arrays = {name: torch.as_tensor(inputs[name]).cpu().numpy() for name in self.input_names}
        [logits] = self.session.run(["logits"], arrays)
        return SequenceClassifierOutput(logits=torch.from_numpy(logits))


def needed(package: str) -> Any:
    """Import one of the packages of the extra ``onnx``.

    Raises:
        ImportError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        cure = "in a clone of hf-distill, pip install -c constraints.txt -e '.[onnx]'"
        raise ImportError(f"This needs the package {package}: {cure}.") from error
