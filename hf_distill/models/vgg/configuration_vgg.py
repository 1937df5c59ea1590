"""What a VGG is made of: the width and depth of its blocks, where it pools, and its head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedConfig


class VGGConfig(PreTrainedConfig):
    """Blocks of 3x3 convolutions with 2x2 max-pooling between them, then a head.

    The defaults are VGG-13 for 32x32 images. The usual depths have names of their own, :meth:`vgg8` to :meth:`vgg19`,
    each in two forms: for 32x32 images, with max-pooling after the first three blocks only, an average over what is
    left and one linear layer; and for 224x224 (``imagenet=True``), with max-pooling after every block, an average down
    to 7x7 and three linear layers with dropout, as torchvision has it.

    Args:
        num_channels: Colour channels of an image.
        image_size: Height and width that the model is meant for. Others work as well, if they survive the pooling.
        hidden_sizes: Width of each block in channels.
        depths: Number of convolutions in each block.
        batch_norm: Whether each convolution is followed by batch normalisation.
        num_pooled_blocks: So many blocks, from the first one on, are followed by max-pooling.
        head_pool_size: Height and width to which the last map is averaged before the head.
        head_sizes: Widths of the hidden linear layers of the head; none by default.
        head_dropout: Share of these that dropout silences, in [0, 1).

    Raises:
        ValueError: a size is not > 0, or the numbers of blocks do not agree.

    Source:
        Simonyan and Zisserman 2015, arXiv:1409.1556, table 1. The form for 32x32, and VGG-8, as in Tian et al. 2020,
        arXiv:1910.10699.

    Example:
        >>> VGGConfig.vgg8(num_labels=10, width=0.5).hidden_sizes
        [32, 64, 128, 256, 256]
    """

    model_type = "hf_distill_vgg"  # not "vgg", which transformers may take for a model of its own one day

    num_channels: int = 3
    image_size: int = 32
    hidden_sizes: list[int] | tuple[int, ...] = (64, 128, 256, 512, 512)
    depths: list[int] | tuple[int, ...] = (2, 2, 2, 2, 2)
    batch_norm: bool = True
    num_pooled_blocks: int = 3
    head_pool_size: int = 1
    head_sizes: list[int] | tuple[int, ...] = ()
    head_dropout: float = 0.5

    def __post_init__(self, **kwargs: Any) -> None:
        self.hidden_sizes, self.depths = list(self.hidden_sizes), list(self.depths)
        self.head_sizes = list(self.head_sizes)
        super().__post_init__(**kwargs)
        sizes = (self.num_channels, self.image_size, self.head_pool_size)
        if any(size < 1 for size in (*self.hidden_sizes, *self.depths, *self.head_sizes, *sizes)):
            raise ValueError(
                f"Every size of a VGG must be at least 1, got hidden_sizes={self.hidden_sizes}, depths={self.depths}, "
                f"head_sizes={self.head_sizes}, head_pool_size={self.head_pool_size}, image_size={self.image_size}, "
                f"num_channels={self.num_channels}."
            )
        if not self.depths or len(self.hidden_sizes) != len(self.depths):
            raise ValueError(
                f"Each block needs a width and a depth, got hidden_sizes={self.hidden_sizes} and depths={self.depths}."
            )
        if not 0 <= self.num_pooled_blocks <= len(self.depths):
            raise ValueError(
                f"num_pooled_blocks={self.num_pooled_blocks}, but there are {len(self.depths)} blocks: give 0 to "
                f"{len(self.depths)}."
            )
        if not 0.0 <= self.head_dropout < 1.0:
            raise ValueError(f"head_dropout must be at least 0 and below 1, got {self.head_dropout}.")

    @classmethod
    def vgg8(cls, width: float = 1.0, imagenet: bool = False, **config: Any) -> VGGConfig:
        """VGG-8: one convolution in each block.

        Args:
            width: Multiplies the width of every block and hidden linear layer.
            imagenet: Whether to take the form for 224x224 images.
            **config: Any other argument of the config, such as ``num_labels``, ``id2label`` or ``batch_norm``.
        """
        return cls._of_depths((1, 1, 1, 1, 1), width, imagenet, config)

    @classmethod
    def vgg11(cls, width: float = 1.0, imagenet: bool = False, **config: Any) -> VGGConfig:
        """VGG-11. Arguments as in :meth:`vgg8`."""
        return cls._of_depths((1, 1, 2, 2, 2), width, imagenet, config)

    @classmethod
    def vgg13(cls, width: float = 1.0, imagenet: bool = False, **config: Any) -> VGGConfig:
        """VGG-13. Arguments as in :meth:`vgg8`."""
        return cls._of_depths((2, 2, 2, 2, 2), width, imagenet, config)

    @classmethod
    def vgg16(cls, width: float = 1.0, imagenet: bool = False, **config: Any) -> VGGConfig:
        """VGG-16. Arguments as in :meth:`vgg8`."""
        return cls._of_depths((2, 2, 3, 3, 3), width, imagenet, config)

    @classmethod
    def vgg19(cls, width: float = 1.0, imagenet: bool = False, **config: Any) -> VGGConfig:
        """VGG-19. Arguments as in :meth:`vgg8`."""
        return cls._of_depths((2, 2, 4, 4, 4), width, imagenet, config)

    @classmethod
    def _of_depths(cls, depths: Sequence[int], width: float, imagenet: bool, config: dict[str, Any]) -> VGGConfig:
        form: dict[str, Any] = {
            "depths": depths,
            "hidden_sizes": [round(size * width) for size in (64, 128, 256, 512, 512)],
        }
        if imagenet:
            head = {"head_pool_size": 7, "head_sizes": [round(size * width) for size in (4096, 4096)]}
            form |= {"image_size": 224, "num_pooled_blocks": 5, **head}
        return cls(**{**form, **config})


__all__ = ["VGGConfig"]
