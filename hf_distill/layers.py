"""Which layer of the student learns from which layer of the teacher."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """One module of the student and the module of the teacher that it learns from.

    Args:
        student: Its path, as in ``student.named_modules()``: ``bert.encoder.layer.0``.
        teacher: Its path in the teacher.
    """

    student: str
    teacher: str

    def __str__(self) -> str:
        return f"{self.student} <- {self.teacher}"


def uniform_pairs(student: str, teacher: str, student_layers: int, teacher_layers: int) -> list[Pair]:
    r"""Pair every layer of the student with one of the teacher's, evenly spread, the last with the last.

    .. math:: g(k) = \lceil k N / M \rceil, \quad k = 1, ..., M

    for M layers in the student and N in the teacher. Counted from 0, as in module paths, student layer ``k - 1`` learns
    from teacher layer ``g(k) - 1``. Where M does not divide N the next layer up is taken.

    Args:
        student: The path of a student layer with ``{}`` for its number: ``bert.encoder.layer.{}``; what follows the
            number may go further into the layer.
        teacher: The same for the teacher.
        student_layers: M, how many there are, at least 1.
        teacher_layers: N, at least 1.

    Returns:
        M pairs. The embeddings are layer 0 in the source; add them with ``Pair("bert.embeddings", "bert.embeddings")``.

    Raises:
        ValueError: a path has no ``{}`` in it, or a number is not at least 1.

    Source:
        Jiao et al. 2020, arXiv:1909.10351 (TinyBERT), section 4.1: the uniform strategy, :math:`g(k) = k N / M`.

    Example:
        >>> for pair in uniform_pairs("bert.encoder.layer.{}", "roberta.encoder.layer.{}", 2, 12):
        ...     print(pair)
        bert.encoder.layer.0 <- roberta.encoder.layer.5
        bert.encoder.layer.1 <- roberta.encoder.layer.11
    """
    for path in (student, teacher):
        if path.count("{}") != 1:
            raise ValueError(f"The path {path!r} needs one {{}} where the number of the layer stands.")
    if min(student_layers, teacher_layers) < 1:
        raise ValueError(f"Both models need at least 1 layer, got {student_layers} and {teacher_layers}.")
    uniform = [-(-k * teacher_layers // student_layers) for k in range(1, student_layers + 1)]  # rounded up
    return [Pair(student.replace("{}", str(k)), teacher.replace("{}", str(g - 1))) for k, g in enumerate(uniform)]
