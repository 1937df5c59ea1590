"""VGG, known to transformers' ``Auto`` classes once this is imported.

The two files beside this one are copied into the folder of a saved model, so that it loads with
``trust_remote_code=True`` where this package is not installed. They therefore import each other relatively and nothing
else of the package.
"""

from transformers import AutoConfig, AutoModel, AutoModelForImageClassification

from hf_distill.models.vgg.configuration_vgg import VGGConfig
from hf_distill.models.vgg.modeling_vgg import VGGForImageClassification, VGGModel

AutoConfig.register(VGGConfig.model_type, VGGConfig)
AutoModel.register(VGGConfig, VGGModel)
AutoModelForImageClassification.register(VGGConfig, VGGForImageClassification)
VGGConfig.register_for_auto_class()
VGGModel.register_for_auto_class("AutoModel")
VGGForImageClassification.register_for_auto_class("AutoModelForImageClassification")

__all__ = ["VGGConfig", "VGGForImageClassification", "VGGModel"]
