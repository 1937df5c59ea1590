"""Expected values by hand."""

import pytest

from hf_distill import LabelTerm
from hf_distill.losses import VirtualTeacherLoss
from hf_distill.schedules import Schedule, as_schedule, constant, cosine, linear, warmup

EVERY_SCHEDULE = [
    constant(0.7),
    linear(1.0, 0.0),
    cosine(4.0, 1.0),
    warmup(0.1, 2.0),
    warmup(0.25, linear(1.0, 0.0)),
]


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (constant(0.7), [0.7, 0.7, 0.7, 0.7, 0.7]),
        (linear(1.0, 3.0), [1.0, 1.5, 2.0, 2.5, 3.0]),
        (linear(1.0, 0.0), [1.0, 0.75, 0.5, 0.25, 0.0]),
        (cosine(2.0, 0.0), [2.0, 1 + 2**-0.5, 1.0, 1 - 2**-0.5, 0.0]),
        (cosine(0.0, 2.0), [0.0, 1 - 2**-0.5, 1.0, 1 + 2**-0.5, 2.0]),
        (warmup(0.5, 3.0), [0.0, 1.5, 3.0, 3.0, 3.0]),
        (warmup(0.5, linear(4.0, 2.0)), [0.0, 2.0, 4.0, 3.0, 2.0]),
    ],
    ids=str,
)
def test_values_at_quarters(schedule, values):
    assert [schedule(quarter / 4) for quarter in range(5)] == pytest.approx(values)


@pytest.mark.parametrize("schedule", EVERY_SCHEDULE, ids=str)
def test_progress_outside_0_to_1_means_the_nearer_end(schedule):
    assert schedule(-0.5) == schedule(0.0)
    assert schedule(1.5) == schedule(1.0)


@pytest.mark.parametrize("schedule", EVERY_SCHEDULE, ids=str)
def test_a_schedule_remembers_nothing(schedule):
    first = [schedule(step / 10) for step in range(11)]
    assert [schedule(step / 10) for step in reversed(range(11))] == first[::-1]


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.9])
def test_warmup_meets_what_follows_without_a_jump(fraction):
    schedule = warmup(fraction, cosine(5.0, 1.0))
    assert schedule(fraction - 1e-9) == pytest.approx(5.0, rel=1e-6)
    assert schedule(fraction) == pytest.approx(5.0)
    assert schedule(1.0) == pytest.approx(1.0)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 20.0, float("nan")])
def test_warmup_takes_a_share_of_the_training(fraction):
    with pytest.raises(ValueError, match=f"between 0 and 1, got {fraction}"):
        warmup(fraction, 1.0)


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        (linear(1.0, 0.0), "linear(1.0, 0.0)"),
        (cosine(4.0, 1.0), "cosine(4.0, 1.0)"),
        (warmup(0.1, 2.0), "warmup(0.1, 2.0)"),
        (warmup(0.1, linear(1.0, 0.0)), "warmup(0.1, linear(1.0, 0.0))"),
    ],
    ids=str,
)
def test_a_schedule_reads_as_it_is_written(schedule, text):
    assert repr(schedule) == str(schedule) == text


def test_schedules_are_equal_when_they_read_alike():
    assert linear(1.0, 0.0) == linear(1.0, 0.0)
    assert linear(1.0, 0.0) != linear(1.0, 0.5)


def test_a_number_becomes_a_constant_and_a_schedule_stays():
    schedule = linear(0.0, 1.0)
    assert as_schedule(schedule) is schedule
    assert isinstance(as_schedule(3), Schedule)
    assert [as_schedule(3)(progress) for progress in (0.0, 0.4, 1.0)] == [3, 3, 3]


def test_a_loss_in_the_place_of_a_weight_is_named():
    with pytest.raises(TypeError, match=r"got VirtualTeacherLoss\(.*name the arguments, LabelTerm\(weight"):
        LabelTerm(VirtualTeacherLoss())
