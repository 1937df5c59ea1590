"""What suits the machine at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from hf_distill.recipe import hardware, hardware_defaults, suit_cpu


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch):
    threads = torch.get_num_threads()
    for name in ("ACCELERATE_MIXED_PRECISION", "OMP_NUM_THREADS", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    yield
    torch.set_num_threads(threads)
    torch.backends.cuda.enable_flash_sdp(True)


@pytest.mark.parametrize(
    ("launcher", "threads"),
    [
        ({}, 1),  # started with python: whatever the user chose
        ({"ACCELERATE_MIXED_PRECISION": "no", "OMP_NUM_THREADS": "1"}, 5),
        ({"ACCELERATE_MIXED_PRECISION": "no", "OMP_NUM_THREADS": "3"}, 1),
        ({"ACCELERATE_MIXED_PRECISION": "no", "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}, 1),
    ],
)
def test_a_single_launched_process_gets_the_cores_that_the_launcher_left_idle(
    launcher: dict[str, str], threads: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    args = tiny.arguments(tmp_path)
    assert args.device.type == "cpu"  # found out once, and before accelerate can see what stands below
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(hardware.os, "cpu_count", lambda: 5)
    torch.set_num_threads(1)
    suit_cpu(args)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("bf16", [False, True])
def test_the_fused_attention_is_off_in_bfloat16_only(bf16: bool, tmp_path: Path) -> None:
    suit_cpu(tiny.arguments(tmp_path, bf16=bf16))
    assert torch.backends.cuda.flash_sdp_enabled() is not bf16


def test_the_switch_reaches_the_attention_on_the_cpu(tmp_path: Path) -> None:
    """What the trick stands on: with it off, scaled dot-product attention calls another kernel."""

    def kernels() -> set[str]:
        query = torch.randn(2, 2, 16, 8, dtype=torch.bfloat16, requires_grad=True)
        with torch.profiler.profile() as profile:
            torch.nn.functional.scaled_dot_product_attention(query, query, query).sum().backward()
        return {event.key for event in profile.key_averages() if "flash" in event.key}

    assert kernels()
    suit_cpu(tiny.arguments(tmp_path, bf16=True))
    assert not kernels()


@pytest.mark.parametrize(("cuda", "amx", "multiple"), [(False, False, None), (True, False, 8), (False, True, 8)])
def test_padding_is_rounded_up_where_it_pays(
    cuda: bool, amx: bool, multiple: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert hardware.padding_multiple() == multiple


@pytest.mark.parametrize(
    ("cuda", "mps", "cpu", "expected"),
    [
        (True, False, (True, True), {"use_cpu": False, "bf16": "as CUDA says"}),
        (False, True, (True, True), {"use_cpu": False, "bf16": False}),
        (False, False, (True, False), {"use_cpu": True, "bf16": True}),
        (False, False, (False, True), {"use_cpu": True, "bf16": True}),
        (False, False, (False, False), {"use_cpu": True, "bf16": False}),
        (False, False, (None, None), {"use_cpu": True, "bf16": False}),  # a PyTorch that cannot tell
    ],
)
def test_what_the_hardware_computes_in(
    cuda: bool, mps: bool, cpu: tuple[bool | None, ...], expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: "as CUDA says")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    for name, has in zip(("_is_avx512_bf16_supported", "_is_amx_tile_supported"), cpu, strict=True):
        if has is None:
            monkeypatch.delattr(torch.cpu, name, raising=False)
        else:
            monkeypatch.setattr(torch.cpu, name, lambda has=has: has, raising=False)
    assert hardware_defaults() == {**expected, "logging_nan_inf_filter": False}
