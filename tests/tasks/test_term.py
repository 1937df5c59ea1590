"""Terms that see one task."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from hf_distill import (
    ContrastiveTerm,
    FeatureTerm,
    LabelTerm,
    LogitTerm,
    ModelView,
    Objective,
    Pair,
    StepView,
    Tasks,
    TaskTerm,
    Term,
    linear,
    multi_task_objective,
)
from hf_distill.losses import (
    ClassificationLoss,
    DISTLoss,
    HintLoss,
    SimilarityPreservingLoss,
    SoftTargetLoss,
    VariationalInformationLoss,
)
from hf_distill.tasks.checks import check_terms
from hf_distill.tasks.loss import TaskLoss

TASKS = Tasks({"tone": ["bad", "good"], "topic": ["film", "music", "art"]})
LABELS = torch.tensor([1, 4, -100, 2, 0, 3])
LOGITS = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
TONE, TOPIC = [0, 2, 4], [1, 2, 3, 5]  # the rows that each teacher judges


def view(**changes: object) -> StepView:
    generator = torch.Generator().manual_seed(1)
    tone, topic = torch.randn(6, 2, generator=generator), torch.randn(6, 3, generator=generator)
    student, its = torch.randn(6, 4, generator=generator), torch.randn(6, 7, generator=generator)
    step = {
        "student": ModelView(LOGITS.clone().requires_grad_(), {"body": student}),
        "teachers": {"tone": ModelView(tone), "topic": ModelView(topic, {"body": its})},
        "labels": LABELS,
        "label_loss": TaskLoss(TASKS, ClassificationLoss()),
    }
    return StepView(**{**step, **changes})


def at(rows: list[int], values: torch.Tensor) -> torch.Tensor:
    whole = torch.zeros(6)
    whole[rows] = values
    return whole


def test_nothing_that_a_term_can_say_is_lost_within_one() -> None:
    """A TaskTerm forwards by hand; what is new in Term has to be thought of here too."""
    forwarded = {name for name in vars(TaskTerm) if not name.startswith("_")}
    own = {"temperature"}  # asks for the loss and what is trained, which are forwarded
    refused = {"transforms"}
    within = {"compares_classes"}  # which is why a term is put into one
    assert {name for name in vars(Term) if not name.startswith("_")} == (forwarded & vars(Term).keys()) | (
        own | refused | within
    )


def test_labels_count_within_their_task() -> None:
    found = TaskTerm(LabelTerm(), TASKS, "topic").compute(view())
    expected = F.cross_entropy(LOGITS[[1, 3, 5], 2:], torch.tensor([2, 0, 1]), reduction="none")
    torch.testing.assert_close(found, at([1, 3, 5], expected))
    both = found + TaskTerm(LabelTerm(), TASKS, "tone").compute(view())
    torch.testing.assert_close(LabelTerm().compute(view()), both)


def test_label_smoothing_spreads_within_the_task() -> None:
    step = view(label_loss=TaskLoss(TASKS, ClassificationLoss(0.3)))
    expected = F.cross_entropy(LOGITS[[0, 4], :2], torch.tensor([1, 0]), reduction="none", label_smoothing=0.3)
    torch.testing.assert_close(TaskTerm(LabelTerm(), TASKS, "tone").compute(step), at([0, 4], expected))
    torch.testing.assert_close(LabelTerm().compute(step)[[0, 4]], expected)


@pytest.mark.parametrize("teacher", [None, "topic"])
def test_the_teacher_of_the_task_is_followed_on_its_rows_and_those_without_a_label(teacher: str | None) -> None:
    term = TaskTerm(LogitTerm(SoftTargetLoss(2.0), teacher=teacher), TASKS, "topic")
    step = view()
    goal = step.teachers["topic"].logits
    expected = 4 * F.kl_div(
        (LOGITS[TOPIC, 2:] / 2).log_softmax(-1), (goal[TOPIC] / 2).softmax(-1), reduction="none"
    ).sum(-1)
    torch.testing.assert_close(term.compute(step), at(TOPIC, expected))
    assert term.needs(["tone", "topic"]) == {"topic"}


def test_one_teacher_may_know_all_tasks() -> None:
    whole = torch.randn(6, 5, generator=torch.Generator().manual_seed(3))
    term = TaskTerm(LogitTerm(SoftTargetLoss()), TASKS, "tone")
    alone = term.compute(view(teachers={"tone": ModelView(whole[:, :2])}))
    torch.testing.assert_close(term.compute(view(teachers={"large": ModelView(whole)})), alone)
    assert term.needs(["large"]) == {"large"}
    assert term.needs(["large", "tone"]) == {"tone"}


def test_without_any_labels_all_rows_are_judged() -> None:
    found = TaskTerm(LogitTerm(SoftTargetLoss()), TASKS, "tone").compute(view(labels=None))
    assert (found > 0).all()
    assert TaskTerm(LabelTerm(), TASKS, "tone").compute(view(labels=None)).tolist() == [0.0] * 6


def test_a_loss_that_compares_examples_compares_those_of_the_task() -> None:
    """A scalar is a mean of the task's rows, so each of them has it."""
    term = TaskTerm(FeatureTerm(SimilarityPreservingLoss(), Pair("body", "body")), TASKS, "topic")
    step = view()
    ours, theirs = step.student.features["body"][TOPIC], step.teachers["topic"].features["body"][TOPIC]
    expected = SimilarityPreservingLoss()(ours, theirs)
    torch.testing.assert_close(term.compute(step), at(TOPIC, expected))
    dist = TaskTerm(LogitTerm(DISTLoss()), TASKS, "topic").compute(step)
    of_rows = DISTLoss()(LOGITS[TOPIC, 2:], step.teachers["topic"].logits[TOPIC])
    torch.testing.assert_close(dist, at(TOPIC, of_rows))


