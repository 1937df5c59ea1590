"""The parts of a generator's loss, by hand."""

from __future__ import annotations

import math

import pytest
import tiny
import torch
from torch import nn

from hf_distill import GeneratorLoss
from hf_distill.generator_loss import Inside, statistics_distance

ZERO = dict.fromkeys(("one_hot", "information", "activation"), 0.0)


def part(name: str, *given: object, **weights: float) -> torch.Tensor:
    [(found, value)] = GeneratorLoss(**{**ZERO, name: 2.0, **weights})(*given).items()
    assert found == f"generator_{name}"
    return value


def test_one_hot_is_small_where_the_teacher_is_sure() -> None:
    answers = torch.tensor([[3.0, 1.0], [1.0, 1.0]]).log()  # 3/4 and 1/2 for the likelier class
    expected = [2 * math.log(4 / 3), 2 * math.log(2)]
    torch.testing.assert_close(part("one_hot", answers, Inside()), torch.tensor(expected))


def test_information_is_small_where_all_classes_come_equally_often() -> None:
    answers = torch.tensor([[3.0, 1.0], [1.0, 1.0]]).log()  # on average 5/8 and 3/8
    expected = 2 * (5 / 8 * math.log(5 / 8) + 3 / 8 * math.log(3 / 8))
    torch.testing.assert_close(part("information", answers, Inside()), torch.tensor(expected))


def test_information_has_a_gradient_where_a_class_never_comes() -> None:
    answers = torch.tensor([[500.0, 0.0], [400.0, 0.0]], requires_grad=True)
    value = part("information", answers, Inside())
    value.backward()
    assert value.item() == 0.0
    assert torch.isfinite(answers.grad).all()


def test_activation_is_minus_the_mean_of_each_example() -> None:
    inside = Inside(activations=torch.tensor([[1.0, -3.0], [0.0, 0.5]]))
    torch.testing.assert_close(part("activation", torch.zeros(2, 2), inside), torch.tensor([-4.0, -0.5]))


def test_disagreement_is_minus_the_divergence_from_the_student() -> None:
    teacher, student = torch.tensor([[3.0, 1.0], [1.0, 1.0]]).log(), torch.zeros(2, 2)
    expected = -2 * (3 / 4 * math.log(3 / 2) + 1 / 4 * math.log(1 / 2))
    found = part("adversarial", teacher, Inside(), student)
    torch.testing.assert_close(found, torch.tensor([expected, 0.0]))


def test_the_distance_of_statistics_is_of_mean_and_biased_variance() -> None:
    norm = nn.BatchNorm2d(2)
    norm.running_mean, norm.running_var = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0.0])
    maps = torch.tensor([[[[0.0, 2.0]], [[4.0, 4.0]]], [[[6.0, 8.0]], [[8.0, 8.0]]]])
    # Means 4 and 6, so 3 and 4 away: 5. Variances 10 and 4, so 9 and 4 away: the root of 97.
    torch.testing.assert_close(statistics_distance(norm, maps), torch.tensor(5 + math.sqrt(97)))
    # Of vectors (0, 4) and (6, 8): means 3 and 6, variances 9 and 4.
    expected = torch.tensor(math.sqrt(4 + 16) + math.sqrt(64 + 16))
    torch.testing.assert_close(statistics_distance(norm, maps[:, :, 0, 0]), expected)


def test_a_teacher_is_watched_where_a_weight_wants_it_and_left_as_it_was() -> None:
    teacher = tiny.vgg(batch_norm=True).eval()
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with GeneratorLoss(batch_norm=1.0).watching(teacher) as inside:
        shown = teacher(images, output_hidden_states=True)
    features = teacher.vgg(images).pooler_output.flatten(1)
    torch.testing.assert_close(inside.activations, features)
    convolved = teacher.vgg.blocks[0].layers[0].convolution(images)
    mean, var = convolved.mean(dim=(0, 2, 3)), convolved.var(dim=(0, 2, 3), unbiased=False)
    assert len(inside.distances) == 2
    torch.testing.assert_close(inside.distances[0], mean.norm() + (var - 1).norm())
    with GeneratorLoss(activation=0.0).watching(teacher) as nothing:
        assert torch.equal(teacher(images).logits, shown.logits)
    assert nothing == Inside()
    assert not any(module._forward_pre_hooks for module in teacher.modules())


def test_the_gradient_reaches_the_images_through_every_part() -> None:
    teacher, student = tiny.vgg(batch_norm=True).eval().requires_grad_(False), tiny.vgg(seed=1)
    for name in GeneratorLoss().weights:
        loss = GeneratorLoss(**{**ZERO, name: 1.0})
        images = torch.randn(4, 3, 8, 8, requires_grad=True)
        with loss.watching(teacher) as inside:
            answers = teacher(images).logits
        [value] = loss(answers, inside, student(images).logits).values()
        [gradient] = torch.autograd.grad(value.sum(), [images])
        assert gradient.abs().max() > 0, name


def test_half_precision_becomes_whole() -> None:
    answers = torch.randn(3, 4, dtype=torch.bfloat16)
    inside = Inside(torch.randn(3, 5, dtype=torch.bfloat16), [torch.ones(())])
    parts = GeneratorLoss(batch_norm=1.0, adversarial=1.0)(answers, inside, answers)
    assert {value.dtype for value in parts.values()} == {torch.float32}
    assert len(parts) == 5


def test_what_cannot_be_computed_is_said() -> None:
    with pytest.raises(ValueError, match="run the teacher within watching"):
        GeneratorLoss()(torch.zeros(2, 2), Inside())
    with pytest.raises(ValueError, match="one_hot must be a finite number >= 0, got -1"):
        GeneratorLoss(one_hot=-1.0)
    with (
        pytest.raises(ValueError, match=r"Sequential has no linear layer .*activation=0.0"),
        GeneratorLoss().watching(nn.Sequential()),
    ):
        pass
    nameless = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.Linear(1, 1))
    with (
        pytest.raises(ValueError, match=r"no batch normalisation .*batch_norm=0.0"),
        GeneratorLoss(batch_norm=1.0).watching(nameless),
    ):
        pass


def test_it_says_its_weights() -> None:
    said = "GeneratorLoss(one_hot=1.0, information=5.0, activation=0.1, batch_norm=0.0, adversarial=0.0)"
    assert repr(GeneratorLoss()) == said
