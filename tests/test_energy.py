"""Counters in a made-up /sys and a made-up NVML; where there are none, nothing is said."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hf_distill.energy import EnergyMeter


def zone(root: Path, number: str, name: str, microjoules: int, limit: int = 262_143_328_850) -> Path:
    """As the kernel shows a RAPL domain (Documentation/power/powercap)."""
    folder = root / f"intel-rapl:{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{limit}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    return folder / "energy_uj"


def test_packages_are_added_up_and_their_parts_are_not(tmp_path: Path) -> None:
    """18 kJ and 9 kJ are 7.5 Wh. The core is in its package, and psys is the same once more."""
    first, second = zone(tmp_path, "0", "package-0", 5_000_000), zone(tmp_path, "1", "package-1", 0)
    core, psys = zone(tmp_path, "0:0", "core", 0), zone(tmp_path, "2", "psys", 0)
    with EnergyMeter(powercap=tmp_path) as meter:
        first.write_text(str(5_000_000 + 18_000_000_000))
        second.write_text(str(9_000_000_000))
        core.write_text("700000000000")
        psys.write_text("800000000000")
    assert meter.counters == ["processor package-0", "processor package-1"]
    assert meter.joules == pytest.approx(27_000)
    assert meter.watt_hours == pytest.approx(7.5)


def test_a_counter_that_starts_again_loses_nothing(tmp_path: Path) -> None:
    """90 of 100 J, then 30 of the next 100, then 20 of the next: 40 J and 90 J."""
    file = zone(tmp_path, "0", "package-0", 90_000_000, limit=100_000_000)
    with EnergyMeter(powercap=tmp_path) as meter:
        file.write_text("30000000")
        meter.look()
        file.write_text("20000000")
    assert meter.joules == pytest.approx(130)


def test_it_looks_again_while_something_runs(tmp_path: Path) -> None:
    """Two turns of the counter, which its beginning and end alone do not show."""
    file = zone(tmp_path, "0", "package-0", 0, limit=100_000_000)
    with EnergyMeter(powercap=tmp_path, interval_s=0.01) as meter:
        for value, joules in ((60, 60), (10, 110), (60, 160), (10, 210)):
            file.with_suffix(".part").write_text(f"{value}000000")
            file.with_suffix(".part").replace(file)
            end = time.monotonic() + 30
            while meter.joules < joules - 1 and time.monotonic() < end:
                time.sleep(0.005)
    assert meter.joules == pytest.approx(210)


@pytest.mark.parametrize("what", ["nothing", "no folder", "unreadable", "half"])
def test_where_nothing_counts_nothing_is_said(tmp_path: Path, what: str) -> None:
    if what == "unreadable":
        file = zone(tmp_path, "0", "package-0", 0)
        file.unlink()
        file.mkdir()  # as with root's alone, which a test that runs as root may read: an OSError
    elif what == "half":
        zone(tmp_path, "0", "package-0", 0).write_text("")
    with EnergyMeter(powercap=tmp_path / ("no" if what == "no folder" else "")) as meter:
        pass
    assert (meter.counters, meter.watt_hours) == ([], None)


def test_a_counter_that_fails_on_the_way_counts_for_nothing(tmp_path: Path) -> None:
    first, second = zone(tmp_path, "0", "package-0", 0), zone(tmp_path, "1", "package-1", 0)
    with EnergyMeter(powercap=tmp_path) as meter:
        first.write_text("1000000")
        second.write_text("1000000")
        meter.look()
        first.unlink()
    assert (meter.counters, meter.joules) == (["processor package-1"], pytest.approx(1))


class Failed(Exception):
    """NVML's own kind of error."""


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """NVML with two GPUs, of which only the second is asked for, by its UUID; in millijoules since the driver came."""
    state: dict[str, Any] = {"GPU-b": 5_000_000, "asked": []}

    def handle(uuid: str) -> str:
        if uuid not in state:
            raise Failed("Not Found")
        state["asked"].append(uuid)
        return uuid

    def energy(uuid: str) -> int:
        if state[uuid] is None:
            raise Failed("Not Supported")
        return int(state[uuid])

    module = SimpleNamespace(
        nvmlInit=lambda: None, nvmlDeviceGetHandleByUUID=handle, nvmlDeviceGetTotalEnergyConsumption=energy,
        NVMLError=Failed,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", module)
    uuids = {0: "a", 1: "b"}
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=uuids[torch.device(device).index])
    )
    return state


def test_the_gpu_that_computes_is_counted(nvml: dict[str, Any], tmp_path: Path) -> None:
    with EnergyMeter("cuda:1", powercap=tmp_path) as meter:
        nvml["GPU-b"] += 7_200_000
    assert (meter.counters, meter.watt_hours) == (["GPU"], pytest.approx(2.0))
    assert nvml["asked"] == ["GPU-b"]
    assert EnergyMeter("cpu", powercap=tmp_path).counters == []


@pytest.mark.parametrize("device", ["cuda:0", "cuda:1"])
def test_a_gpu_without_a_counter_is_not_counted(nvml: dict[str, Any], tmp_path: Path, device: str) -> None:
    """The one is not known to NVML, as in a part of a GPU; the other is too old to count."""
    nvml["GPU-b"] = None
    assert EnergyMeter(device, powercap=tmp_path).counters == []


def test_a_gpus_counter_that_goes_back_is_left_out(nvml: dict[str, Any], tmp_path: Path) -> None:
    """Its driver was loaded anew: nobody knows what was before."""
    with EnergyMeter("cuda:1", powercap=tmp_path) as meter:
        nvml["GPU-b"] = 0
    assert (meter.counters, meter.watt_hours) == ([], None)


def test_without_the_package_a_gpu_is_not_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert EnergyMeter("cuda:0", powercap=tmp_path).counters == []
