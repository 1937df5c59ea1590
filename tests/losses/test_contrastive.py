"""Expected values: the paper's formulas in loops of float64 numpy, gradients by central differences, or by hand."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from finite_differences import check_value_and_gradient
from numpy.typing import NDArray
from torch import Tensor

from hf_distill.draws import uniform_draws
from hf_distill.losses import ContrastiveLoss

Array = NDArray[np.float64]
N, STUDENT, TEACHER, WIDTH = 12, 3, 4, 2
IDS = torch.tensor([7, 2, 10, 0])
LABELS = torch.tensor([1, 0, 1, 2])


def made(negatives: int = 5, **settings: Any) -> ContrastiveLoss:
    torch.manual_seed(0)
    loss = ContrastiveLoss(
        STUDENT, TEACHER, N, **{"width": WIDTH, "negatives": negatives, "temperature": 0.5, **settings}
    )
    return loss.double()


def features(seed: int = 0, rows: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(rows, width, generator=generator, dtype=torch.float64) for width in (STUDENT, TEACHER))


def at_length_1(vector: Array) -> Array:
    return vector / math.sqrt((vector**2).sum())


def others_of(example: int, loss: ContrastiveLoss, state: int) -> list[int]:
    """The others that an example is told from, by the generator that views of images are drawn by."""
    rest = [other for other in range(N) if other != example]
    if loss.negatives >= N - 1:
        return rest
    draws = uniform_draws(state, np.array([example], dtype=np.uint64), 0, loss.negatives)[0]
    return [rest[int(draw * 2.0**53) % (N - 1)] for draw in draws.tolist()]


def of_the_paper(
    state: dict[str, Array], loss: ContrastiveLoss, student: Array, teacher: Array, labels: list[int] | None
) -> tuple[Array, list[float], Array, Array]:
    """The equations of section 3 for a batch: what each example costs, both Z, and the embeddings of both models."""
    ours = [at_length_1(state["student_head.weight"] @ row + state["student_head.bias"]) for row in student]
    theirs = [at_length_1(state["teacher_head.weight"] @ row + state["teacher_head.bias"]) for row in teacher]
    others = []
    for row, example in enumerate(IDS.tolist()):
        drawn = others_of(example, loss, int(state["draw_state"]))
        if labels is not None and loss.other_classes:
            drawn = [other for other in drawn if state["classes"][other] != labels[row]]
        others.append(drawn)
    costs, constants = np.zeros(len(IDS)), []
    for embedded, memory in ((ours, state["teacher_memory"]), (theirs, state["student_memory"])):
        scores = [
            [math.exp(embedded[row] @ memory[other] / loss.temperature) for other in [example, *others[row]]]
            for row, example in enumerate(IDS.tolist())
        ]
        mean = np.concatenate(scores).mean()
        side = len(constants)
        z = N * mean if np.isnan(state["level"][side]) else N * math.exp(state["level"][side])
        constants.append(z)
        for row, found in enumerate(scores):
            k = len(found) - 1
            if k == 0:
                continue
            h = [score / z / (score / z + k / N) for score in found]
            unit = 2 * (math.log(1 + k) + k * math.log(1 + 1 / k))
            costs[row] -= (math.log(h[0]) + sum(math.log(1 - other) for other in h[1:])) / unit
    return costs, constants, np.array(ours), np.array(theirs)


def state_of(loss: ContrastiveLoss) -> dict[str, Array]:
    return {name: value.detach().numpy().copy() for name, value in loss.state_dict().items()}


def check_step(loss: ContrastiveLoss, student: Tensor, teacher: Tensor, labels: Tensor | None) -> None:
    before, given = state_of(loss), None if labels is None else labels.tolist()
    # Z is a constant, though the first batch gives it: its gradient does not count.
    constants = of_the_paper(before, loss, student.numpy(), teacher.numpy(), given)[1]
    fixed = {**before, "level": np.log(np.array(constants) / N)}
    check_value_and_gradient(
        lambda student, teacher: copy.deepcopy(loss)(student, teacher, labels=labels, example_ids=IDS),
        lambda student, teacher: of_the_paper(fixed, loss, student, teacher, given)[0],
        student,
        teacher,
    )


@pytest.mark.parametrize("negatives", [5, 30])
@pytest.mark.parametrize("labels", [None, LABELS])
def test_value_and_gradient(negatives: int, labels: Tensor | None) -> None:
    """In the first batch and in later ones, in which classes are known."""
    loss = made(negatives)
    for seed in range(3):
        check_step(loss, *features(seed), labels)
        loss(*features(seed), labels=labels, example_ids=IDS)


def test_memories_move_towards_the_embeddings_and_z_stays() -> None:
    loss = made(momentum=0.25)
    student, teacher = features(0)
    before = state_of(loss)
    _, constants, ours, theirs = of_the_paper(before, loss, student.numpy(), teacher.numpy(), None)
    loss(student, teacher, labels=LABELS, example_ids=IDS)
    after = state_of(loss)
    for name, embedded in (("student_memory", ours), ("teacher_memory", theirs)):
        expected = before[name].copy()
        for row, example in enumerate(IDS.tolist()):
            expected[example] = at_length_1(0.25 * before[name][example] + 0.75 * embedded[row])
        np.testing.assert_allclose(after[name], expected, rtol=1e-12)
    np.testing.assert_allclose(np.exp(after["level"]) * N, constants, rtol=1e-12)
    assert after["classes"].tolist() == [2, -100, 0, -100, -100, -100, -100, 1, -100, -100, 1, -100]
    before_next = loss._others(IDS)
    loss(*features(1), example_ids=IDS)
    np.testing.assert_array_equal(state_of(loss)["level"], after["level"])
    assert not torch.equal(loss._others(IDS), before_next), "other examples are drawn each time"


def test_the_gradient_of_the_linear_maps() -> None:
    loss = made()
    student, teacher = features(0)
    before = state_of(loss)
    constants = of_the_paper(before, loss, student.numpy(), teacher.numpy(), None)[1]
    fixed = {**before, "level": np.log(np.array(constants) / N)}
    copy_of_it = copy.deepcopy(loss)
    copy_of_it(student, teacher, example_ids=IDS).sum().backward()
    for name, parameter in copy_of_it.named_parameters():
        expected, step = np.zeros_like(fixed[name]), 1e-6
        for index in np.ndindex(expected.shape):
            sides = []
            for sign in (1, -1):
                moved = {key: value.copy() for key, value in fixed.items()}
                moved[name][index] += sign * step
                sides.append(of_the_paper(moved, loss, student.numpy(), teacher.numpy(), None)[0].sum())
            expected[index] = (sides[0] - sides[1]) / (2 * step)
        np.testing.assert_allclose(parameter.grad, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("negatives", [3, 11])
def test_a_student_to_which_all_look_alike_pays_1(negatives: int) -> None:
    loss = made(negatives)
    loss.student_memory[:] = loss.student_memory[0]
    loss.teacher_memory[:] = loss.teacher_memory[0]
    for head in (loss.student_head, loss.teacher_head):
        head.weight.data.zero_()
    torch.testing.assert_close(loss(*features(), example_ids=IDS), torch.ones(4, dtype=torch.float64))


def test_one_that_knows_every_example_pays_next_to_nothing() -> None:
    """Memories around a circle, embeddings on their own memory, and Z as of one that knew nothing."""
    torch.manual_seed(0)
    loss = ContrastiveLoss(2, 2, N, width=2, temperature=0.001)
    angles = torch.arange(N) * 2 * math.pi / N
    circle = torch.stack([angles.cos(), angles.sin()], dim=1)
    loss.student_memory[:] = loss.teacher_memory[:] = circle
    loss.level[:] = 990.0
    for head in (loss.student_head, loss.teacher_head):
        torch.nn.init.eye_(head.weight)
        torch.nn.init.zeros_(head.bias)
    assert loss(circle[IDS], circle[IDS], example_ids=IDS).max() < 1e-3
    assert loss(circle[IDS], circle[IDS], example_ids=IDS.roll(1)).min() > 1.0


def test_an_example_is_never_its_own_other_and_others_are_equally_likely() -> None:
    loss = made(5)
    many = []
    for _ in range(400):
        many.append(loss._others(IDS))
        loss.draw_state += 1
    everything = torch.stack(many)
    for row, example in enumerate(IDS.tolist()):
        counts = torch.bincount(everything[:, row].flatten(), minlength=N)
        assert counts[example] == 0
        expected = 400 * 5 / (N - 1)
        chi_square = ((counts[torch.arange(N) != example] - expected) ** 2 / expected).sum()
        assert chi_square < 35.6, "0.9999 quantile of chi-square with 10 degrees of freedom"


def test_the_split_of_a_batch_does_not_matter_but_for_the_memories() -> None:
    loss = made().eval()
    loss.level.fill_(0.3)
    student, teacher = features()
    alone = torch.cat([loss(student[[i]], teacher[[i]], example_ids=IDS[[i]]) for i in range(4)])
    torch.testing.assert_close(loss(student, teacher, example_ids=IDS), alone)


def test_in_evaluation_nothing_is_remembered() -> None:
    loss = made().eval()
    before = copy.deepcopy(loss.state_dict())
    loss(*features(), labels=LABELS, example_ids=IDS)
    assert all(torch.equal(value, before[name]) or name == "level" for name, value in loss.state_dict().items())
    assert loss.level.isnan().all()


def test_of_an_example_that_is_twice_in_a_batch_the_last_counts() -> None:
    twice, once = made(), made()
    student, teacher = features()
    twice(student, teacher, labels=LABELS, example_ids=torch.tensor([7, 2, 7, 0]))
    once(student[1:], teacher[1:], labels=LABELS[1:], example_ids=torch.tensor([2, 7, 0]))
    for name in ("student_memory", "teacher_memory", "classes"):
        torch.testing.assert_close(twice.state_dict()[name], once.state_dict()[name])


def test_where_all_others_are_of_the_same_class_there_is_nothing_to_tell() -> None:
    loss = made(30)
    loss.classes.fill_(1)
    student, teacher = features()
    student.requires_grad_()
    values = loss(student, teacher, labels=torch.tensor([1, 1, 1, 0]), example_ids=IDS)
    values.sum().backward()
    assert values[:3].tolist() == [0.0] * 3
    assert values[3] > 0.1
    assert student.grad.isfinite().all()
    assert (student.grad[:3] == 0.0).all()


def test_labels_that_are_no_classes_leave_nobody_out() -> None:
    plain = made()(*features(), example_ids=IDS)
    for labels in (torch.full((4, 3), 1 / 3), torch.rand(4), torch.full((4,), -100)):
        loss = made()
        loss.classes.fill_(-100)
        torch.testing.assert_close(loss(*features(), labels=labels, example_ids=IDS), plain)
        assert (loss.classes == -100).all()
    loss = made(other_classes=False)
    loss.classes.fill_(1)
    torch.testing.assert_close(loss(*features(), labels=LABELS, example_ids=IDS), plain)


def test_maps_are_taken_whole() -> None:
    student, teacher = features()
    maps = student[:, :, None, None], teacher.reshape(4, 1, 2, 2)
    torch.testing.assert_close(made()(*maps, example_ids=IDS), made()(student, teacher, example_ids=IDS))


def test_the_state_is_saved_whole() -> None:
    """One that is loaded goes on as the one that was saved."""
    loss = made()
    loss(*features(), labels=LABELS, example_ids=IDS)
    torch.manual_seed(7)
    other = ContrastiveLoss(STUDENT, TEACHER, N, width=WIDTH, negatives=5, temperature=0.5).double()
    other.load_state_dict(loss.state_dict())
    for seed in (1, 2):
        expected = loss(*features(seed), labels=LABELS, example_ids=IDS)
        assert torch.equal(other(*features(seed), labels=LABELS, example_ids=IDS), expected)


@pytest.mark.parametrize("ids", [None, torch.zeros(3, dtype=torch.int64), torch.zeros(4), torch.zeros(4, 1).long()])
def test_ids_are_needed(ids: Tensor | None) -> None:
    with pytest.raises(ValueError, match=r"which 4 examples .* give example_ids, whole numbers of shape \(4,\), got"):
        made()(*features(), example_ids=ids)


@pytest.mark.parametrize("wrong", [-1, N])
def test_an_id_out_of_range_is_refused(wrong: int) -> None:
    with pytest.raises(ValueError, match=r"must lie from 0 to 11.*with_example_ids"):
        made()(*features(), example_ids=torch.tensor([0, 1, 2, wrong]))


@pytest.mark.parametrize("shape", [(4, 4), (4, 3, 1), (4, 3, 2, 2)])
def test_other_widths_and_tokens_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be vectors or maps with 3 and 4 values .*Tap layers"):
        made()(torch.ones(shape), torch.ones(4, 4), example_ids=IDS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0}, "width must be a whole number >= 1, got 0"),
        ({"width": 2.5}, "width must be a whole number >= 1, got 2.5"),
        ({"negatives": 0}, "negatives must be a whole number >= 1, got 0"),
        ({"negatives": 1.5}, "negatives must be a whole number >= 1, got 1.5"),
        ({"temperature": 0.0}, "temperature must be a finite number > 0, got 0.0"),
        ({"temperature": math.nan}, "temperature must be a finite number > 0, got nan"),
        ({"momentum": 1.0}, r"must be in \[0, 1\), got 1.0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(**settings)


def test_sizes_out_of_range_are_refused() -> None:
    for wrong, sizes in (("student_width", (0, 1, 5)), ("teacher_width", (1, 0, 5)), ("examples", (1, 1, 2.5))):
        with pytest.raises(ValueError, match=f"{wrong} must be a whole number >= 1"):
            ContrastiveLoss(*sizes)
    with pytest.raises(ValueError, match="at least 2 examples, got examples=1"):
        ContrastiveLoss(1, 1, 1)


def test_it_reads_as_it_was_made() -> None:
    assert repr(ContrastiveLoss(3, 4, 10)) == (
        "ContrastiveLoss(10 examples, width=128, negatives=16384, temperature=0.07, momentum=0.5, other_classes=True)"
    )
