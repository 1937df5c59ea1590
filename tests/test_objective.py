from __future__ import annotations

from typing import Any

import pytest
import torch

from hf_distill import FeatureTerm, LabelTerm, LogitTerm, ModelView, Objective, Pair, StepView, cosine, linear, warmup
from hf_distill.losses import (
    ClassificationLoss,
    HardTargetLoss,
    HintLoss,
    MultiLevelLogitLoss,
    SoftTargetLoss,
    StandardizedLogits,
)

LOGITS = torch.tensor([[0.0, 1.0], [2.0, -1.0]])


def step(progress: float = 0.0, labels: Any = (1, 0), **teachers: torch.Tensor) -> StepView:
    return StepView(
        student=ModelView(LOGITS),
        teachers={name: ModelView(logits) for name, logits in teachers.items()},
        labels=None if labels is None else torch.tensor(labels),
        progress=progress,
        label_loss=ClassificationLoss(),
    )


def test_words_have_six_digits() -> None:
    objective = Objective(
        ce=LabelTerm(1 - 0.9), kd=LogitTerm(SoftTargetLoss(4.0), 10 * 0.7), more=LabelTerm(warmup(20 / 240, 0.1 + 0.2))
    )
    assert objective.describe() == {
        "ce": "LabelTerm(weight=0.1)",
        "kd": "LogitTerm(SoftTargetLoss(temperature=4.0), weight=7.0)",
        "more": "LabelTerm(weight=warmup(0.0833333, 0.3))",
    }


def test_parts_are_weighted_and_named() -> None:
    objective = Objective(ce=LabelTerm(weight=linear(1.0, 0.0)), kd=LogitTerm(SoftTargetLoss(2.0), weight=0.5))
    teacher = torch.tensor([[1.0, 1.0], [0.0, 3.0]])
    at_half = objective(step(0.5, teacher=teacher))
    assert list(at_half) == ["ce", "kd"]
    torch.testing.assert_close(at_half["ce"], 0.5 * ClassificationLoss()(LOGITS, torch.tensor([1, 0])))
    torch.testing.assert_close(at_half["kd"], 0.5 * SoftTargetLoss(2.0)(LOGITS, teacher))


def test_weights_and_temperatures_are_told_for_the_logs() -> None:
    objective = Objective(
        ce=LabelTerm(weight=linear(1.0, 0.0)),
        kd=LogitTerm(StandardizedLogits(SoftTargetLoss(cosine(4.0, 1.0))), weight=0.5),  # inside another loss
        function=LogitTerm(lambda student, teacher, **_: student.sum()),
        hard=LogitTerm(HardTargetLoss()),
        several=LogitTerm(MultiLevelLogitLoss()),
    )
    constant = {"kd_weight": 0.5, "function_weight": 1.0, "hard_weight": 1.0, "several_weight": 1.0}
    assert objective.settings_at(0.0) == {"ce_weight": 1.0, "kd_temperature": 4.0, **constant}
    assert objective.settings_at(0.5) == {"ce_weight": 0.5, "kd_temperature": pytest.approx(2.5), **constant}


