"""Losses, one file each: tensors in, one value per example out. They know no model and no trainer."""

from hf_distill.losses.base import PairLoss
from hf_distill.losses.feature_base import FeatureLoss
from hf_distill.losses.hard_target import HardTargetLoss
from hf_distill.losses.jensen_shannon import JensenShannonLoss
from hf_distill.losses.label import NO_LABEL, ClassificationLoss, LabelLoss, MultiLabelLoss, RegressionLoss
from hf_distill.losses.logit_mse import LogitMSELoss
from hf_distill.losses.multi_label import MultiLabelTargetLoss
from hf_distill.losses.regression import RegressionTargetLoss
from hf_distill.losses.reverse_soft_target import ReverseSoftTargetLoss
from hf_distill.losses.soft_target import SoftTargetLoss
from hf_distill.losses.standardize import StandardizedLogits

__all__ = [
    "NO_LABEL",
    "ClassificationLoss",
    "FeatureLoss",
    "HardTargetLoss",
    "JensenShannonLoss",
    "LabelLoss",
    "LogitMSELoss",
    "MultiLabelLoss",
    "MultiLabelTargetLoss",
    "PairLoss",
    "RegressionLoss",
    "RegressionTargetLoss",
    "ReverseSoftTargetLoss",
    "SoftTargetLoss",
    "StandardizedLogits",
]
