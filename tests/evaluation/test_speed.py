import time

import pytest
import tiny
import torch
from safetensors.torch import save_model
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_distill.evaluation.speed import count_parameters, measure_speed, size_mb


class Sleeper(nn.Module):
    """Takes 2 ms a call and 1 ms an example."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.sizes = []

    def forward(self, input_ids):
        self.sizes.append(len(input_ids))
        time.sleep(0.002 + 0.001 * len(input_ids))
        return SequenceClassifierOutput(logits=input_ids)


def test_times_are_those_of_the_forward_pass():
    model, rows = Sleeper(), [{"input_ids": [number, 0], "label": 0} for number in range(8)]
    speed = measure_speed(model, rows)
    assert 3.0 <= speed.latency_ms["p50"] < 100.0
    assert speed.latency_ms["p95"] >= speed.latency_ms["p50"]
    assert 50 < speed.throughput_per_s <= 32 / 0.034
    assert (speed.threads, speed.device) == (torch.get_num_threads(), "cpu")
    assert model.sizes.count(1) == 8 + 100  # warm-up, then the timed calls
    assert set(model.sizes) == {1, 32}


def test_a_slow_model_is_timed_for_as_long_as_allowed_only():
    model = Sleeper()
    start = time.perf_counter()
    measure_speed(model, [{"input_ids": [1, 0]}], seconds=0.05)
    assert time.perf_counter() - start < 1.0
    assert model.sizes.count(1) < 30


def test_no_examples_is_an_error():
    with pytest.raises(ValueError, match="at least one example"):
        measure_speed(Sleeper(), [])


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
