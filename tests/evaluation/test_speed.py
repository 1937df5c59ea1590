import pytest
import tiny
import torch
from clock import Clock, own_clock
from safetensors.torch import save_model
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_distill.evaluation import speed
from hf_distill.evaluation.speed import count_parameters, measure_speed, size_mb


class Sleeper(nn.Module):
    """Takes 2 ms a call and 1 ms an example, by its own clock; longer where it begins, and now and then."""

    def __init__(self, clock, slow_calls=()):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.clock = clock
        self.slow_calls = slow_calls
        self.sizes = []

    def forward(self, input_ids):
        slow = 0.5 if len(self.sizes) in self.slow_calls else 0
        self.sizes.append(len(input_ids))
        self.clock.now += 0.002 + 0.001 * len(input_ids) + slow
        return SequenceClassifierOutput(logits=input_ids)


@pytest.fixture
def sleeper(monkeypatch):
    return Sleeper(own_clock(monkeypatch))


def test_times_are_those_of_the_forward_pass(sleeper):
    """By hand: of 100 calls 94 take 3 ms and 6 take 503, so that the median is 3 ms and the 95th percentile 503."""
    singles, batches = range(8, 108), range(110, 130)  # after 8 and 2 to warm up
    sleeper.slow_calls = {*range(8), 108, 109, *singles[10:16], *batches[:9]}
    rows = [{"input_ids": [number, 0], "label": 0} for number in range(8)]
    found = measure_speed(sleeper, rows, seconds=100)
    assert found.latency_ms == pytest.approx({"p50": 3.0, "p95": 503.0})
    assert found.throughput_per_s == pytest.approx(32 / 0.034)
    assert sleeper.sizes == [1] * 108 + [32] * 22


def test_a_slow_model_is_timed_for_as_long_as_allowed_only(sleeper):
    measure_speed(sleeper, [{"input_ids": [1, 0]}], seconds=0.058)
    assert sleeper.sizes.count(1) == 1 + 10  # warm-up, then 10 calls of 3 ms in half of the time


@pytest.mark.parametrize(("device", "waits_for"), [("cuda:1", torch.device("cuda:1")), ("mps", None), ("cpu", "none")])
def test_the_device_in_use_is_waited_for(device, waits_for, monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append(None))
    speed._timed(lambda: None, [{}], torch.device(device), warmup=0, calls=1, seconds=1)
    assert set(waited) == (set() if waits_for == "none" else {waits_for})


def test_no_examples_is_an_error():
    with pytest.raises(ValueError, match="at least one example"):
        measure_speed(Sleeper(Clock()), [])


def test_size_is_that_of_the_saved_file_with_shared_tensors_once(tmp_path):
    """Against the file that safetensors writes, whose header of names is the only difference."""
    model = tiny.bert()
    model.again = model.classifier
    save_model(model, str(tmp_path / "model.safetensors"))
    written = (tmp_path / "model.safetensors").stat().st_size
    assert 0 < written - size_mb(model) * 1e6 < 5000
    assert count_parameters(model) == count_parameters(tiny.bert())
    assert size_mb(model) == pytest.approx(count_parameters(model) * 4 / 1e6)


def test_parameters_by_hand():
    assert count_parameters(nn.Linear(3, 4)) == 3 * 4 + 4
