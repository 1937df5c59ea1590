"""On what a result was measured: the machine and the versions of the libraries."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "hf_distill")


def machine(device: torch.device | str = "cpu") -> dict[str, Any]:
    """The processor, its number of cores, PyTorch's number of threads, and the GPU if the device is one.

    Args:
        device: Where the models ran.

    Example:
        >>> sorted(machine())
        ['cores', 'cpu', 'gpu', 'threads']
    """
    device = torch.device(device)
    return {
        "cpu": _cpu_name(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def library_versions() -> dict[str, str]:
    """The versions of Python and of the libraries that a result depends on; ``""`` for one that is not installed."""
    return {"python": platform.python_version(), **{name: version_of(name) for name in PACKAGES}}


def deployment_versions() -> dict[str, str]:
    """The versions that the speed of an ONNX file depends on, and those that wrote it."""
    return {name: version_of(name) for name in ("torch", "onnx", "onnxscript", "onnxruntime")}


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def version_of(package: str) -> str:
    """The version of an installed package; ``""`` for one that is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
