"""VGG as a transformers model: the body, and the body with a head for classification."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import (
    BaseModelOutputWithPoolingAndNoAttention,
    ImageClassifierOutputWithNoAttention,
)

from .configuration_vgg import VGGConfig


class VGGLayer(nn.Module):
    """A 3x3 convolution, batch normalisation where the config has it, and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, batch_norm: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
        self.normalization = nn.BatchNorm2d(out_channels) if batch_norm else nn.Identity()
        self.activation = nn.ReLU()

    def forward(self, hidden_state: Tensor) -> Tensor:
        activated: Tensor = self.activation(self.normalization(self.convolution(hidden_state)))
        return activated


class VGGBlock(nn.Module):
    """Convolutions of one width, after the max-pooling that halves the map of the block before."""

    def __init__(self, in_channels: int, out_channels: int, depth: int, batch_norm: bool, pooled: bool) -> None:
        super().__init__()
        self.pooling = nn.MaxPool2d(kernel_size=2, stride=2) if pooled else nn.Identity()
        widths = [in_channels] + [out_channels] * depth
        self.layers = nn.Sequential(*(VGGLayer(widths[i], widths[i + 1], batch_norm) for i in range(depth)))

    def forward(self, hidden_state: Tensor) -> Tensor:
        out: Tensor = self.layers(self.pooling(hidden_state))
        return out


class VGGPreTrainedModel(PreTrainedModel):
    """What the body and the classifier have in common: how they are saved, loaded and initialised."""

    config: VGGConfig
    config_class = VGGConfig
    base_model_prefix = "vgg"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _no_split_modules = ("VGGBlock",)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, 0.0, 0.01)


class VGGModel(VGGPreTrainedModel):
    """The body: blocks of convolutions, and the average of the last map.

    Its hidden states are what each block puts out, before the max-pooling that follows.
    """

    def __init__(self, config: VGGConfig) -> None:
        super().__init__(config)
        widths = [config.num_channels, *config.hidden_sizes]
        self.blocks = nn.ModuleList(
            VGGBlock(widths[i], widths[i + 1], depth, config.batch_norm, pooled=0 < i <= config.num_pooled_blocks)
            for i, depth in enumerate(config.depths)
        )
        pooled = config.num_pooled_blocks == len(config.depths)
        self.pooling = nn.MaxPool2d(kernel_size=2, stride=2) if pooled else nn.Identity()
        self.pooler = nn.AdaptiveAvgPool2d(config.head_pool_size)
        self.post_init()

    def forward(
        self, pixel_values: Tensor, output_hidden_states: bool | None = None, return_dict: bool | None = None
    ) -> BaseModelOutputWithPoolingAndNoAttention | tuple[Any, ...]:
        """The last map, its average, and the hidden states where they are wanted.

        Args:
            pixel_values: ``(B, C, H, W)``.
            output_hidden_states: Whether to return what each block put out; the config's setting if left out.
            return_dict: Whether to return an output object rather than a tuple; the config's setting if left out.

        Raises:
            ValueError: the images have another number of channels, or are too small for the pooling.
        """
        self._check_images(pixel_values)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        hidden_state, hidden_states = pixel_values, []
        for block in self.blocks:
            hidden_state = block(hidden_state)
            hidden_states.append(hidden_state)
        output = BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=hidden_state,
            pooler_output=self.pooler(self.pooling(hidden_state)),
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
        )
        return output if _as_object(return_dict, self.config) else output.to_tuple()

    def _check_images(self, pixel_values: Tensor) -> None:
        channels, smallest = self.config.num_channels, 2**self.config.num_pooled_blocks
        if pixel_values.dim() != 4 or pixel_values.shape[1] != channels or min(pixel_values.shape[2:]) < smallest:
            raise ValueError(
                f"Images of shape {tuple(pixel_values.shape)}, where this model needs (batch, {channels}, height, "
                f"width) with at least {smallest}x{smallest} pixels. Convert grey images with image.convert('RGB'), "
                "enlarge small ones, or build the model with another num_channels or num_pooled_blocks."
            )


