"""How a model can be served: what its card says about the ordinary routes, and whether each was tried."""

from __future__ import annotations

import re
from pathlib import Path

from hf_distill.onnx_classifier import ONNX_FILES

TEI_ARCHITECTURES = ("bert", "camembert", "roberta", "xlm-roberta")
"""The ``model_type`` of the text classifiers that text-embeddings-inference serves on any device, by its source
(``backends/candle/src/models/bert.rs``); DistilBERT, for one, it serves for embeddings only."""


def onnx_file(folder: str | Path) -> str | None:
    """The ONNX file that a card shows, within the folder; ``None`` where there is none."""
    name = ONNX_FILES[False]
    return name if (Path(folder) / name).is_file() else None


def endpoint_name(name: str) -> str:
    """A name that Inference Endpoints takes: at most 32 of a-z, 0-9 and dashes; ``student`` where none is left.

    Example:
        >>> endpoint_name("SST2_tiny.v1"), endpoint_name("\N{GREEK SMALL LETTER PI}")
        ('sst2-tiny-v1', 'student')
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:32].strip("-") or "student"
