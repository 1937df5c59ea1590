"""What ``cifar10.py --method`` names: from --temperature and --distillation_weight to what the student minimises.

Weights are those with which the authors of a method train VGG-8 from VGG-13 on CIFAR-100, 240 epochs in batches of 64,
except where a comment says more. Two departures are common to all that look at features: their authors use the labels
at weight 1 and no soft targets, here the features stand beside the labels at 0.1 and soft targets at 0.9; and losses
between features are measured against a student that knows nothing (docs/losses.md), so that most weights here are 1,
where those of the authors depend on the scale of the teacher's features. None of the weights was tuned.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

from hf_distill import (
    BottleneckTerm,
    ContrastiveTerm,
    FeatureTerm,
    LabelTerm,
    LogitTerm,
    Objective,
    Pair,
    ReviewTerm,
    Term,
    warmup,
)
from hf_distill.losses import (
    AttentionTransferLoss,
    DecoupledSoftTargetLoss,
    DISTLoss,
    HintLoss,
    MultiLevelLogitLoss,
    NormalizedKDLoss,
    ProbabilisticTransferLoss,
    RelationalLoss,
    SimilarityPreservingLoss,
    SoftTargetLoss,
    StandardizedLogits,
    TransformedTeacherMatchingLoss,
    VariationalInformationLoss,
)


def with_soft_targets(**terms: Term) -> Callable[[float, float], Objective]:
    """Labels and soft targets, and more terms beside them."""
    return lambda temperature, weight: Objective(
        ce=LabelTerm(1 - weight), kd=LogitTerm(SoftTargetLoss(temperature), weight), **copy.deepcopy(terms)
    )


def blocks(*numbers: int) -> list[Pair]:
    """These blocks of a VGG, each with the teacher's of the same number."""
    return [Pair(f"vgg.blocks.{number}", f"vgg.blocks.{number}") for number in numbers]


POOLED = Pair("vgg.pooler", "vgg.pooler")


METHODS: dict[str, Callable[[float, float], Objective]] = {
    "soft": with_soft_targets(),
    # Ten times the weight: standardised logits are small. With 0.9 it is the authors' 0.1 and 9; their temperature for
    # VGGs is 3, --temperature 3, and 2 for most other models.
    "standardized": lambda temperature, weight: Objective(
        ce=LabelTerm(1 - weight), kd=LogitTerm(StandardizedLogits(SoftTargetLoss(temperature)), 10 * weight)
    ),
    # DKD. The warm-up is the authors' 20 of 240 epochs, here a twelfth of the training and by steps rather than epochs.
    "decoupled": lambda temperature, _: Objective(
        ce=LabelTerm(), kd=LogitTerm(DecoupledSoftTargetLoss(temperature), weight=warmup(20 / 240, 1.0))
    ),
    # At --temperature 4 it is the authors' for CIFAR-100, at 1 theirs for ImageNet, which brought nothing on CIFAR-10.
    "dist": lambda temperature, _: Objective(ce=LabelTerm(), kd=LogitTerm(DISTLoss(temperature), weight=2.0)),
    # The authors' at --temperature 3, which is that of the other classes alone.
    "nkd": lambda temperature, _: Objective(ce=LabelTerm(), kd=LogitTerm(NormalizedKDLoss(temperature))),
    # The authors give these two numbers beside CRD. The more classes, the more an unsure example weighs.
    "wttm": lambda *_: Objective(
        ce=LabelTerm(), kd=LogitTerm(TransformedTeacherMatchingLoss(5.0, weighted=True), weight=4.0)
    ),
    # MLKD. With 0.9 it is the authors' 0.1 and 0.9; --policy trivial --strong_share 0.5 makes their two kinds of views.
    # They relate 64 examples to each other: larger batches make the pairs count more.
    "multi_level": lambda _, weight: Objective(
        ce=LabelTerm(1 - weight),
        kd=LogitTerm(MultiLevelLogitLoss(batch_weight=1 / 3, class_weight=1 / 3), 3.75 * weight),
    ),
    # FitNets, as common code has it: at once with the other losses, not in a stage before them. That code has 100, here
    # 100 times the mean square of the teacher's features; and an adapter also between equal widths, with a ReLU.
    "hint": with_soft_targets(hint=FeatureTerm(HintLoss(), *blocks(2))),
    # AT. 1 for each block; common code has 1000 over the number of positions, 4 to 60, and leaves block 0 out.
    "attention": with_soft_targets(attention=FeatureTerm(AttentionTransferLoss(), *blocks(0, 1, 2, 3, 4), weight=5.0)),
    # VID. 1/2 for each block is the authors' 1. Their student's maps pass three convolutions, here an adapter of one,
    # or none between equal widths; and their variances begin at 5, here at 1.
    "variational": with_soft_targets(
        **{
            f"variational{number}": FeatureTerm(VariationalInformationLoss(), *blocks(number), weight=0.5)
            for number in (1, 2, 3, 4)
        }
    ),
    # Three of weight 1, which for the authors' 3000, 30000, and 25 and 50, would depend on teacher and batch.
    "similarity": with_soft_targets(similarity=FeatureTerm(SimilarityPreservingLoss(), *blocks(4))),
    "probabilistic": with_soft_targets(probabilistic=FeatureTerm(ProbabilisticTransferLoss(), POOLED)),  # PKT
    "relational": with_soft_targets(relational=FeatureTerm(RelationalLoss(), POOLED)),  # RKD
    # ReviewKD. The authors' teacher shows its maps in front of the ReLU, here behind it; their 5 would be 25 times the
    # energy of these maps, or a little less.
    "review": with_soft_targets(review=ReviewTerm(*blocks(1, 2, 3, 4), POOLED, weight=warmup(20 / 240, 1.0))),
    "contrastive": with_soft_targets(contrast=ContrastiveTerm(POOLED, weight=17.0)),  # CRD; 17 is the authors' 0.8
    # VIB. Its authors' code has 0.001 for MNIST, beside the labels at 1; 0.01 is ours (docs/features.md).
    "bottleneck": with_soft_targets(bottleneck=BottleneckTerm("vgg.pooler", weight=0.01)),
}
"""Those that look at features are for two VGGs."""
