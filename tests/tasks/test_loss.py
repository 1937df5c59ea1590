"""The labels' loss of several tasks. Its values are tested with the terms, and here what it shares with every loss."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from hf_distill import Tasks
from hf_distill.losses import ClassificationLoss
from hf_distill.tasks.loss import TaskLoss

LOSS = TaskLoss(Tasks({"tone": ["bad", "good"], "topic": ["film", "music", "art"]}), ClassificationLoss())


def test_the_softmax_runs_within_the_task_and_the_gradient_too() -> None:
    logits = torch.tensor([[1.0, 2.0, 30.0, 4.0, 5.0]] * 3, requires_grad=True)
    losses = LOSS(logits, torch.tensor([0, 4, -100]))
    tone, topic = F.cross_entropy(logits[0, :2], torch.tensor(0)), F.cross_entropy(logits[1, 2:], torch.tensor(2))
    torch.testing.assert_close(losses, torch.stack([tone, topic, torch.zeros(())]))
    losses.sum().backward()
    assert logits.grad is not None
    assert not logits.grad[0, 2:].any()
    assert not logits.grad[1, :2].any()
    assert not logits.grad[2].any()
    assert logits.grad[0, :2].all()


def test_bfloat16_is_computed_in_float32() -> None:
    assert LOSS(torch.zeros(2, 5, dtype=torch.bfloat16), torch.tensor([0, 2])).dtype == torch.float32


def test_mixed_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="images are not mixed"):
        LOSS(torch.zeros(2, 5), torch.full((2, 5), 0.2))
