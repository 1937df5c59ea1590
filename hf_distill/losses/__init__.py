"""Losses, one file each: tensors in, one value per example out. They know no model and no trainer."""

from hf_distill.losses.attention_transfer import AttentionTransferLoss
from hf_distill.losses.base import PairLoss
from hf_distill.losses.contrastive import ContrastiveLoss
from hf_distill.losses.decoupled_soft_target import DecoupledSoftTargetLoss
from hf_distill.losses.dist import DISTLoss
from hf_distill.losses.feature_base import FeatureLoss
from hf_distill.losses.hard_target import HardTargetLoss
from hf_distill.losses.hint import HintLoss
from hf_distill.losses.jensen_shannon import JensenShannonLoss
from hf_distill.losses.label import NO_LABEL, ClassificationLoss, LabelLoss, MultiLabelLoss, RegressionLoss
from hf_distill.losses.logit_mse import LogitMSELoss
from hf_distill.losses.multi_label import MultiLabelTargetLoss
from hf_distill.losses.multi_level import MultiLevelLogitLoss
from hf_distill.losses.normalized import NormalizedKDLoss
from hf_distill.losses.probabilistic_transfer import ProbabilisticTransferLoss
from hf_distill.losses.regression import RegressionTargetLoss
from hf_distill.losses.relational import RelationalLoss
from hf_distill.losses.reverse_soft_target import ReverseSoftTargetLoss
from hf_distill.losses.review import ReviewLoss
from hf_distill.losses.similarity_preserving import SimilarityPreservingLoss
from hf_distill.losses.soft_target import SoftTargetLoss
from hf_distill.losses.standardize import StandardizedLogits
from hf_distill.losses.transformed_teacher import TransformedTeacherMatchingLoss
from hf_distill.losses.variational_information import VariationalInformationLoss
from hf_distill.losses.virtual_teacher import VirtualTeacherLoss

__all__ = [
    "NO_LABEL",
    "AttentionTransferLoss",
    "ClassificationLoss",
    "ContrastiveLoss",
    "DISTLoss",
    "DecoupledSoftTargetLoss",
    "FeatureLoss",
    "HardTargetLoss",
    "HintLoss",
    "JensenShannonLoss",
    "LabelLoss",
    "LogitMSELoss",
    "MultiLabelLoss",
    "MultiLabelTargetLoss",
    "MultiLevelLogitLoss",
    "NormalizedKDLoss",
    "PairLoss",
    "ProbabilisticTransferLoss",
    "RegressionLoss",
    "RegressionTargetLoss",
    "RelationalLoss",
    "ReverseSoftTargetLoss",
    "ReviewLoss",
    "SimilarityPreservingLoss",
    "SoftTargetLoss",
    "StandardizedLogits",
    "TransformedTeacherMatchingLoss",
    "VariationalInformationLoss",
    "VirtualTeacherLoss",
]