def test_masks_and_numbers_of_examples_go_with_their_rows() -> None:
    seen = {}

    class Look(LabelTerm):
        def compute(self, step: StepView) -> torch.Tensor:
            seen.update(mask=step.mask, ids=step.example_ids)
            return super().compute(step)

    step = view(mask=torch.arange(12).reshape(6, 2), example_ids=torch.arange(6) * 10)
    TaskTerm(Look(), TASKS, "tone").compute(step)
    assert seen["mask"].tolist() == [[0, 1], [4, 5], [8, 9]]
    assert seen["ids"].tolist() == [0, 20, 40]


def test_a_batch_without_the_task_costs_nothing_and_gives_every_parameter_a_gradient() -> None:
    """Without one, processes of which only some have the task would wait for each other for ever."""
    term = TaskTerm(FeatureTerm(HintLoss(), Pair("body", "body")), TASKS, "topic")
    term.prepare(view())
    step = view(labels=torch.zeros(6, dtype=torch.long))
    found = term.compute(step)
    assert found.tolist() == [0.0] * 6
    found.sum().backward()
    parameters = list(term.trained.parameters())
    assert len(parameters) == 2
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in parameters)
    assert not step.student.logits.grad.any()


def test_a_term_is_asked_what_the_one_within_would_be() -> None:
    within = FeatureTerm(VariationalInformationLoss(), Pair("body", "its"), weight=linear(1.0, 0.5))
    term = TaskTerm(within, TASKS, "topic")
    assert (term.weight(0.5), term.may_train) == (0.75, True)
    assert (term.student_layers(), term.teacher_layers("topic")) == ({"body"}, {"its"})
    assert term.teacher_layers("tone") == set()
    assert TaskTerm(LogitTerm(SoftTargetLoss(3.0)), TASKS, "tone").temperature(0.0) == 3.0
    contrast = TaskTerm(ContrastiveTerm(Pair("body", "its")), TASKS, "topic")
    assert contrast.needs_example_ids
    assert not term.needs_example_ids
    assert repr(TaskTerm(LabelTerm(), TASKS, "tone")) == "TaskTerm(LabelTerm(weight=1.0), 'tone')"


# ---- The usual objective ----


def test_weights_of_the_usual_objective() -> None:
    objective = multi_task_objective(TASKS, ["tone", "topic"], 3.0, linear(1.0, 0.0), weights={"topic": 0.5})
    assert objective.settings_at(0.25) == {
        "ce_tone_weight": 0.25, "ce_topic_weight": 0.125,
        "kd_tone_weight": 0.75, "kd_tone_temperature": 3.0,
        "kd_topic_weight": 0.375, "kd_topic_temperature": 3.0,
    }  # fmt: skip
    assert "0.5 * (1 - linear(1.0, 0.0))" in repr(objective.terms["ce_topic"])


def test_a_task_without_a_teacher_learns_from_its_labels_alone() -> None:
    assert multi_task_objective(TASKS, ["tone"], distillation_weight=1.0).describe() == {
        "ce_topic": "TaskTerm(LabelTerm(weight=1.0), 'topic')",
        "kd_tone": "TaskTerm(LogitTerm(SoftTargetLoss(temperature=2.0), weight=1.0), 'tone')",
    }
    assert list(multi_task_objective(TASKS).terms) == ["ce_tone", "ce_topic"]


def test_weights_and_teachers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(KeyError, match="no task 'tones'"):
        multi_task_objective(TASKS, weights={"tones": 1.0})
    with pytest.raises(ValueError, match=r"must say which of the teachers \['a', 'b'\]"):
        multi_task_objective(TASKS, ["a", "b"])
    with pytest.raises(KeyError, match="no task 'tones'"):
        TaskTerm(LabelTerm(), TASKS, "tones")
    with pytest.raises(ValueError, match="needs a teacher"):
        TaskTerm(LogitTerm(SoftTargetLoss()), TASKS, "topic").check_teachers(["tone"])


# ---- Terms that would mix the tasks up ----


@pytest.mark.parametrize(
    "term",
    [
        LogitTerm(SoftTargetLoss(), teacher="large"),
        LogitTerm(SoftTargetLoss(), teacher="tone"),
        FeatureTerm(HintLoss(), Pair("a", "b"), teacher="tone"),
        LabelTerm(loss=ClassificationLoss()),
    ],
    ids=str,
)
def test_a_term_that_looks_at_all_tasks_at_once_is_refused(term: LabelTerm) -> None:
    with pytest.raises(ValueError, match=r"looks at all tasks of the student at once.*TaskTerm"):
        check_terms(Objective(odd=term), TASKS, ["tone", "large"])


def test_terms_that_are_fit_for_all_tasks_are_not() -> None:
    encoder = FeatureTerm(HintLoss(), Pair("a", "b"), teacher="large")
    check_terms(Objective(ce=LabelTerm(), hint=encoder), TASKS, ["tone", "large"])
    check_terms(Objective(kd=LogitTerm(SoftTargetLoss())), None, ["teacher"])


def test_a_term_of_other_tasks_than_the_students_is_refused() -> None:
    objective = multi_task_objective(Tasks({"tone": ["bad", "good"]}))
    with pytest.raises(ValueError, match="with_tasks"):
        check_terms(objective, TASKS, [])
    with pytest.raises(ValueError, match="the student for one task"):
        check_terms(objective, None, [])
