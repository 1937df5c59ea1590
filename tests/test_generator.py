"""Images out of noise: against the same layers in functions, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from hf_distill import ImageGenerator


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 28), (1, 4)])
def test_images_have_the_size_and_are_normalised(channels: int, size: int) -> None:
    torch.manual_seed(0)
    images = ImageGenerator(channels, size, latent_size=7, width=3)(torch.randn(16, 7))
    assert images.shape == (16, channels, size, size)
    values = images.transpose(0, 1).flatten(1)
    torch.testing.assert_close(values.mean(dim=1), torch.zeros(channels), atol=1e-5, rtol=0)
    torch.testing.assert_close(values.var(dim=1, unbiased=False), torch.ones(channels), atol=1e-3, rtol=0)


def test_the_layers_are_those_of_dafl() -> None:
    torch.manual_seed(0)
    generator = ImageGenerator(channels=1, size=8, latent_size=5, width=2).eval()
    latents = torch.randn(6, 5)
    weights = list(generator.parameters())
    linear, linear_bias, *rest = weights
    assert [tuple(weight.shape) for weight in weights] == [
        (16, 5), (16,), (4,), (4,), (4, 4, 3, 3), (4,), (4,), (4,), (2, 4, 3, 3), (2,), (2,), (2,), (1, 2, 3, 3), (1,)
    ]  # fmt: skip

    def normalised(maps: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        mean, var = maps.mean(dim=(0, 2, 3), keepdim=True), maps.var(dim=(0, 2, 3), unbiased=False, keepdim=True)
        return (maps - mean) / (var + 1e-5).sqrt() * scale.reshape(-1, 1, 1) + shift.reshape(-1, 1, 1)

    maps = normalised((latents @ linear.T + linear_bias).reshape(6, 4, 2, 2), *rest[:2])
    for layer in (rest[2:6], rest[6:10]):
        doubled = maps.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        maps = F.leaky_relu(normalised(F.conv2d(doubled, *layer[:2], padding=1), *layer[2:]), 0.2)
    expected = normalised(F.conv2d(maps, *rest[10:], padding=1).tanh(), torch.ones(1), torch.zeros(1))
    torch.testing.assert_close(generator(latents), expected)


def test_channels_of_a_grey_image_are_the_same() -> None:
    torch.manual_seed(0)
    images = ImageGenerator(size=8, latent_size=5, width=2, grey=True)(torch.randn(4, 5))
    assert images.shape == (4, 3, 8, 8)
    assert torch.equal(images[:, 0], images[:, 1])
    assert torch.equal(images[:, 0], images[:, 2])
    assert images.std() > 0.9


def test_it_says_what_it_is() -> None:
    assert repr(ImageGenerator(grey=True)).endswith("size=32, latent_size=100, width=64, grey=True)")
    assert repr(ImageGenerator(1, 8)) == "ImageGenerator(channels=1, size=8, latent_size=100, width=64)"


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="divisible by 4, got 30: resize the images to 32 pixels"):
        ImageGenerator(size=30)
    with pytest.raises(ValueError, match="at least 1, got channels=0, size=32"):
        ImageGenerator(channels=0)
