"""Images of one size and normalisation made of those of another, by hand."""

from __future__ import annotations

import pytest
import torch

from hf_distill.image_input import ConvertingCollator, ImageConversion, ImageInput, TorchvisionInput


def test_pixels_are_normalised_by_channel_and_a_grey_image_is_repeated() -> None:
    read = ImageInput(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
    made = read(torch.tensor([[[[0.0, 1.0]], [[0.5, 0.25]], [[0.3, 0.0]]]]))
    torch.testing.assert_close(made, torch.tensor([[[[-1.0, 1.0]], [[1.0, 0.0]], [[0.3, 0.0]]]]))
    torch.testing.assert_close(read(torch.full((1, 1, 1, 1), 0.5)).flatten(), torch.tensor([0.0, 1.0, 0.5]))


def test_the_middle_is_cut_out_and_black_put_around_where_there_is_too_little() -> None:
    pictures = torch.arange(1.0, 21.0).reshape(1, 1, 4, 5) / 20
    made = ImageInput((0.0,), (1 / 20,), crop=(2, 2))(pictures)
    torch.testing.assert_close(made, torch.tensor([[[[7.0, 8.0], [12.0, 13.0]]]]))
    made = ImageInput((0.0,), (1.0,), crop=(3, 3))(torch.ones(1, 1, 1, 1))
    assert made.squeeze().tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(("side", "first"), [(2, 0), (3, 0), (5, 2), (7, 2), (9, 4)])
def test_torchvision_rounds_half_a_pixel_to_an_even_one(side: int, first: int) -> None:
    """(side - 2) / 2 is 0, 0.5, 1.5, 2.5 and 3.5."""
    made = TorchvisionInput((0.0,), (1.0,), crop=(2, 2))(torch.arange(side * side).reshape(1, 1, side, side) / 100)
    torch.testing.assert_close(made[0, 0, 0, 0], torch.tensor((first * side + first) / 100))


def test_where_there_is_too_little_torchvision_puts_more_black_behind() -> None:
    made = [kind((0.0,), (1.0,), crop=(1, 2))(torch.ones(1, 1, 1, 1)) for kind in (TorchvisionInput, ImageInput)]
    assert [values.flatten().tolist() for values in made] == [[1, 0], [0, 1]]


def test_the_shorter_edge_decides_and_the_shape_stays() -> None:
    read = ImageInput((0.0,), (1.0,), size=(4,))
    assert read(torch.zeros(1, 1, 8, 13)).shape == (1, 1, 4, 6)
    assert read(torch.zeros(1, 1, 13, 8)).shape == (1, 1, 6, 4)
    assert (read.output_size(8, 13), read.output_size(2, 2)) == ((4, 6), (4, 4))


def test_halving_is_the_mean_of_a_triangle() -> None:
    """Bilinear with the width of the reduction: weights 1, 3, 3, 1 over eighths, those outside left out."""
    row = torch.tensor([0.0, 0.4, 0.8, 0.4]).reshape(1, 1, 1, 4)
    made = ImageInput((0.0,), (1.0,), size=(1, 2))(row)
    expected = [(3 * 0.0 + 3 * 0.4 + 1 * 0.8) / 7, (1 * 0.4 + 3 * 0.8 + 3 * 0.4) / 7]
    torch.testing.assert_close(made.flatten(), torch.tensor(expected))


def test_an_image_goes_there_and_back() -> None:
    pictures = torch.rand(2, 3, 5, 5)
    one, other = ImageInput((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)), ImageInput((0.5,) * 3, (0.2,) * 3)
    conversion = ImageConversion(one.mean, one.std, other)
    torch.testing.assert_close(conversion(one(pictures)), other(pictures))
    torch.testing.assert_close(conversion(one(pictures).double()), other(pictures))
    batch = ConvertingCollator(lambda rows: {"pixel_values": one(torch.stack(rows)), "labels": 1}, conversion)
    made = batch(list(pictures))
    torch.testing.assert_close(made["pixel_values"], other(pictures))
    assert made["labels"] == 1


@pytest.mark.parametrize(
    ("wanted", "changes"),
    [
        (ImageInput((0.5,), (0.5,)), False),
        (ImageInput((0.5,), (0.5,), size=(8, 8)), False),
        (ImageInput((0.5,), (0.5,), size=(8,), crop=(8, 8)), False),
        (ImageInput((0.4,), (0.5,), size=(8, 8)), True),
        (ImageInput((0.5,), (0.4,), size=(8, 8)), True),
        (ImageInput((0.5,), (0.5,), size=(9, 8)), True),
        (ImageInput((0.5,), (0.5,), size=(9, 9), crop=(8, 8)), True),
    ],
)
def test_whether_anything_is_changed(wanted: ImageInput, changes: bool) -> None:
    conversion = ImageConversion((0.5,), (0.5,), wanted)
    pictures = torch.rand(1, 1, 8, 8)
    assert conversion.changes(8, 8) == changes
    same = conversion(pictures)
    assert (same.shape == pictures.shape and torch.allclose(same, pictures, atol=1e-6)) != changes


def test_memory_format_and_device_stay() -> None:
    pictures = torch.rand(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    made = ImageInput((0.5,) * 3, (0.5,) * 3, size=(12, 12), crop=(10, 10))(pictures)
    assert made.is_contiguous(memory_format=torch.channels_last)
