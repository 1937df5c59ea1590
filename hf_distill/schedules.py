"""Numbers that change while a model trains: loss weights and temperatures.

A schedule maps progress in [0, 1] to a value. It depends on nothing else, so a resumed run
continues exactly where it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Real


@dataclass(frozen=True)
class Schedule:
    """A value as a function of training progress.

    Args:
        description: How the schedule reads in logs and model cards, such as ``linear(1.0, 0.0)``.
        function: Maps progress, from 0.0 to 1.0, to the value.
        is_constant: Whether the value never changes.

    Example:
        >>> halfway = linear(1.0, 0.0)
        >>> halfway, halfway(0.25)
        (linear(1.0, 0.0), 0.75)
    """

    description: str
    function: Callable[[float], float] = field(repr=False, compare=False)
    is_constant: bool = False

    def __call__(self, progress: float) -> float:
        return self.function(min(max(progress, 0.0), 1.0))

    def __repr__(self) -> str:
        return self.description


def constant(value: float) -> Schedule:
    """The same value throughout."""
    return Schedule(str(value), lambda progress: value, is_constant=True)


def linear(start: float, end: float) -> Schedule:
    """From ``start`` to ``end`` in a straight line."""
    return Schedule(f"linear({start}, {end})", lambda progress: start + (end - start) * progress)


def cosine(start: float, end: float) -> Schedule:
    """From ``start`` to ``end`` along half a cosine: flat at both ends, steepest in the middle."""
    return Schedule(
        f"cosine({start}, {end})",
        lambda progress: end + (start - end) * (1 + math.cos(math.pi * progress)) / 2,
    )


def warmup(fraction: float, then: float | Schedule) -> Schedule:
    """A straight line from 0 during the first ``fraction`` of training, then ``then``.

    A schedule given as ``then`` runs over the whole of the rest, from its start to its end.

    Args:
        fraction: Share of the training that the warm-up takes, in (0, 1).
        then: The value, or the schedule, that follows.

    Raises:
        ValueError: ``fraction`` is not between 0 and 1.

    Example:
        >>> weight = warmup(0.2, 5.0)
        >>> [weight(progress) for progress in (0.0, 0.1, 0.2, 1.0)]
        [0.0, 2.5, 5.0, 5.0]
    """
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"warmup fraction must lie between 0 and 1, got {fraction}.")
    rest = as_schedule(then)

    def value(progress: float) -> float:
        if progress < fraction:
            return rest(0.0) * progress / fraction
        return rest((progress - fraction) / (1.0 - fraction))

    return Schedule(f"warmup({fraction}, {then})", value)


def as_schedule(value: float | Schedule) -> Schedule:
    """A number becomes a constant schedule; a schedule stays what it is.

    Raises:
        TypeError: it is neither.
    """
    if not isinstance(value, Schedule | Real):
        raise TypeError(
            f"A number or a schedule is needed, got {value!r}: name the arguments, LabelTerm(weight=0.5, loss=...)."
        )
    return value if isinstance(value, Schedule) else constant(value)
