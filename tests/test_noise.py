"""Noise is a function of seed, row and epoch: against a plain calculation, and by a test of its distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm
from test_draws import expected
from torch.utils.data import DataLoader

from hf_distill import Noise


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (7, 3)])
def test_rows_are_normal_quantiles_of_their_draws(seed: int, epoch: int) -> None:
    noise = Noise((2, 3), rows=5, column="pixel_values", seed=seed)
    noise.set_epoch(epoch)
    row = noise[4]["pixel_values"]
    assert (row.shape, row.dtype) == ((2, 3), torch.float32)
    by_hand = norm.ppf(expected(seed, 4, epoch, 6)).astype(np.float32)
    np.testing.assert_allclose(row.flatten().numpy(), by_hand, rtol=1e-6)


def test_it_is_standard_normal_over_rows_and_epochs() -> None:
    noise, drawn = Noise((20,), rows=100), []
    for epoch in range(5):
        noise.set_epoch(epoch)
        drawn += [row["latents"] for row in noise.__getitems__(range(100))]
    values = torch.cat(drawn).numpy()
    assert kstest(values, "norm").pvalue > 0.01
    assert len(np.unique(values)) > 0.999 * len(values), "no row comes twice"


def test_the_smallest_draw_becomes_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = torch.tensor([[0.0, 1 - 2.0**-53]], dtype=torch.float64)
    monkeypatch.setattr("hf_distill.noise.uniform_draws", lambda *_: ends)
    assert Noise((2,), rows=1)[0]["latents"].abs().max() < 9


def test_a_row_is_the_same_alone_shuffled_and_in_a_worker() -> None:
    noise = Noise((4,), rows=6, seed=1)
    alone = torch.stack([noise[row]["latents"] for row in range(6)])
    loader = DataLoader(noise, batch_size=4, sampler=[5, 2, 0, 1, 4, 3], num_workers=1)
    shown = torch.cat([batch["latents"] for batch in loader])
    assert torch.equal(shown, alone[[5, 2, 0, 1, 4, 3]])


def test_a_training_has_its_own_seed() -> None:
    noise = Noise((4,), rows=6)
    other = noise.for_training(3)
    assert other.describe() == {**noise.describe(), "seed": 3}
    assert not torch.equal(other[0]["latents"], noise[0]["latents"])


def test_it_ends() -> None:
    assert len(list(Noise((1,), rows=3))) == 3
    with pytest.raises(IndexError, match="-1 to -1 of 3"):
        Noise((1,), rows=3)[-1]


@pytest.mark.parametrize(("shape", "count"), [((0,), 1), ((3,), 0)])
def test_nothing_is_refused(shape: tuple[int, ...], count: int) -> None:
    with pytest.raises(ValueError, match=r"must be at least 1, got shape=.*, rows="):
        Noise(shape, count)
