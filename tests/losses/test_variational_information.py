"""Expected values: plain loops in float64 numpy, gradients by central differences of them, or by hand."""

import copy
import math

import numpy as np
import pytest
import torch
from finite_differences import check_value_and_gradient

from hf_distill.losses import HintLoss, VariationalInformationLoss

generator = torch.Generator().manual_seed(0)
STUDENT = torch.randn(3, 2, 3, 2, generator=generator)
TEACHER = 3.0 * torch.randn(3, 2, 3, 2, generator=generator)
RAW = torch.tensor([-2.0, 1.5], dtype=torch.float64)  # as in reference()


def with_raw(raw):
    loss = VariationalInformationLoss(len(raw)).double()
    with torch.no_grad():
        loss.raw_variance.copy_(torch.as_tensor(raw))
    return loss


def reference(student, teacher, raw=(-2.0, 1.5)):
    """Of maps, from the Gaussian density, less what a variance of 1 and no error give."""
    variance = np.log1p(np.exp(np.array(raw))) + 1e-5
    values = []
    for ours, theirs in zip(student, teacher, strict=True):
        scale = (theirs**2).mean()
        logs = []
        for c in range(len(theirs)):
            for a, b in zip(ours[c].ravel(), theirs[c].ravel(), strict=True):
                spread = scale * variance[c]
                density = np.exp(-((a - b) ** 2) / (2 * spread)) / np.sqrt(2 * np.pi * spread)
                logs.append(np.log(density) + np.log(2 * np.pi * scale) / 2)
        values.append(-2 * np.mean(logs))
    return np.array(values)


def test_value_and_gradient():
    check_value_and_gradient(with_raw(RAW), reference, STUDENT, TEACHER)


def test_tokens_and_vectors_have_their_channels_last():
    student, teacher = STUDENT.double(), TEACHER.double()
    expected = with_raw(RAW)(student, teacher)
    tokens = (f.flatten(2).mT for f in (student, teacher))
    torch.testing.assert_close(with_raw(RAW)(*tokens), expected)
    vectors = with_raw(RAW)(student[:, :, 0, 0], teacher[:, :, 0, 0])
    torch.testing.assert_close(vectors, with_raw(RAW)(student[:, :, :1, :1], teacher[:, :, :1, :1]))


def test_gradient_of_the_variances():
    loss, step, expected = with_raw(RAW), 1e-6, []
    loss(STUDENT.double(), TEACHER.double()).sum().backward()
    for c in range(2):
        move = np.eye(2)[c] * step
        sides = [reference(STUDENT.double().numpy(), TEACHER.double().numpy(), RAW.numpy() + s * move) for s in (1, -1)]
        expected.append((sides[0] - sides[1]).sum() / (2 * step))
    np.testing.assert_allclose(loss.raw_variance.grad, expected, rtol=1e-6)


def test_a_new_one_is_the_hint_loss():
    torch.testing.assert_close(VariationalInformationLoss(2)(STUDENT, TEACHER), HintLoss()(STUDENT, TEACHER))
    torch.testing.assert_close(VariationalInformationLoss(2).variance.detach(), torch.ones(2))


def test_trained_variances_are_the_errors_of_their_channels():
    # By hand: mean of e / v + log v is least at v = e. Errors of 1/4 and 4 against a teacher of mean square 1.
    teacher = torch.ones(1, 2, 4)
    loss = VariationalInformationLoss(4)
    student = teacher + torch.tensor([0.5, -0.5, 2.0, -2.0])
    optimizer = torch.optim.LBFGS(loss.parameters(), lr=1.0, max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = loss(student, teacher).mean()
        value.backward()
        return value

    optimizer.step(closure)
    torch.testing.assert_close(loss.variance.detach(), torch.tensor([0.25, 0.25, 4.0, 4.0]), rtol=1e-3, atol=0)
    value = loss(student, teacher).item()
    assert value == pytest.approx(1.0 + (math.log(0.25) + math.log(4.0)) / 2, abs=1e-4)


def test_it_has_a_floor():
    loss = with_raw([-100.0, -100.0])
    torch.testing.assert_close(loss(TEACHER, TEACHER), torch.full((3,), math.log(1e-5)), check_dtype=False)


def test_the_variances_are_saved_and_in_float32_while_training_in_half_precision():
    loss = VariationalInformationLoss(2)
    assert {name: value.shape for name, value in loss.state_dict().items()} == {"raw_variance": (2,)}
    loss(STUDENT.bfloat16(), TEACHER.bfloat16()).sum().backward()
    assert loss.raw_variance.grad.dtype == torch.float32
    assert loss.bfloat16()(STUDENT, TEACHER).dtype == torch.float32


def test_a_dead_example_costs_the_logarithm_only():
    loss = with_raw(RAW)
    values = loss(STUDENT.double(), torch.zeros_like(TEACHER).double())
    torch.testing.assert_close(values, loss.variance.log().mean().expand(3))


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (2, 5, 3), (2, 3)])
def test_another_number_of_channels_is_refused(shape):
    with pytest.raises(ValueError, match=r"must have 4 channels.*Pass the teacher's number"):
        VariationalInformationLoss(4)(torch.ones(shape), torch.ones(shape))


@pytest.mark.parametrize("channels", [0, -3, 2.5, "64", True])
def test_channels_must_be_a_whole_number(channels):
    with pytest.raises(ValueError, match=f"channels must be a whole number >= 1, got {channels!r}"):
        VariationalInformationLoss(channels)


def test_channels_that_are_left_out_are_the_teachers():
    student, teacher = STUDENT.double(), TEACHER.double()
    copied = copy.deepcopy(VariationalInformationLoss())
    torch.testing.assert_close(copied(student, teacher), VariationalInformationLoss(2).double()(student, teacher))
    assert copied.raw_variance.requires_grad
    copied.raw_variance.data.zero_()
    copied.prepare(teacher)  # what is there stays
    assert copied.raw_variance.tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match=r"must have 2 channels.*layers of different widths a term each"):
        copied(torch.ones(2, 3), torch.ones(2, 3))


def test_it_reads_as_it_was_made():
    assert repr(VariationalInformationLoss()) == "VariationalInformationLoss()"
    assert repr(VariationalInformationLoss(64)) == "VariationalInformationLoss(channels=64)"
