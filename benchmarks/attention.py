"""Fused against plain attention on a CPU: forward and backward of ``scaled_dot_product_attention``, ms.

    python benchmarks/attention.py

A recipe for texts switches the fused one off where it trains in bfloat16 on a CPU; this is why.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from common import describe_machine, print_table

SHAPES = ((64, 12, 8, 32), (64, 12, 16, 32), (64, 12, 24, 64), (64, 12, 64, 32), (32, 12, 128, 64), (8, 12, 512, 64))
"""Batch, heads, tokens, width of a head."""


def measure(shape: tuple[int, int, int, int], dtype: torch.dtype, fused: bool, repeats: int) -> tuple[float, float]:
    """Median milliseconds of the forward and of the backward pass, with a padding mask, after one that is not timed."""
    torch.backends.cuda.enable_flash_sdp(fused)  # the switch is the CPU's too
    batch, _, tokens, _ = shape
    mask = torch.ones(batch, 1, tokens, tokens, dtype=torch.bool)
    forward, backward = [], []
    for _ in range(repeats + 1):
        query, key, value = (torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(3))
        start = time.perf_counter()
        output = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        middle = time.perf_counter()
        output.sum().backward()
        forward.append((middle - start) * 1e3)
        backward.append((time.perf_counter() - middle) * 1e3)
    return statistics.median(forward[1:]), statistics.median(backward[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20, help="timed passes of each kind (default: 20)")
    repeats = parser.parse_args().repeats
    print(describe_machine(torch.device("cpu"), []))
    rows = []
    for dtype in (torch.bfloat16, torch.float32):
        for shape in SHAPES:
            fused, plain = (measure(shape, dtype, how, repeats) for how in (True, False))
            cells = [f"{value:.1f}" for value in (*fused, *plain)]
            rows.append(
                [str(dtype).split(".")[1], " x ".join(map(str, shape)), *cells, f"{sum(fused) / sum(plain):.2f}"]
            )
    header = ["precision", "batch x heads x tokens x width", "fused fwd", "fused bwd", "plain fwd", "plain bwd"]
    print_table([*header, "fused / plain"], rows)


if __name__ == "__main__":
    main()
