"""An objective that cannot do with a task is refused in the words of its loss."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hf_distill import FeatureTerm, LabelTerm, LogitTerm, Objective, Pair, Schedule, warmup
from hf_distill.losses import (
    DecoupledSoftTargetLoss,
    DISTLoss,
    HardTargetLoss,
    HintLoss,
    PairLoss,
    SoftTargetLoss,
    StandardizedLogits,
)
from hf_distill.recipe import check_objective

FEATURES = FeatureTerm(HintLoss(), Pair("vgg.blocks.0", "vgg.blocks.0"))


@pytest.mark.parametrize(
    ("loss", "classes", "mixed", "message"),
    [
        (SoftTargetLoss(), 2, True, None),
        (DISTLoss(), 2, True, "needs at least 3 of them, got 2"),
        (DISTLoss(), 3, True, None),
        (HardTargetLoss(), 2, False, None),
        (StandardizedLogits(SoftTargetLoss()), 2, False, "Standardising logits needs at least 3 classes, got 2"),
        (StandardizedLogits(SoftTargetLoss()), 3, True, None),
        (DecoupledSoftTargetLoss(), 2, False, "needs at least 3 classes, got 2"),
        (DecoupledSoftTargetLoss(), 3, False, None),
        (DecoupledSoftTargetLoss(), 1000, True, r"one whole number per example.*Mixed labels"),
    ],
)
@pytest.mark.parametrize("weight", [1.0, warmup(0.5, 1.0)], ids=["constant", "from 0"])
def test_each_loss_says_what_it_cannot_do(
    loss: PairLoss, classes: int, mixed: bool, message: str | None, weight: float | Schedule
) -> None:
    objective = Objective(ce=LabelTerm(), hint=FEATURES, far=LogitTerm(loss, weight, teacher=None))
    if message is None:
        check_objective(objective, classes, mixed)
    else:
        with pytest.raises(ValueError, match=rf"The term 'far' does not suit this task\. .*{message}"):
            check_objective(objective, classes, mixed)


@pytest.mark.parametrize(("mixed", "shape"), [(False, (2,)), (True, (2, 5))])
def test_losses_see_what_they_will_see_in_training(mixed: bool, shape: tuple[int, ...]) -> None:
    seen = []

    def keep(logits: Tensor, labels: Tensor) -> Tensor:
        seen.append((tuple(logits.shape), tuple(labels.shape), labels.is_floating_point()))
        return torch.zeros(len(logits))

    check_objective(Objective(ce=LabelTerm(loss=keep)), 5, mixed)
    assert seen == [((2, 5), shape, mixed)]
