"""Expected values: plain loops in float64 numpy, gradients by central differences of them, or by hand."""

import math

import numpy as np
import pytest
import torch
from finite_differences import check_value_and_gradient

from hf_distill.losses import HintLoss, ReviewLoss

generator = torch.Generator().manual_seed(0)


def blurred(channel, cells):
    """Means over ``cells`` x ``cells`` cells; those of uneven maps overlap."""
    height, width = channel.shape
    means = np.zeros((cells, cells))
    for h in range(cells):
        for w in range(cells):
            rows = range(math.floor(h * height / cells), math.ceil((h + 1) * height / cells))
            columns = range(math.floor(w * width / cells), math.ceil((w + 1) * width / cells))
            means[h, w] = np.mean([channel[r, c] for r in rows for c in columns])
    return means


def of_the_paper(student, teacher):
    """Of one example, before the division by the sum of the shares."""
    total, share = np.mean((student - teacher) ** 2), 1.0
    for cells in (4, 2, 1):
        if cells < min(student.shape[1:]):
            share = share / 2
            pairs = zip(student, teacher, strict=True)
            total += share * np.mean([(blurred(s, cells) - blurred(t, cells)) ** 2 for s, t in pairs])
    return total


def reference(student, teacher):
    pairs = zip(student, teacher, strict=True)
    return np.array([of_the_paper(s, t) / of_the_paper(np.zeros_like(t), t) for s, t in pairs])


@pytest.mark.parametrize("size", [(5, 6), (4, 4), (8, 3), (2, 2)])
def test_value_and_gradient(size):
    student, teacher = (torch.randn(2, 2, *size, generator=generator) for _ in range(2))
    check_value_and_gradient(ReviewLoss(), reference, student, 3.0 * teacher)


def test_by_hand():
    # 2 x 2: full error 1, blurred error 0, the teacher's (2 + 1/2 * 1) = 2.5. A shift of 1 costs 1.5 of that instead.
    teacher = torch.tensor([[0.0, 2.0], [2.0, 0.0]]).reshape(1, 1, 2, 2)
    assert ReviewLoss()(torch.ones(1, 1, 2, 2), teacher).item() == pytest.approx(1.0 / 2.5)
    assert ReviewLoss()(teacher + 1.0, teacher).item() == pytest.approx(1.5 / 2.5)


def test_without_anything_to_blur_it_is_the_hint_loss():
    student, teacher = (torch.randn(2, 3, 1, 1, generator=generator) for _ in range(2))
    torch.testing.assert_close(ReviewLoss()(student, teacher), HintLoss()(student, teacher))


@pytest.mark.parametrize("shape", [(2, 5, 3), (2, 3)])
def test_only_maps(shape):
    with pytest.raises(ValueError, match=r"must be maps \(B, C, H, W\).*For tokens and vectors use HintLoss"):
        ReviewLoss()(torch.ones(shape), torch.ones(shape))
