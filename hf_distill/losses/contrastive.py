"""Contrast: the student's picture of an example must fit the teacher's of the same one, and of no other."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_distill.draws import integer_draws
from hf_distill.losses.base import check_whole_numbers
from hf_distill.losses.feature_base import FeatureLoss, misfit, unit_rows
from hf_distill.losses.label import NO_LABEL
from hf_distill.processes import from_all_processes


class ContrastiveLoss(FeatureLoss):
    r"""Telling an example from others, across student and teacher, by noise-contrastive estimation (CRD).

    .. math:: L_i = \frac{D(s_i, m^t) + D(t_i, m^s)}{2 U(K_i)}, \quad
        D(v, m) = h_+(v \cdot m_i) + \sum_{j=1}^{K_i} h_-(v \cdot m_{n(j)}), \quad
        U(K) = \log(1 + K) + K \log(1 + \tfrac{1}{K})

    where :math:`h_+ = -\log \frac{P}{P + K_i / N}` and :math:`h_- = -\log \frac{K_i / N}{P + K_i / N}` with
    :math:`P(u) = e^{u / \tau} / Z`; s and t are embeddings of length 1 that two learned linear maps make of the
    features; :math:`m^s` and :math:`m^t` are memories with one embedding for each of the N examples of the training
    set, which after each batch in training move towards what its examples gave: :math:`m \leftarrow \mu m +
    (1 - \mu) v`, at length 1; and :math:`n(j)` are other examples drawn at random. Z is N times the mean of
    :math:`e^{u / \tau}` over the first batch, for each of the two memories, and stays.

    A student whose embeddings are equally close to all memories pays 1.

    The maps learn beside the student, and the memories are part of the state: ``DistillationTrainer`` saves and resumes
    both, and all processes keep equal memories. What is drawn depends on the example and on the number of batches so
    far alone. :class:`~hf_distill.contrastive_term.ContrastiveTerm` makes the loss from the shapes of the features and
    the size of the training set.

    Each step takes 4 N bytes an example of the batch, and the state 8 N ``width`` bytes: 50,000 examples in batches of
    64 take 13 MB twice, and 51 MB.

    Args:
        student_width: Number of values that the student's features have for an example.
        teacher_width: The same for the teacher.
        examples: N, how many the training set has, at least 2.
        width: Of the embeddings.
        negatives: K, how many others an example is told from: drawn with repetitions, or all once where there are no
            more.
        temperature: :math:`\tau`, > 0.
        momentum: :math:`\mu`, how much of a memory stays when it is renewed, in [0, 1).
        other_classes: Whether others of the same class are left out of those drawn, so that :math:`K_i` is smaller. It
            needs one class an example as ``labels``; an example that was in no batch yet has no class, and a random
            memory.

    Shape:
        - student, teacher: ``(B, d)``, or ``(B, C, H, W)`` with d = C H W, each of its own width, any float dtype;
          computed in float32. The paper uses the vectors in front of the last layer.
        - labels: ``(B,)`` class indices, ``-100`` where unknown; anything else says nothing about classes.
        - example_ids: ``(B,)``, from 0 to N - 1.
        - output: ``(B,)`` float32, dimensionless, > 0. Gradient flows to ``student`` and to both linear maps.

    Raises:
        ValueError: an argument is out of its range, the features are of other widths or tokens, or ``example_ids`` are
            missing or do not fit.

    Source:
        Tian et al. 2020, arXiv:1910.10699, section 3, with the sizes of the authors' code. They do not divide: their
        weight of 0.8 is :math:`1.6 U(K)` of ours, 17 at K = 16384. They draw from other classes only, instead of
        leaving out, and add :math:`10^{-7}` in each denominator.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> loss = ContrastiveLoss(student_width=2, teacher_width=3, examples=10)
        >>> loss(torch.ones(4, 2), torch.ones(4, 3), example_ids=torch.tensor([7, 2, 5, 3])).shape
        torch.Size([4])
    """

    needs_same_shape: ClassVar[bool] = False
    needs_example_ids: ClassVar[bool] = True
    level: Tensor
    classes: Tensor
    student_memory: Tensor
    teacher_memory: Tensor
    draw_state: Tensor

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        examples: int,
        width: int = 128,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
        other_classes: bool = True,
    ) -> None:
        super().__init__()
        check_contrast(width, negatives, temperature, momentum)
        check_whole_numbers(student_width=student_width, teacher_width=teacher_width, examples=examples)
        if examples < 2:
            raise ValueError("Contrast needs at least 2 examples, got examples=1.")
        self.examples, self.negatives = examples, negatives
        self.temperature, self.momentum, self.other_classes = temperature, momentum, other_classes
        self.student_head = nn.Linear(student_width, width)
        self.teacher_head = nn.Linear(teacher_width, width)
        bound = math.sqrt(3.0 / width)  # rows of a length of about 1
        self.register_buffer("student_memory", torch.empty(examples, width).uniform_(-bound, bound))
        self.register_buffer("teacher_memory", torch.empty(examples, width).uniform_(-bound, bound))
        self.register_buffer("classes", torch.full((examples,), NO_LABEL))
        self.register_buffer("level", torch.full((2,), torch.nan))  # log of Z / N, unknown yet
        self.register_buffer("draw_state", torch.randint(2**62, ()))

    def check_shapes(self, student: Tensor, teacher: Tensor) -> None:
        widths = self.student_head.in_features, self.teacher_head.in_features
        found = tuple(math.prod(features.shape[1:]) for features in (student, teacher))
        if found != widths or 3 in (student.dim(), teacher.dim()):
            raise misfit(
                student,
                teacher,
                f"must be vectors or maps with {widths[0]} and {widths[1]} values an example",
                "Tap layers with one vector an example, and give their widths to the loss.",
            )

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        *,
        mask: Tensor | None = None,
        labels: Tensor | None = None,
        progress: float = 0.0,
        example_ids: Tensor | None = None,
    ) -> Tensor:
        student, teacher = self.checked(student, teacher)
        ids = self._checked_ids(example_ids, len(student))
        with torch.autocast(student.device.type, enabled=False):
            return self._contrast(student, teacher, ids, _classes(labels, ids))

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Not defined for features alone: see :meth:`forward`, which must know which examples they are."""
        raise TypeError("ContrastiveLoss compares examples that it knows by their ids: call the loss itself.")

    def _contrast(self, student: Tensor, teacher: Tensor, ids: Tensor, classes: Tensor) -> Tensor:
        ours, theirs = _embedded(self.student_head, student), _embedded(self.teacher_head, teacher)
        others = self._others(ids)
        counts = self._counted(others, classes)
        number = counts.sum(dim=1)
        similar = [
            self._similarities(embedded, memory.to(embedded.dtype), ids, others)
            for embedded, memory in ((ours, self.teacher_memory), (theirs, self.student_memory))
        ]
        left_out = F.pad(counts == 0.0, (1, 0))
        sizes = [u.detach().masked_fill(left_out, -torch.inf).logsumexp(dim=1) for u in similar]
        told = from_all_processes(torch.cat([ours, theirs, torch.stack([*sizes, number + 1.0], dim=1)], dim=1))
        level = self._level(told[:, -3:])
        noise = level.unsqueeze(1) + number.clamp(min=1.0).log()  # log of Z K / N
        parts = [_told_apart(u, log_zk, counts) for u, log_zk in zip(similar, noise, strict=True)]
        value = torch.stack(parts).sum(dim=0)
        if self.training:
            known = from_all_processes(torch.stack([ids, classes], dim=1))
            self._remember(known, told[:, :-3], level)
        return torch.where(number > 0, value / (2.0 * uninformed(number.clamp(min=1.0))), value * 0.0)

    def _similarities(self, embedded: Tensor, memory: Tensor, ids: Tensor, others: Tensor) -> Tensor:
        """``(B, 1 + K)`` inner products over the temperature, with the example's own memory in front."""
        # With all memories, and then chosen: that is less to move than a copy of K memories for each example.
        products = (embedded / self.temperature) @ memory.T
        return products.gather(1, torch.cat([ids.unsqueeze(1), others], dim=1))

    def _others(self, ids: Tensor) -> Tensor:
        """``(B, K)`` ids of other examples."""
        rest = self.examples - 1
        if self.negatives >= rest:
            drawn = torch.arange(rest, device=ids.device).expand(len(ids), rest)
        else:
            drawn = integer_draws(self.draw_state, ids, self.negatives, below=rest)
        return drawn + (drawn >= ids.unsqueeze(1)).long()

    def _counted(self, others: Tensor, classes: Tensor) -> Tensor:
        """``(B, K)``, 1 for an example that counts as another and 0 for one of the same class."""
        same = (self.classes[others] == classes.unsqueeze(1)) & (classes != NO_LABEL).unsqueeze(1)
        return (~(same & self.other_classes)).to(self.student_memory.dtype)

    def _level(self, whole: Tensor) -> Tensor:
        """``(2,)``, the logarithm of Z / N: of the mean in the first batch, from logarithms of sums and their sizes."""
        first = whole[:, :2].logsumexp(dim=0) - whole[:, 2].sum().log()
        return torch.where(self.level.isnan(), first, self.level.to(first.dtype))

    @torch.no_grad()
    def _remember(self, known: Tensor, embedded: Tensor, level: Tensor) -> None:
        """Renew the memories of a batch's examples; of one that is in it several times, with the last."""
        ids, classes = known.unbind(dim=1)
        place = torch.arange(len(ids), device=ids.device)
        last = (ids.unsqueeze(1) == ids).long().mul(place).amax(dim=1) if len(ids) else place
        for name, new in zip(("student_memory", "teacher_memory"), embedded.chunk(2, dim=1), strict=True):
            old: Tensor = getattr(self, name)
            moved = self.momentum * old[ids] + (1.0 - self.momentum) * new[last].to(old.dtype)
            setattr(
                self, name, old.index_copy(0, ids, unit_rows(moved))
            )  # not in place: the gradient needs the old one
        self.classes = self.classes.index_copy(0, ids, classes[last])
        if len(ids):
            self.level = level.to(self.level.dtype)
        self.draw_state += 1

    def _checked_ids(self, ids: Tensor | None, size: int) -> Tensor:
        if ids is None or ids.shape != (size,) or ids.is_floating_point():
            raise ValueError(
                f"Contrast must know which {size} examples of the training set these are: give example_ids, whole "
                f"numbers of shape ({size},), got {'none' if ids is None else (tuple(ids.shape), ids.dtype)}."
            )
        # On an accelerator it would have to be waited for; indexing complains there by itself.
        if ids.device.type == "cpu" and not ((ids >= 0) & (ids < self.examples)).all():
            raise ValueError(
                f"example_ids must lie from 0 to {self.examples - 1}, got {ids.min().item()} to {ids.max().item()}. "
                "Number the rows of the training set with with_example_ids(dataset)."
            )
        return ids.long()

    def __repr__(self) -> str:
        width = self.student_memory.shape[1]
        settings = contrast_repr(width, self.negatives, self.temperature, self.momentum, self.other_classes)
        return f"ContrastiveLoss({self.examples} examples, {settings})"


