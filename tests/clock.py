"""A clock of our own, so that no test depends on how fast the machine is."""

from __future__ import annotations

import pytest

from hf_distill.evaluation import speed


class Clock:
    """Stands still but for what is added to ``now``, in seconds."""

    now = 0.0

    def perf_counter(self) -> float:
        """What speeds are measured by."""
        return self.now


def own_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which speeds are measured from now on."""
    clock = Clock()
    monkeypatch.setattr(speed, "time", clock)
    return clock
