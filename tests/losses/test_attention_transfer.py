"""Expected values: plain loops in float64 numpy, gradients by central differences of them, or by hand."""

import numpy as np
import pytest
import torch
from finite_differences import check_value_and_gradient

from hf_distill.losses import AttentionTransferLoss

generator = torch.Generator().manual_seed(0)
STUDENT = torch.randn(2, 3, 4, 2, generator=generator)
TEACHER = torch.randn(2, 5, 4, 2, generator=generator)


def attention(channels, rows, columns):
    """Of one example ``(C, H, W)``: energy at each place, averaged over blocks, at length 1."""
    _, height, width = channels.shape
    blocks = np.zeros((rows, columns))
    for h in range(height):
        for w in range(width):
            energy = np.mean([channel[h, w] ** 2 for channel in channels])
            blocks[h * rows // height, w * columns // width] += energy
    return blocks / np.sqrt((blocks**2).sum())


def distance(student, teacher, size=(4, 2)):
    pairs = zip(student, teacher, strict=True)
    return np.array([((attention(ours, *size) - attention(theirs, *size)) ** 2).sum() for ours, theirs in pairs])


def test_value_and_gradient():
    check_value_and_gradient(AttentionTransferLoss(), distance, STUDENT, TEACHER)


@pytest.mark.parametrize(
    ("student", "teacher", "size"), [((8, 4), (4, 2), (4, 2)), ((2, 2), (4, 6), (2, 2)), ((6, 2), (3, 4), (3, 2))]
)
def test_the_larger_map_is_averaged_down(student, teacher, size):
    student, teacher = (
        torch.randn(2, 3, *student, generator=generator),
        torch.randn(2, 2, *teacher, generator=generator),
    )
    check_value_and_gradient(AttentionTransferLoss(), lambda s, t: distance(s, t, size), student, teacher)


def test_tokens_are_places_too():
    # The same numbers as maps of one column, with the channels in front.
    student, teacher = torch.randn(2, 5, 3, generator=generator), torch.randn(2, 5, 4, generator=generator)
    expected = distance(student.mT.unsqueeze(-1).double().numpy(), teacher.mT.unsqueeze(-1).double().numpy(), (5, 1))
    np.testing.assert_allclose(AttentionTransferLoss()(student, teacher), expected, rtol=1e-5)


def test_the_order_sign_and_rotation_of_channels_do_not_matter():
    expected = AttentionTransferLoss()(STUDENT, TEACHER)
    torch.testing.assert_close(AttentionTransferLoss()(STUDENT[:, [2, 0, 1]], -TEACHER.flip(1)), expected)
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=generator)).Q
    torch.testing.assert_close(
        AttentionTransferLoss()(STUDENT, torch.einsum("dc,bchw->bdhw", rotation, TEACHER)), expected
    )


def test_places_matter():
    assert (AttentionTransferLoss()(STUDENT.flip(2), STUDENT) > 0.1).all()


def test_what_even_activity_and_activity_elsewhere_pay():
    # By hand: (1, 0, 0, 0) against (1, 1, 1, 1) / 2 is 2 - 2 * 1/2 = 1; against (0, 1, 0, 0) it is 2.
    teacher = torch.tensor([3.0, 0.0, 0.0, 0.0]).reshape(1, 1, 2, 2)
    assert AttentionTransferLoss()(torch.ones(1, 1, 2, 2), teacher).item() == pytest.approx(1.0)
    assert AttentionTransferLoss()(teacher.flip(3), teacher).item() == pytest.approx(2.0)


def test_the_papers_weight_is_ours_over_the_number_of_places():
    # The authors' loss is the mean over examples and places.
    usual = np.mean([((attention(s, 4, 2) - attention(t, 4, 2)) ** 2) for s, t in zip(STUDENT, TEACHER, strict=True)])
    assert AttentionTransferLoss()(STUDENT, TEACHER).mean().item() * 1000 / 8 == pytest.approx(1000 * usual, rel=1e-5)


@pytest.mark.parametrize(
    ("student", "teacher"), [((2, 3, 1, 1), (2, 3, 4, 4)), ((2, 3, 4, 1), (2, 3, 1, 4)), ((2, 1, 8), (2, 1, 8))]
)
def test_one_place_has_no_attention(student, teacher):
    with pytest.raises(ValueError, match="must share 2 positions or more") as error:
        AttentionTransferLoss()(torch.ones(student), torch.ones(teacher))
    assert f"got {student} and {teacher}." in str(error.value)


@pytest.mark.parametrize(("student", "teacher"), [((2, 3), (2, 3)), ((2, 5, 3), (2, 3, 2, 2)), ((2, 5, 3), (2, 6, 3))])
def test_only_maps_or_tokens_of_one_length(student, teacher):
    with pytest.raises(ValueError, match="must both be maps"):
        AttentionTransferLoss()(torch.ones(student), torch.ones(teacher))
