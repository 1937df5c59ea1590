"""What every exported loss between features promises, whatever its formula."""

import copy
import inspect
from typing import NamedTuple

import pytest
import torch

import hf_distill.losses
from hf_distill.losses import (
    AttentionTransferLoss,
    ContrastiveLoss,
    FeatureLoss,
    HintLoss,
    ProbabilisticTransferLoss,
    RelationalLoss,
    ReviewLoss,
    SimilarityPreservingLoss,
    VariationalInformationLoss,
)

BATCH = 6


class Case(NamedTuple):
    loss: FeatureLoss
    student: tuple[int, ...]  # shape, but for the batch
    teacher: tuple[int, ...]


class FirstStep(ContrastiveLoss):
    """As it is in its first step, whenever it is called, on the first examples; its scale as in training."""

    def forward(self, student, teacher, **known):
        ids = torch.arange(student.shape[0] if student.dim() else 0)
        return ContrastiveLoss.forward(copy.deepcopy(self), student, teacher, **known, example_ids=ids)


def contrastive(student, teacher):
    torch.manual_seed(0)
    loss = FirstStep(student, teacher, examples=2 * BATCH, width=4, negatives=5)
    loss.level.fill_(1.0)  # otherwise the batch decides
    return loss


MAP, WIDE_MAP, LARGE_MAP = (3, 2, 4), (5, 2, 4), (2, 4, 5)
TOKENS, WIDE_TOKENS = (7, 3), (7, 5)
VECTOR, WIDE_VECTOR = (4,), (9,)
RELATIONS = [
    ProbabilisticTransferLoss(),
    RelationalLoss(),
    RelationalLoss(distance_weight=1.0, angle_weight=0.0),
    SimilarityPreservingLoss(),
]
CASES = [
    *(Case(HintLoss(), shape, shape) for shape in (MAP, TOKENS, VECTOR)),
    *(Case(VariationalInformationLoss(3), shape, shape) for shape in (MAP, TOKENS, (3,))),
    *(Case(ReviewLoss(), shape, shape) for shape in (MAP, (2, 5, 9))),
    *(Case(AttentionTransferLoss(), *pair) for pair in ((MAP, WIDE_MAP), (MAP, LARGE_MAP), (TOKENS, WIDE_TOKENS))),
    *(Case(loss, *pair) for loss in RELATIONS for pair in ((MAP, LARGE_MAP), (TOKENS, WIDE_TOKENS))),
    *(Case(loss, VECTOR, WIDE_VECTOR) for loss in RELATIONS),
    *(Case(loss, MAP, VECTOR) for loss in RELATIONS),
    Case(contrastive(4, 9), VECTOR, WIDE_VECTOR),
    Case(contrastive(24, 9), MAP, WIDE_VECTOR),
]
# What each class calls a student that knows nothing, from the teacher's shape: it pays 1.
UNINFORMED = {
    AttentionTransferLoss: torch.zeros_like,
    HintLoss: torch.zeros_like,
    ProbabilisticTransferLoss: torch.ones_like,
    RelationalLoss: lambda teacher: torch.eye(len(teacher), dtype=teacher.dtype),
    ReviewLoss: torch.zeros_like,
    SimilarityPreservingLoss: torch.ones_like,
    VariationalInformationLoss: torch.zeros_like,
}
SAME_SHAPE = (HintLoss, ReviewLoss, VariationalInformationLoss)
RELATION = (ProbabilisticTransferLoss, RelationalLoss, SimilarityPreservingLoss)

# To tell examples apart is no distance: neither is the teacher at rest, nor zeros far off. See test_contrastive.py.
DISTANCES = [case for case in CASES if not isinstance(case.loss, ContrastiveLoss)]

every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: f"{type(c.loss).__name__}{c.student}{c.teacher}")
every_distance = pytest.mark.parametrize(
    "case", DISTANCES, ids=lambda c: f"{type(c.loss).__name__}{c.student}{c.teacher}"
)
every_token_case = pytest.mark.parametrize(
    "case", [case for case in CASES if case.student == TOKENS], ids=lambda case: repr(case.loss)
)
every_loss = pytest.mark.parametrize("loss", list({repr(case.loss): case.loss for case in CASES}.values()), ids=repr)


