"""The energy of a training, as the hardware itself counts it; nothing where it does not."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

POWERCAP = Path("/sys/class/powercap")
PACKAGE = "package"
"""The domains of the processors; ``psys`` beside them counts them again, and their parts are counted in them."""

Counter = Callable[[], float]
"""Joules since some moment."""


class EnergyMeter:
    """Reads energy counters while something runs.

    Two kinds are read: RAPL, which Linux shows of most x86 processors in ``/sys/class/powercap``, to root alone and not
    in virtual machines; and the GPU's own through NVML, from Volta on, with the package ``nvidia-ml-py`` (written by
    its documentation; not tried on a GPU yet). Where there is none, nothing is known, and nothing is estimated. A
    counter counts all that its chip does, not one process.

    Args:
        device: Where the work is done; a GPU is counted if it is this one.
        powercap: The folder of the processors' counters.
        interval_s: How often to look. RAPL starts again from 0 after some 60 kJ or more, minutes on a busy processor,
            so that a beginning and an end are not enough.

    Example:
        >>> with EnergyMeter(powercap="/nowhere") as meter:
        ...     pass
        >>> meter.counters, meter.watt_hours
        ([], None)
    """

    def __init__(
        self, device: torch.device | str = "cpu", powercap: str | Path = POWERCAP, interval_s: float = 20.0
    ) -> None:
        found = {**_processors(Path(powercap)), **_gpu(torch.device(device))}
        self._counters = {name: _Rising(*counter) for name, counter in found.items()}
        self._interval_s, self._stop = interval_s, threading.Event()
        self._watch = threading.Thread(target=self._look_again, daemon=True)

    @property
    def counters(self) -> list[str]:
        """The names of what is counted; empty where there is nothing."""
        return sorted(self._counters)

    @property
    def joules(self) -> float:
        """What has been counted in all."""
        return sum(counter.total for counter in self._counters.values())

    @property
    def watt_hours(self) -> float | None:
        """The same in watt hours; ``None`` where nothing counts."""
        return self.joules / 3600 if self._counters else None

    def __enter__(self) -> EnergyMeter:
        self.look()
        if self._counters:
            self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._watch.is_alive():
            self._watch.join()
        self.look()

    def look(self) -> None:
        """Read every counter. One that can no longer be read counts for nothing at all."""
        for name, counter in list(self._counters.items()):
            try:
                counter.look()
            except (OSError, ValueError):
                del self._counters[name]

    def _look_again(self) -> None:
        while not self._stop.wait(self._interval_s):
            self.look()


class _Rising:
    """A counter as a sum that goes on where the counter starts again from 0.

    Args:
        read: The counter.
        limit: The joules after which it starts again; ``None`` for one that never should.
    """

    def __init__(self, read: Counter, limit: float | None) -> None:
        self.read, self.limit, self.total = read, limit, 0.0
        self.last: float | None = None

    def look(self) -> None:
        now = self.read()
        if self.last is not None:
            if now < self.last and self.limit is None:
                raise ValueError("The counter went back.")
            self.total += now - self.last + (self.limit or 0.0 if now < self.last else 0.0)
        self.last = now


def _processors(powercap: Path) -> dict[str, tuple[Counter, float | None]]:
    """The counters of the processor packages that may be read, with the joules after which each starts again."""
    found: dict[str, tuple[Counter, float | None]] = {}
    for zone in sorted(powercap.glob("*-rapl:*")):
        try:
            name = (zone / "name").read_text().strip()
            limit = float((zone / "max_energy_range_uj").read_text()) / 1e6
            counter = _file_counter(zone / "energy_uj")
            counter()
        except (OSError, ValueError):
            continue
        if name.startswith(PACKAGE):
            found[f"processor {name}"] = (counter, limit)
    return found


def _file_counter(path: Path) -> Counter:
    return lambda: float(path.read_text()) / 1e6


def _gpu(device: torch.device) -> dict[str, tuple[Counter, float | None]]:
    """The counter of the GPU, which counts from the loading of the driver."""
    if device.type != "cuda":
        return {}
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ModuleNotFoundError:
        return {}
    try:
        nvml.nvmlInit()
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")

        def joules() -> float:
            try:
                return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
            except nvml.NVMLError as error:
                raise OSError(str(error)) from error

        joules()
    except (nvml.NVMLError, AttributeError, OSError):
        return {}
    return {"GPU": (joules, None)}