@pytest.mark.parametrize("name", ["kd_weight", "kd_temperature"])
def test_no_term_is_called_what_is_logged_of_another(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Objective(kd=LabelTerm(), **{name: LabelTerm()})
    assert set(Objective(ce=LabelTerm(), **{name: LabelTerm()}).terms) == {"ce", name}


def test_a_temperature_follows_its_schedule() -> None:
    teacher = torch.tensor([[1.0, 1.0], [0.0, 3.0]])
    objective = Objective(kd=LogitTerm(SoftTargetLoss(cosine(4.0, 1.0))))
    for progress, temperature in ((0.0, 4.0), (0.5, 2.5), (1.0, 1.0)):
        expected = SoftTargetLoss(temperature)(LOGITS, teacher)
        torch.testing.assert_close(objective(step(progress, teacher=teacher))["kd"], expected)


def test_a_term_of_weight_zero_is_not_computed() -> None:
    objective = Objective(ce=LabelTerm(), kd=LogitTerm(lambda *_, **__: pytest.fail("computed"), weight=0.0))
    assert objective(step(teacher=LOGITS))["kd"].tolist() == [0.0, 0.0]
    assert objective.needs({"teacher"}, 0.0) == set()


def test_only_the_teachers_of_active_terms_are_needed() -> None:
    objective = Objective(
        a=LogitTerm(SoftTargetLoss(), weight=linear(1.0, 0.0), teacher="a"), b=LogitTerm(SoftTargetLoss(), teacher="b")
    )
    assert objective.needs(["a", "b", "c"], 0.5) == {"a", "b"}
    assert objective.needs(["a", "b", "c"], 1.0) == {"b"}


def test_without_features_the_teachers_of_feature_terms_are_not_needed() -> None:
    objective = Objective(
        a=FeatureTerm(HintLoss(), Pair("x", "y"), teacher="a"), b=LogitTerm(SoftTargetLoss(), teacher="b")
    )
    assert objective.needs(["a", "b"], 0.5) == {"a", "b"}
    assert objective.compared(["a", "b"]) == {"b"}


def test_a_loss_by_itself_is_no_term() -> None:
    with pytest.raises(TypeError, match=r"kd=SoftTargetLoss\(.*is no term: wrap a loss, kd=LogitTerm\("):
        Objective(kd=SoftTargetLoss(2.0))  # type: ignore[arg-type]


def test_a_term_may_be_named_after_a_teacher_with_a_dot() -> None:
    terms: Any = {"kd_model-v1.5": LogitTerm(SoftTargetLoss())}
    assert list(Objective(**terms).trained) == ["kd_model-v1_5_term"]


def test_each_term_follows_its_own_teacher() -> None:
    objective = Objective(a=LogitTerm(SoftTargetLoss(), teacher="a"), b=LogitTerm(SoftTargetLoss(), teacher="b"))
    parts = objective(step(a=LOGITS, b=LOGITS.flip(1)))
    assert parts["a"].abs().max() < 1e-7
    assert parts["b"].min() > 0.1


def test_labels_that_are_missing_cost_nothing() -> None:
    term = LabelTerm()
    assert term.compute(step(labels=None)).tolist() == [0.0, 0.0]
    partly = term.compute(step(labels=(-100, 0)))
    assert partly[0] == 0.0
    assert partly[1] > 0.0


def test_a_label_term_needs_some_loss() -> None:
    bare = StepView(ModelView(LOGITS), labels=torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="loss=ClassificationLoss"):
        LabelTerm().compute(bare)
    assert LabelTerm(loss=ClassificationLoss()).compute(bare).shape == (2,)


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf"), linear(1.0, -1.0)])
def test_a_weight_out_of_range_is_refused(weight: Any) -> None:
    with pytest.raises(ValueError, match="weight must be a finite number >= 0"):
        LabelTerm(weight=weight)


def test_an_objective_needs_terms_with_names_of_their_own() -> None:
    with pytest.raises(ValueError, match="at least one term"):
        Objective()
    with pytest.raises(ValueError, match=r"'loss'.*log entries"):
        Objective(loss=LabelTerm())


def test_a_term_that_could_follow_several_teachers_must_choose() -> None:
    objective = Objective(kd=LogitTerm(SoftTargetLoss()))
    objective.check_teachers(["only"])
    with pytest.raises(ValueError, match=r"must say which of the teachers \['a', 'b'\]"):
        objective.check_teachers(["a", "b"])


def test_the_description_says_everything() -> None:
    objective = Objective(
        ce=LabelTerm(weight=0.3), kd=LogitTerm(SoftTargetLoss(cosine(4.0, 1.0)), weight=0.7, teacher="a")
    )
    assert objective.describe() == {
        "ce": "LabelTerm(weight=0.3)",
        "kd": "LogitTerm(SoftTargetLoss(temperature=cosine(4.0, 1.0)), weight=0.7, teacher='a')",
    }


def test_names_that_differ_by_a_dot_alone_are_refused() -> None:
    with pytest.raises(ValueError, match="differ by a dot alone"):
        Objective(**{"a.b": LabelTerm(), "a_b": LabelTerm()})