class VGGForImageClassification(VGGPreTrainedModel):
    """VGG with a head of one linear layer, or of three with dropout between them.

    Example:
        >>> import torch
        >>> from hf_distill.models import VGGConfig
        >>> model = VGGForImageClassification(VGGConfig.vgg8(num_labels=10, width=0.125))
        >>> outputs = model(torch.zeros(1, 3, 32, 32), output_hidden_states=True)
        >>> tuple(outputs.logits.shape), [tuple(state.shape[1:]) for state in outputs.hidden_states]
        ((1, 10), [(8, 32, 32), (16, 16, 16), (32, 8, 8), (64, 4, 4), (64, 4, 4)])
    """

    def __init__(self, config: VGGConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.vgg = VGGModel(config)
        widths = [config.hidden_sizes[-1] * config.head_pool_size**2, *config.head_sizes, config.num_labels]
        layers: list[nn.Module] = [nn.Flatten()]
        for i in range(len(config.head_sizes)):
            layers += [nn.Linear(widths[i], widths[i + 1]), nn.ReLU(), nn.Dropout(config.head_dropout)]
        self.classifier = nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))
        self.post_init()

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> ImageClassifierOutputWithNoAttention | tuple[Any, ...]:
        """Logits, and the loss where there are labels.

        Args:
            pixel_values: ``(B, C, H, W)``, normalised as the image processor saved with the model does it.
            labels: ``(B,)`` class indices; or numbers, or ``(B, C)`` yes or no, as ``config.problem_type`` says.
            output_hidden_states: Whether to return what each block put out; the config's setting if left out.
            return_dict: Whether to return an output object rather than a tuple; the config's setting if left out.
        """
        body = self.vgg(pixel_values, output_hidden_states=output_hidden_states, return_dict=True)
        logits = self.classifier(body.pooler_output)
        output = ImageClassifierOutputWithNoAttention(
            loss=None if labels is None else self.loss_function(labels, logits, self.config),
            logits=logits,
            hidden_states=body.hidden_states,
        )
        return output if _as_object(return_dict, self.config) else output.to_tuple()

    @classmethod
    def from_torchvision(cls, state_dict: Mapping[str, Tensor], **config: Any) -> VGGForImageClassification:
        """The same model as one of torchvision's ``vgg11`` to ``vgg19_bn``, from its weights alone.

        Depths, widths and batch normalisation are read off the names and shapes. The classes have no names there: give
        them as ``id2label`` and ``label2id``.

        Args:
            state_dict: As ``torchvision_model.state_dict()`` gives it; a file of it loads with
                ``torch.load(path, weights_only=True)``.
            **config: More for the :class:`VGGConfig`.

        Returns:
            The model in evaluation mode, with weights of its own.

        Raises:
            ValueError: these are not the weights of such a model.
        """
        blocks = _blocks_of_torchvision(state_dict)
        head = [state_dict[f"classifier.{i}.weight"] for i in (0, 3, 6)]
        widths = [len(state_dict[f"features.{block[-1]}.weight"]) for block in blocks]
        form: dict[str, Any] = {
            "num_channels": state_dict[f"features.{blocks[0][0]}.weight"].shape[1],
            "image_size": 224,
            "hidden_sizes": widths,
            "depths": [len(block) for block in blocks],
            "batch_norm": f"features.{blocks[0][0] + 1}.weight" in state_dict,
            "num_pooled_blocks": len(blocks),
            "head_pool_size": round((head[0].shape[1] / widths[-1]) ** 0.5),
            "head_sizes": [len(head[0]), len(head[1])],
            "id2label": {index: f"LABEL_{index}" for index in range(len(head[2]))},
        }
        names = {f"classifier.{i}": f"classifier.{i + 1}" for i in (0, 3, 6)}
        for b, block in enumerate(blocks):
            for i, place in enumerate(block):
                names[f"features.{place}"] = f"vgg.blocks.{b}.layers.{i}.convolution"
                names[f"features.{place + 1}"] = f"vgg.blocks.{b}.layers.{i}.normalization"
        modules = {key: key.rpartition(".")[0] for key in state_dict}
        renamed = {
            key.replace(module, names.get(module, module), 1): state_dict[key] for key, module in modules.items()
        }
        model = cls(VGGConfig(**{**form, **config}))
        model.eval()
        try:
            model.load_state_dict(renamed)
        except RuntimeError as error:
            raise ValueError(f"These are not the weights of a VGG of torchvision: {error}") from error
        return model


def _as_object(return_dict: bool | None, config: VGGConfig) -> bool:
    return bool(config.return_dict if return_dict is None else return_dict)


def _blocks_of_torchvision(state_dict: Mapping[str, Tensor]) -> list[list[int]]:
    """The places of each block's convolutions in ``features``.

    ``features`` is one sequence of convolution, normalisation if any, ReLU, and at the end of a block max-pooling. Only
    what has weights shows, so a gap that is longer than within a block tells where a block ends.
    """
    found = (re.fullmatch(r"features\.(\d+)\.weight", key) for key in state_dict)
    dims = {int(match[1]): state_dict[match[0]].dim() for match in found if match}
    places = sorted(place for place, dim in dims.items() if dim == 4)
    if not places or any(f"classifier.{i}.weight" not in state_dict for i in (0, 3, 6)):
        raise ValueError(
            "These are not the weights of a VGG of torchvision, which has `features.0.weight` and "
            f"`classifier.6.weight`: found {sorted(state_dict)[:6]}. Give model.state_dict() as torchvision has it."
        )
    step = 3 if places[0] + 1 in dims else 2
    blocks = [places[:1]]
    for before, after in itertools.pairwise(places):
        if after - before == step:
            blocks[-1].append(after)
        else:
            blocks.append([after])
    return blocks


__all__ = ["VGGForImageClassification", "VGGModel", "VGGPreTrainedModel"]