def features(seed, shape, examples=BATCH):
    return torch.randn(examples, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(case):
    return features(0, case.student), features(1, case.teacher)


def pulled(loss, student, teacher, **kwargs):
    """The value, and the gradient on the student."""
    student = student.detach().clone().requires_grad_()
    values = loss(student, teacher, **kwargs)
    values.sum().backward()
    return values.detach(), student.grad


def test_every_exported_feature_loss_is_in_the_list_above():
    exported = {getattr(hf_distill.losses, name) for name in hf_distill.losses.__all__}
    losses = {c for c in exported if inspect.isclass(c) and issubclass(c, FeatureLoss)}
    assert {type(case.loss) for case in DISTANCES} == losses - {FeatureLoss, ContrastiveLoss}
    assert any(isinstance(case.loss, ContrastiveLoss) for case in CASES)
    assert UNINFORMED.keys() == losses - {FeatureLoss, ContrastiveLoss}


@every_case
def test_one_finite_value_at_least_0_per_example_or_for_the_batch(case):
    student, teacher = pair(case)
    values = case.loss(student.float(), teacher.float())
    assert values.shape == (() if isinstance(case.loss, RELATION) else (BATCH,))
    assert values.dtype == torch.float32
    assert values.isfinite().all()
    assert (values > 0).all()


@every_case
def test_gradient_goes_to_the_student_only(case):
    student, teacher = (f.requires_grad_() for f in pair(case))
    case.loss(student, teacher).sum().backward()
    assert (student.grad.flatten(1).abs().sum(dim=-1) > 0).all()
    assert teacher.grad is None


@every_case
def test_gradient_against_finite_differences(case):
    student, teacher = pair(case)
    assert torch.autograd.gradcheck(lambda student: case.loss(student, teacher), student.requires_grad_())


@every_distance
def test_no_cost_and_no_pull_at_a_perfect_match(case):
    teacher = features(1, case.teacher)
    values, gradient = pulled(case.loss, teacher, teacher)
    torch.testing.assert_close(values, torch.zeros_like(values), atol=1e-7, rtol=0)
    torch.testing.assert_close(gradient, torch.zeros_like(teacher), atol=1e-12, rtol=0)


@every_distance
def test_an_uninformed_student_pays_1(case):
    teacher = features(1, case.teacher)
    values = case.loss(UNINFORMED[type(case.loss)](teacher), teacher)
    torch.testing.assert_close(values, torch.ones_like(values), atol=1e-6, rtol=0)


@every_distance
@pytest.mark.parametrize("scale", [1e-5, 0.03, 1e5])
def test_the_scale_of_both_models_does_not_matter(case, scale):
    student, teacher = pair(case)
    torch.testing.assert_close(
        case.loss(scale * student, scale * teacher), case.loss(student, teacher), rtol=1e-3, atol=0
    )
    if not isinstance(case.loss, SAME_SHAPE):  # a scale of the student's own
        torch.testing.assert_close(case.loss(scale * student, teacher), case.loss(student, teacher), rtol=1e-3, atol=0)


@every_case
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32_also_under_autocast(case, dtype):
    student, teacher = (f.to(dtype) for f in pair(case))
    expected, gradient = pulled(case.loss, student.float(), teacher.float())
    values, half_gradient = pulled(case.loss, student, teacher)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, expected)
    torch.testing.assert_close(half_gradient, gradient.to(dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(case.loss(student.float(), teacher.float()), expected)


@every_case
def test_float32_agrees_with_float64(case):
    student, teacher = pair(case)
    values, gradient = pulled(case.loss, student + 3.0, teacher + 3.0)  # a common mean, as after a ReLU
    single, single_gradient = pulled(case.loss, (student + 3.0).float(), (teacher + 3.0).float())
    torch.testing.assert_close(single.double(), values, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(single_gradient.double(), gradient, rtol=1e-3, atol=1e-5)


def one_dead(f):
    return torch.cat([torch.zeros_like(f[:1]), f[1:]])


def two_equal(f):
    return torch.cat([f[:1], f[:1], f[2:]])


DEGENERATE = {
    "as they are": lambda f: f,
    "all zero": torch.zeros_like,
    "one dead": one_dead,
    "two equal": two_equal,
    "all equal": lambda f: f[:1].expand_as(f),
    "opposite": lambda f: torch.cat([f[:1], -f[:1], f[2:]]),
}


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_degenerate_features_give_finite_values_and_gradients(case, dtype):
    student, teacher = (f.to(dtype) for f in pair(case))
    for ours in DEGENERATE.values():
        for theirs in DEGENERATE.values():
            values, gradient = pulled(case.loss, ours(student), theirs(teacher))
            assert values.isfinite().all()
            # Far below 1 / eps, which a careless division by a length of 0 would give.
            assert gradient.abs().max() < 1e3


@every_distance
def test_a_teacher_of_zeros_does_not_pull(case):
    student, teacher = pair(case)
    values, gradient = pulled(case.loss, student, torch.zeros_like(teacher))
    # A student's unit vectors against none are at distance 1, wherever they point.
    expected = 1.0 if isinstance(case.loss, (AttentionTransferLoss, SimilarityPreservingLoss)) else 0.0
    torch.testing.assert_close(values, torch.full_like(values, expected), atol=1e-7, rtol=0)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-12, rtol=0)


@every_case
@pytest.mark.parametrize("examples", [1, 0])
def test_a_batch_of_one_and_an_empty_one(case, examples):
    student, teacher = (f[:examples] for f in pair(case))
    values, gradient = pulled(case.loss, student, teacher)
    if isinstance(case.loss, RELATION):
        assert values == 0.0
        assert (gradient == 0.0).all()
    else:
        assert values.shape == (examples,)
        assert (values > 0.0).all()


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_features_stay_finite(case, dtype):
    student, teacher = (1e4 * f.to(dtype) for f in pair(case))
    for ours, theirs in ((student, teacher), (student, teacher / 1e8), (student / 1e8, teacher)):
        values, gradient = pulled(case.loss, ours, theirs)
        assert values.isfinite().all()
        assert gradient.isfinite().all()


@every_case
@pytest.mark.parametrize("whose", [0, 1])
def test_nan_is_not_hidden(case, whose):
    both = pair(case)
    both[whose][(0,) * both[whose].dim()] = torch.nan
    assert case.loss(*both).isnan().any()


@every_distance
def test_an_example_sees_its_neighbours_just_where_the_loss_is_a_relation(case):
    student, teacher = pair(case)
    if isinstance(case.loss, RELATION):
        order = torch.tensor([3, 0, 4, 2, 5, 1])
        torch.testing.assert_close(case.loss(student[order], teacher[order]), case.loss(student, teacher))
    else:
        alone = torch.cat([case.loss(student[[row]], teacher[[row]]) for row in range(BATCH)])
        torch.testing.assert_close(case.loss(student, teacher), alone)


@every_token_case
def test_padding_does_not_count(case):
    student, teacher = pair(case)
    lengths = torch.tensor([7, 3, 5, 6, 2, 4])
    mask = torch.arange(7) < lengths[:, None]
    values, gradient = pulled(case.loss, student, teacher, mask=mask.long())
    other = [f.masked_fill(~mask[..., None], fill) for f, fill in ((student, 5.0), (teacher, torch.nan))]
    torch.testing.assert_close(pulled(case.loss, *other, mask=mask), (values, gradient))
    assert (gradient[~mask] == 0.0).all()
    assert (gradient[mask] != 0.0).all()
    if not isinstance(case.loss, RELATION):  # an example is worth what its own tokens alone are
        alone = [case.loss(student[[i], :n], teacher[[i], :n]) for i, n in enumerate(lengths)]
        torch.testing.assert_close(values, torch.cat(alone))


@every_token_case
def test_a_mask_that_does_not_fit_is_refused(case):
    with pytest.raises(ValueError, match=r"mask of shape \(6, 5\) does not fit tokens of shape \(6, 7, 3\)"):
        case.loss(*pair(case), mask=torch.ones(6, 5))


@every_loss
@pytest.mark.parametrize(
    ("student", "teacher"),
    [((4, 3, 2, 2), (5, 3, 2, 2)), ((4, 3), (1, 3)), ((4,), (4,)), ((2, 3, 2, 2, 2), (2, 3, 2, 2, 2)), ((), ())],
)
def test_shapes_that_do_not_fit_are_refused_with_both_shapes(loss, student, teacher):
    with pytest.raises(ValueError, match="Features of student and teacher must be") as error:
        loss(torch.zeros(student), torch.zeros(teacher))
    assert f"got {student} and {teacher}." in str(error.value)


@every_loss
@pytest.mark.parametrize(
    ("student", "teacher"),
    [((2, 3, 4, 4), (2, 5, 4, 4)), ((2, 3, 4, 4), (2, 3, 8, 8)), ((2, 3, 3), (2, 4, 3)), ((2, 3), (2, 3, 1))],
)
def test_shapes_that_only_some_can_compare(loss, student, teacher):
    maps = len(student) == len(teacher) == 4
    if isinstance(loss, RELATION) or (isinstance(loss, AttentionTransferLoss) and maps):
        assert loss(torch.ones(student), torch.ones(teacher)).isfinite().all()
    else:
        with pytest.raises(ValueError, match="Features of student and teacher must") as error:
            loss(torch.zeros(student), torch.zeros(teacher))
        assert f"got {student} and {teacher}." in str(error.value)


@every_loss
def test_its_repr_is_one_line_that_says_how_it_was_made(loss):
    assert repr(loss).startswith((f"{type(loss).__name__}(", "ContrastiveLoss("))
    assert "\n" not in repr(loss)
