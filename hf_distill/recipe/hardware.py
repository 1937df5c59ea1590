"""Settings that fit the machine and the libraries at hand."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import torch
from transformers import TrainingArguments

LAUNCHED = "ACCELERATE_MIXED_PRECISION"
"""Set by ``accelerate launch`` for the program that it starts."""


def hardware_defaults() -> dict[str, Any]:
    """``use_cpu`` where there is no accelerator, ``bf16`` where the hardware computes in it, and no waiting for it.

    ``logging_nan_inf_filter`` reads every loss back from the device, only to leave one that is NaN out of the log. The
    trainer names the component that is.
    """
    return {**_device_defaults(), "logging_nan_inf_filter": False}


def _device_defaults() -> dict[str, Any]:
    if torch.cuda.is_available():
        return {"use_cpu": False, "bf16": torch.cuda.is_bf16_supported(including_emulation=False)}
    if torch.backends.mps.is_available():
        return {"use_cpu": False, "bf16": False}
    has = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return {"use_cpu": True, "bf16": any(test() for test in has if test is not None)}


def suit_cpu(args: TrainingArguments) -> None:
    """Where the CPU trains, give it all cores and the attention that is fastest for short texts.

    ``accelerate launch`` leaves even a single process one thread. And in bfloat16 the backward pass of PyTorch's
    fused attention is 2 to 19 times slower than that of the plain one up to 128 tokens (torch 2.13; see
    ``benchmarks/attention.py``), which is most of what a text recipe trains on.
    """
    if args.device.type != "cpu":
        return
    launched = LAUNCHED in os.environ and os.environ.get("OMP_NUM_THREADS") == "1"
    if launched and os.environ.get("WORLD_SIZE", "1") == "1":
        torch.set_num_threads(os.cpu_count() or 1)
    if args.bf16:
        torch.backends.cuda.enable_flash_sdp(False)  # the switch is the CPU's too, whatever its name says


def padding_multiple() -> int | None:
    """To multiples of how many tokens batches are padded; ``None`` where rounding up only makes more work.

    Tensor cores want multiples of 8, and with AMX each new length costs a kernel's compilation. Other processors do
    not care: for short texts the rounding is a fifth of all tokens.
    """
    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return 8 if torch.cuda.is_available() or amx() else None


def grouping_by_length() -> dict[str, Any]:
    """Batches of examples of like length, which saves padding; transformers changed the name of this in 5.2."""
    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    return (
        {"train_sampling_strategy": "group_by_length"}
        if "train_sampling_strategy" in known
        else {"group_by_length": True}
    )
