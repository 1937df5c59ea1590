"""Settings that fit the machine at hand."""

from __future__ import annotations

from typing import Any

import torch


def hardware_defaults() -> dict[str, Any]:
    """``use_cpu`` where there is no accelerator, and ``bf16`` where the hardware computes in it."""
    if torch.cuda.is_available():
        return {"use_cpu": False, "bf16": torch.cuda.is_bf16_supported(including_emulation=False)}
    if torch.backends.mps.is_available():
        return {"use_cpu": False, "bf16": False}
    has = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return {"use_cpu": True, "bf16": any(test() for test in has if test is not None)}
