"""What each method minimises, number for number: whoever changes one there has to mean it here too."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))

from image_methods import METHODS

LABELS = "LabelTerm(weight=1.0)"
TWELFTH = "warmup(0.0833333, 1.0)"
BESIDE = {"ce": "LabelTerm(weight=0.25)", "kd": "LogitTerm(SoftTargetLoss(temperature=3.0), weight=0.75)"}


def pairs(*modules: str) -> str:
    return ", ".join(f"vgg.{module} <- vgg.{module}" for module in modules)


MAPS = [f"blocks.{number}" for number in range(5)]
DESCRIBED = {
    "soft": BESIDE,
    "standardized": {
        "ce": "LabelTerm(weight=0.25)",
        "kd": "LogitTerm(StandardizedLogits(SoftTargetLoss(temperature=3.0)), weight=7.5)",
    },
    "decoupled": {
        "ce": LABELS,
        "kd": f"LogitTerm(DecoupledSoftTargetLoss(temperature=3.0, alpha=1.0, beta=6.0), weight={TWELFTH})",
    },
    "dist": {"ce": LABELS, "kd": "LogitTerm(DISTLoss(temperature=3.0, beta=1.0, gamma=1.0), weight=2.0)"},
    "nkd": {"ce": LABELS, "kd": "LogitTerm(NormalizedKDLoss(temperature=3.0, gamma=3.5), weight=1.0)"},
    "wttm": {
        "ce": LABELS,
        "kd": "LogitTerm(TransformedTeacherMatchingLoss(temperature=5.0, weighted=True), weight=4.0)",
    },
    "multi_level": {
        "ce": "LabelTerm(weight=0.25)",
        "kd": "LogitTerm(MultiLevelLogitLoss(temperatures=(2.0, 3.0, 4.0, 5.0, 6.0), batch_weight=0.333333, "
        "class_weight=0.333333), weight=2.8125)",
    },
    "hint": {**BESIDE, "hint": f"FeatureTerm(HintLoss(), {pairs('blocks.2')}, weight=1.0)"},
    "attention": {**BESIDE, "attention": f"FeatureTerm(AttentionTransferLoss(), {pairs(*MAPS)}, weight=5.0)"},
    "variational": {
        **BESIDE,
        **{
            f"variational{number}": f"FeatureTerm(VariationalInformationLoss(), {pairs(MAPS[number])}, weight=0.5)"
            for number in (1, 2, 3, 4)
        },
    },
    "similarity": {
        **BESIDE,
        "similarity": f"FeatureTerm(SimilarityPreservingLoss(), {pairs('blocks.4')}, weight=1.0)",
    },
    "probabilistic": {
        **BESIDE,
        "probabilistic": f"FeatureTerm(ProbabilisticTransferLoss(), {pairs('pooler')}, weight=1.0)",
    },
    "relational": {
        **BESIDE,
        "relational": "FeatureTerm(RelationalLoss(distance_weight=1.0, angle_weight=2.0), "
        f"{pairs('pooler')}, weight=1.0)",
    },
    "review": {**BESIDE, "review": f"ReviewTerm({pairs(*MAPS[1:], 'pooler')}, weight={TWELFTH})"},
    "contrastive": {
        **BESIDE,
        "contrast": f"ContrastiveTerm({pairs('pooler')}, weight=17.0, width=128, negatives=16384, temperature=0.07, "
        "momentum=0.5, other_classes=True)",
    },
    "bottleneck": {**BESIDE, "bottleneck": "BottleneckTerm('vgg.pooler', weight=0.01, deviation=0.5)"},
}


@pytest.mark.parametrize("method", METHODS)
def test_what_a_method_minimises(method: str) -> None:
    assert METHODS[method](3.0, 0.75).describe() == DESCRIBED[method]
