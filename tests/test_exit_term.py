"""Early exits that learn from the student itself; expected values come from autograd on what is written out here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import TrainerCallback

from hf_distill import DistillationTrainer, ExitTerm, LabelTerm, ModelView, Objective, StepView
from hf_distill.losses import ClassificationLoss, MultiLabelTargetLoss, RegressionTargetLoss, SoftTargetLoss

LABELS = torch.tensor([0, 2, -100])


def step(feature: Tensor, **known: Any) -> StepView:
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(1), requires_grad=True)
    known = {"labels": LABELS, "label_loss": ClassificationLoss(), **known}
    return StepView(ModelView(logits, {"layer": feature}), **known)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]])
AVERAGED = {
    "vectors": (random(3, 5), None, random(3, 5)),
    "maps": (random(3, 5, 2, 4), None, random(3, 5, 2, 4).flatten(2).mean(dim=2)),
    "tokens": (random(3, 4, 5), None, random(3, 4, 5).mean(dim=1)),
    "masked tokens": (
        random(3, 4, 5),
        MASK,
        torch.stack([random(3, 4, 5)[0, :3].mean(0), random(3, 4, 5)[1].mean(0), random(3, 4, 5)[2, 0]]),
    ),
}


@pytest.mark.parametrize("kind", AVERAGED)
def test_each_exit_learns_from_labels_and_from_the_students_own_answer(kind: str) -> None:
    feature, mask, averaged = AVERAGED[kind]
    view = step(feature, mask=mask)
    term = ExitTerm("layer", loss=SoftTargetLoss(2.0), distillation_weight=0.4)
    term.prepare(view)
    first, _, last = term.exits[0]
    logits = F.linear(F.linear(averaged, first.weight, first.bias).relu(), last.weight, last.bias)
    own = (F.softmax(view.student.logits.detach() / 2, -1)).log()
    soft = 4 * (own.exp() * (own - F.log_softmax(logits / 2, -1))).sum(-1)
    labels = F.cross_entropy(logits, LABELS, reduction="none", ignore_index=-100)
    torch.testing.assert_close(term.compute(view), 0.4 * soft + 0.6 * labels)


def test_several_exits_are_averaged_and_the_answer_that_teaches_does_not_move() -> None:
    features = {"a": random(3, 5).requires_grad_(), "b": random(3, 4, 2, 2).requires_grad_()}
    view = StepView(ModelView(random(3, 3).requires_grad_(), features), labels=LABELS, label_loss=ClassificationLoss())
    both, alone = ExitTerm("a", "b"), [ExitTerm("a"), ExitTerm("b")]
    both.prepare(view)
    for index, term in enumerate(alone):
        term.exits = nn.ModuleList([both.exits[index]])
    loss = both.compute(view)
    torch.testing.assert_close(loss, (alone[0].compute(view) + alone[1].compute(view)) / 2)
    loss.sum().backward()
    assert view.student.logits.grad is None
    assert all(feature.grad.abs().sum() > 0 for feature in features.values())


def test_without_labels_the_own_answer_is_left() -> None:
    view = step(random(3, 5), labels=None)
    term = ExitTerm("layer", distillation_weight=0.25)
    term.prepare(view)
    own = SoftTargetLoss(3.0)(term.exits[0](random(3, 5)), view.student.logits)
    torch.testing.assert_close(term.compute(view), 0.25 * own)


def trainer(folder: Path, callbacks: Any = (), **changes: Any) -> DistillationTrainer:
    args = tiny.arguments(folder, learning_rate=1e-2, max_steps=6, save_strategy="steps", save_steps=3, **changes)
    objective = Objective(ce=LabelTerm(), exits=ExitTerm("bert.encoder.layer.0"))
    return DistillationTrainer(
        tiny.bert(layers=2, dropout=0.1), args, train_dataset=tiny.dataset(), objective=objective,
        callbacks=list(callbacks),
    )  # fmt: skip


def test_training_needs_no_teacher_and_leaves_the_student_as_it_was(tmp_path: Path) -> None:
    training = trainer(tmp_path)
    before = training.distillation_objective.describe()
    training.train()
    exits = training.distillation_objective.terms["exits"].exits
    assert len(exits) == 1
    training.save_model(str(tmp_path / "saved"))
    saved = type(training.model).from_pretrained(tmp_path / "saved")
    assert saved.state_dict().keys() == tiny.bert(layers=2).state_dict().keys()
    assert training.distillation_objective.describe() == before
    assert {"ce", "exits"} <= training.state.log_history[0].keys()


@pytest.mark.parametrize(
    ("task", "loss"), [("multi_label", MultiLabelTargetLoss(3.0)), ("regression", RegressionTargetLoss())]
)
def test_other_tasks_need_a_loss_of_their_own(tmp_path: Path, task: str, loss: Any) -> None:
    def train(term: ExitTerm) -> None:
        DistillationTrainer(
            tiny.bert(layers=2, labels=1 if task == "regression" else 3), tiny.arguments(tmp_path, max_steps=1),
            train_dataset=tiny.dataset(task=task), objective=Objective(ce=LabelTerm(), exits=term),
        ).train()  # fmt: skip

    with pytest.raises(ValueError, match=r"usual loss of an ExitTerm.*MultiLabelTargetLoss\(3.0\)"):
        train(ExitTerm("bert.encoder.layer.0"))
    train(ExitTerm("bert.encoder.layer.0", loss=loss))


class Stop(TrainerCallback):
    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = True


def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole")
    whole.train()
    trainer(tmp_path / "cut", [Stop()]).train()
    resumed = trainer(tmp_path / "cut")
    resumed.train(resume_from_checkpoint=True)
    for ours, theirs in (
        (whole.model, resumed.model),
        (whole.distillation_objective.trained, resumed.distillation_objective.trained),
    ):
        for name, value in ours.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[name]), name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ExitTerm(), "needs paths of modules"),
        (lambda: ExitTerm("a", distillation_weight=1.5), "between 0 and 1, got 1.5"),
        (lambda: ExitTerm("layer").compute(step(torch.zeros(3))), r"'layer' puts out shape \(3,\)"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_it_reads_as_it_was_made() -> None:
    assert repr(ExitTerm("a", "b", weight=0.5)) == (
        "ExitTerm('a', 'b', loss=SoftTargetLoss(temperature=3.0), distillation_weight=0.3, weight=0.5)"
    )
