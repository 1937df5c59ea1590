"""How large a model is, and how fast it answers on the machine at hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from hf_distill.evaluation.prediction import Collator, model_inputs
from hf_distill.inference import running

THROUGHPUT_BATCH = 32


@dataclass(frozen=True)
class Speed:
    """How fast a model answers.

    Args:
        latency_ms: Time of one call with one example: ``{"p50": median, "p95": 95th percentile}``.
        throughput_per_s: Examples a second in batches of 32, from the median call.
    """

    latency_ms: dict[str, float]
    throughput_per_s: float


def measure_speed(
    model: nn.Module,
    examples: Sequence[Any],
    data_collator: Collator | None = None,
    device: torch.device | str | None = None,
    *,
    seconds: float = 5.0,
) -> Speed:
    """Time the forward pass, in the model's own precision, on real examples.

    Every example is run once to warm up. Then 100 calls with one example each are timed, in turn over the examples,
    and 20 calls with 32 examples, padded to the longest. Each of the two ends after half of ``seconds``, with what it
    then has.
    Tokenising and collating are not part of the time; moving the batch to the device is not either.

    Args:
        model: A classifier.
        examples: Rows as the dataset has them, of the lengths that the model will see; 32 are enough.
        data_collator: Turns a list of rows into a batch; default ``transformers.default_data_collator``.
        device: Where to run; default where the model is.
        seconds: Longest time for both series, apart from the warm-up.

    Raises:
        ValueError: there are no examples.
    """
    if not examples:
        raise ValueError("measure_speed needs at least one example, got none. Give it some rows of the dataset.")
    rows = list(examples)
    many = (rows * THROUGHPUT_BATCH)[:THROUGHPUT_BATCH]
    with running(model, device) as where:
        singles = [model_inputs(model, [row], data_collator, where) for row in rows]
        batch = model_inputs(model, many, data_collator, where)
        single_ms = _timed(model, singles, where, warmup=len(singles), calls=100, seconds=seconds / 2)
        batch_ms = _timed(model, [batch], where, warmup=2, calls=20, seconds=seconds / 2)
    return Speed(
        latency_ms={"p50": float(np.percentile(single_ms, 50)), "p95": float(np.percentile(single_ms, 95))},
        throughput_per_s=THROUGHPUT_BATCH * 1000.0 / float(np.median(batch_ms)),
    )


def count_parameters(model: nn.Module) -> int:
    """Number of parameters; one that is used in two places counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


def size_mb(model: nn.Module) -> float:
    """Megabytes (10^6 bytes) of the weights as ``save_pretrained`` writes them; shared tensors count once."""
    stored = {tensor.data_ptr(): tensor.nbytes for tensor in model.state_dict().values()}
    return float(sum(stored.values()) / 1e6)


def _timed(
    model: nn.Module, batches: list[dict[str, Any]], device: torch.device, *, warmup: int, calls: int, seconds: float
) -> list[float]:
    """Milliseconds of each call, over the batches in turn."""
    finish: Callable[[], None] = _nothing
    if device.type == "cuda":
        finish = partial(torch.cuda.synchronize, device)  # by itself it waits for the first GPU
    elif device.type == "mps":
        finish = torch.mps.synchronize
    for call in range(warmup):
        model(**batches[call % len(batches)])
    finish()
    milliseconds: list[float] = []
    end = time.perf_counter() + seconds
    while len(milliseconds) < calls and (not milliseconds or time.perf_counter() < end):
        start = time.perf_counter()
        model(**batches[len(milliseconds) % len(batches)])
        finish()
        milliseconds.append((time.perf_counter() - start) * 1000.0)
    return milliseconds


def _nothing() -> None:
    """On a CPU a call is over when it returns."""