def uninformed(number: Tensor) -> Tensor:
    """What one is to pay who knows nothing and has to tell an example from so many others."""
    return number.log1p() + number * (1.0 / number).log1p()


def check_contrast(width: int, negatives: int, temperature: float, momentum: float) -> None:
    """Refuse settings with which nothing can be told apart.

    Raises:
        ValueError: one is out of its range.
    """
    check_whole_numbers(width=width, negatives=negatives)
    if not 0.0 < temperature < math.inf:
        raise ValueError(f"temperature must be a finite number > 0, got {temperature}.")
    if not 0.0 <= momentum < 1.0:
        raise ValueError(f"momentum, how much of a memory stays, must be in [0, 1), got {momentum}.")


def contrast_repr(width: int, negatives: int, temperature: float, momentum: float, other_classes: bool) -> str:
    """The settings in words."""
    return (
        f"width={width}, negatives={negatives}, temperature={temperature}, momentum={momentum}, "
        f"other_classes={other_classes}"
    )


def _told_apart(similar: Tensor, log_zk: Tensor, counts: Tensor) -> Tensor:
    """How badly an example's own memory, in front, is told from those of others that count, in nats: ``(B,)``.

    Args:
        similar: ``(B, 1 + K)``.
        log_zk: ``(B,)``, logarithm of Z K / N.
        counts: ``(B, K)``.
    """
    return F.softplus(log_zk - similar[:, 0]) + (F.softplus(similar[:, 1:] - log_zk[:, None]) * counts).sum(dim=1)


def _embedded(head: nn.Linear, features: Tensor) -> Tensor:
    weight, bias = (parameter.to(features.dtype) for parameter in (head.weight, head.bias))
    return unit_rows(F.linear(features.flatten(1), weight, bias))


def _classes(labels: Tensor | None, ids: Tensor) -> Tensor:
    """The class of each example, unknown where labels are no class indices."""
    if labels is None or labels.shape != ids.shape or labels.is_floating_point():
        return torch.full_like(ids, NO_LABEL)
    return labels.long()
