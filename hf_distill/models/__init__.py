"""Models that transformers does not have, as real ``PreTrainedModel``s."""

from hf_distill.models.vgg import VGGConfig, VGGForImageClassification, VGGModel

__all__ = ["VGGConfig", "VGGForImageClassification", "VGGModel"]
