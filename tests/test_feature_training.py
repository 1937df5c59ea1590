"""Training with features: gradients, processes, checkpoints, and what is refused before it begins."""

from __future__ import annotations

import copy
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import feature_runs
import pytest
import safetensors.torch
import tiny
import torch
from feature_runs import LAYER, STAGE, FeatureMSE, ScaledMSE, assert_identical, assert_same, weights
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback
from two_processes import run as run_in_two_processes

import hf_distill.trainer
from hf_distill import (
    ColumnTeacher,
    DistillationTrainer,
    EnsembleTeacher,
    FeatureTerm,
    LabelTerm,
    LogitTerm,
    ModelTeacher,
    Objective,
    Pair,
    linear,
    make_adapter,
)
from hf_distill.adapting import ADAPTERS_FILE
from hf_distill.losses import (
    AttentionTransferLoss,
    FeatureLoss,
    HintLoss,
    ProbabilisticTransferLoss,
    RelationalLoss,
    ReviewLoss,
    SimilarityPreservingLoss,
    SoftTargetLoss,
    VariationalInformationLoss,
)

FIRST = Pair(LAYER.format(0), LAYER.format(1))


def hinted(
    tmp_path: Path, term: FeatureTerm | None = None, teacher: Any = None, student: Any = None, **changes: Any
) -> DistillationTrainer:
    """A BERT of two layers that gets hints from a wider one of four."""
    return DistillationTrainer(
        tiny.bert(layers=2) if student is None else student,
        tiny.arguments(tmp_path, **{"max_steps": 2, **changes}),
        train_dataset=tiny.dataset(),
        eval_dataset=tiny.dataset(),
        teacher_model=tiny.bert(layers=4, seed=1, hidden_size=24) if teacher is None else teacher,
        objective=Objective(ce=LabelTerm(), hint=term or FeatureTerm(FeatureMSE(), FIRST)),
    )


@pytest.mark.parametrize(
    "loss",
    [
        AttentionTransferLoss(),
        HintLoss(),
        ProbabilisticTransferLoss(),
        RelationalLoss(),
        ReviewLoss(),
        SimilarityPreservingLoss(),
        VariationalInformationLoss(),
    ],
    ids=repr,
)
def test_every_loss_between_features_is_learned_from(loss: FeatureLoss, tmp_path: Path) -> None:
    """The maps of two ResNets come closer to each other with the feature term alone, dropout and labels aside."""
    adapt = partial(make_adapter, batch_norm=False)
    term = FeatureTerm(loss, Pair(STAGE, STAGE), adapt=adapt)
    trainer = DistillationTrainer(
        tiny.resnet(),
        tiny.arguments(tmp_path, max_steps=30, learning_rate=3e-3, per_device_train_batch_size=36),
        train_dataset=tiny.dataset("resnet"),
        teacher_model=tiny.resnet(seed=1),
        objective=Objective(hint=term),
    )
    trainer.train()
    values = [entry["hint"] for entry in trainer.state.log_history if "hint" in entry]
    assert values[-1] < 0.9 * values[0]
    begun = tiny.resnet().state_dict()
    moved = {name for name, value in trainer.model.state_dict().items() if not torch.equal(value, begun[name])}
    convolutions = {name for name, value in begun.items() if value.dim() == 4}
    assert convolutions <= moved, "it is the student that learns, not only what is beside it"
    assert not any("classifier" in name for name in moved)
    learned = trainer.distillation_objective.terms["hint"].loss
    if isinstance(learned, VariationalInformationLoss):
        assert ((learned.variance - 1.0).abs() > 1e-5).all()


# ---- Gradients ----


@pytest.mark.parametrize(("batch", "accumulation"), [(16, 1), (4, 4), (8, 2)])
@pytest.mark.parametrize("name", ["bert", "resnet"])
def test_gradients_equal_those_of_the_whole_batch_and_do_not_grow(name: str, batch: int, accumulation: int) -> None:
    trainer, recorder = feature_runs.trained(name, batch, accumulation)
    beside = trainer.distillation_objective.trained.state_dict()
    assert_same(recorder.steps, feature_runs.expected(name, beside))


def test_student_and_adapters_are_clipped_by_one_norm() -> None:
    _, free = feature_runs.trained("bert", 16, 1)
    trainer, clipped = feature_runs.trained("bert", 16, 1, max_grad_norm=0.1)
    logged = [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry]
    for step, (before, after) in enumerate(zip(free.steps, clipped.steps, strict=True)):
        norm = torch.cat([grad.flatten() for grad in before.values()]).norm()
        assert logged[step] == pytest.approx(norm.item(), rel=1e-5)
        assert_same([after], [{name: grad * 0.1 / norm for name, grad in before.items()}])


@pytest.mark.skipif(not hasattr(Trainer, "_get_grad_norm"), reason="This transformers logs no norm without clipping.")
def test_the_unclipped_norm_in_the_log_is_that_of_both() -> None:
    trainer, recorder = feature_runs.trained("bert", 16, 1)
    logged = [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry]
    norms = [torch.cat([grad.flatten() for grad in grads.values()]).norm().item() for grads in recorder.steps]
    assert logged == pytest.approx(norms, rel=1e-5)


def test_checkpointing_that_keeps_gradients_changes_nothing() -> None:
    _, plain = feature_runs.trained("bert", 16, 1)
    kind = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
    _, checkpointed = feature_runs.trained("bert", 16, 1, **kind)
    assert_same(checkpointed.steps, plain.steps)


# ---- Two processes ----


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """What two gloo processes found, with batches of 4, twice accumulated."""
    return run_in_two_processes(feature_runs, tmp_path_factory.mktemp("two") / "found.safetensors")


def below(prefix: str, everything: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in everything.items() if key.startswith(prefix)}


@pytest.mark.parametrize("name", ["bert", "resnet"])
def test_two_processes_give_the_same_gradients(name: str, two_processes: dict[str, Tensor]) -> None:
    found = [below(f"{name}/{step}/", two_processes) for step in range(3)]
    assert_same(found, feature_runs.expected(name, below(f"{name}/beside/", two_processes)))


def test_two_processes_stay_equal_also_where_only_features_count(
    two_processes: dict[str, Tensor], tmp_path: Path
) -> None:
    first, second = below("rank0/", two_processes), below("rank1/", two_processes)
    assert_identical(first, second)
    assert below("statistics/", first)  # of batch normalisation, in the average: the same, as all that is above
    first = {key: value for key, value in first.items() if not key.startswith(("average/", "statistics/"))}
    begun = feature_runs.models("bert")[0].state_dict()
    moved = [name for name in begun if not torch.equal(begun[name], first[name])]
    assert any(".layer.0." in name for name in moved)
    assert not any(".layer.1." in name for name in moved)
    assert first["hint_term.loss.scale"] != 0.5


def test_two_processes_average_the_student_as_one_does(two_processes: dict[str, Tensor], tmp_path: Path) -> None:
    alone = feature_runs.averaging(tmp_path, 8).teachers["teacher"].model.state_dict()
    for rank in range(2):
        assert_same([below(f"rank{rank}/average/", two_processes)], [alone])


# ---- Checkpoints ----


class Stop(TrainerCallback):
    """Ends a training the hard way, as a kill would."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 5:  # the last checkpoint is at 4, in the middle of the second epoch
            raise KeyboardInterrupt


def test_a_killed_run_resumes_to_the_same_bits_adapters_included(tmp_path: Path) -> None:
    whole = feature_runs.resumable(tmp_path / "whole", [])
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        feature_runs.resumable(tmp_path / "killed", [Stop()]).train()
    resumed = feature_runs.resumable(tmp_path / "killed", [])
    resumed.train(resume_from_checkpoint=True)
    assert "hint_term.adapters.1.weight" in weights(whole)
    assert "hint_term.loss.seen" in weights(whole)
    assert_identical(weights(whole), weights(resumed))


def test_the_saved_student_has_no_trace_of_them(tmp_path: Path) -> None:
    trainer = hinted(tmp_path, save_strategy="steps", save_steps=2)
    trainer.train()
    trainer.save_model()
    trainer.save_model(str(tmp_path / "elsewhere"))
    keys = trainer.model.state_dict().keys()
    for folder in (tmp_path, tmp_path / "elsewhere", tmp_path / "checkpoint-2"):
        assert safetensors.torch.load_file(folder / "model.safetensors").keys() == keys
    adapters = trainer.distillation_objective.trained.state_dict()
    assert_identical(safetensors.torch.load_file(tmp_path / "checkpoint-2" / ADAPTERS_FILE), adapters)
    # What push_to_hub leaves out: checkpoints, and files whose name starts so.
    assert [path.parent.name for path in tmp_path.rglob(f"*{ADAPTERS_FILE[1:]}")] == ["checkpoint-2"]
    assert ADAPTERS_FILE.startswith("_")
    assert (tmp_path / "training_args.bin").stat().st_size < 20_000


def test_without_anything_to_train_beside_nothing_is_saved(tmp_path: Path) -> None:
    same = FeatureTerm(FeatureMSE(), FIRST)
    trainer = hinted(tmp_path, same, teacher=tiny.bert(layers=4, seed=1), save_strategy="steps", save_steps=2)
    trainer.train()
    assert (tmp_path / "checkpoint-2" / "model.safetensors").is_file()
    assert not list(tmp_path.rglob(f"*{ADAPTERS_FILE[1:]}"))


def test_the_best_students_adapters_come_back_with_it(tmp_path: Path) -> None:
    trainer = hinted(
        tmp_path, max_steps=6, save_strategy="steps", save_steps=2, eval_strategy="steps", eval_steps=2,
        load_best_model_at_end=True, metric_for_best_model="eval_loss", greater_is_better=True, learning_rate=1e-2,
    )  # fmt: skip
    trainer.train()
    best = Path(trainer.state.best_model_checkpoint)
    assert best.name != "checkpoint-6"
    assert_identical(
        safetensors.torch.load_file(best / ADAPTERS_FILE), trainer.distillation_objective.trained.state_dict()
    )


def test_a_best_checkpoint_that_is_gone_ends_no_training(tmp_path: Path) -> None:
    class Remove(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
            if state.global_step == 2:
                shutil.rmtree(state.best_model_checkpoint)

    trainer = hinted(
        tmp_path, save_strategy="best", eval_strategy="steps", eval_steps=1, load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
    )  # fmt: skip
    trainer.add_callback(Remove())
    trainer.train()
    assert trainer.state.global_step == 2


class LayerWise(DistillationTrainer):
    """With an optimizer as people make them for ``Trainer``."""

    finishes = False

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        return super().create_optimizer(*args, **kwargs) if self.finishes else self.optimizer


def test_adapters_get_into_an_optimizer_of_ones_own_or_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "DistillationTrainer", LayerWise)
    with pytest.raises(ValueError, match=r"LayerWise has a create_optimizer of its own.* super\(\)\.create_optimizer"):
        hinted(tmp_path).train()
    monkeypatch.setattr(LayerWise, "finishes", True)
    trainer = hinted(tmp_path)
    trainer.train()
    known = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
    assert {id(parameter) for parameter in trainer.distillation_objective.trained.parameters()} <= known


def test_a_logit_that_is_infinite_does_not_spoil_the_loss_that_is_logged(tmp_path: Path) -> None:
    """A student that masks a class; 0 times infinity would be NaN."""
    student = tiny.bert(layers=2)
    student.classifier.register_forward_hook(
        lambda _, __, out: out.masked_fill(torch.tensor([0, 0, 1]).bool(), -torch.inf)
    )
    trainer = hinted(tmp_path, student=student)
    trainer.train_dataset = trainer.train_dataset.map(lambda row: {"labels": row["labels"] % 2})
    trainer.train()
    logged = trainer.state.log_history[0]
    assert logged["loss"] == pytest.approx(logged["ce"] + logged["hint"], abs=1e-4)


def test_a_checkpoint_without_adapters_is_not_resumed_with_some(tmp_path: Path) -> None:
    same = FeatureTerm(FeatureMSE(), FIRST)
    hinted(tmp_path, same, teacher=tiny.bert(layers=4, seed=1), save_strategy="steps", save_steps=2).train()
    with pytest.raises(ValueError, match="saved by a training without adapters"):
        hinted(tmp_path, max_steps=4).train(resume_from_checkpoint=True)


# ---- What learns, and what is left alone ----


def test_adapters_and_losses_learn_and_the_given_objective_does_not(tmp_path: Path) -> None:
    term = FeatureTerm(ScaledMSE(), FIRST)
    trainers = [hinted(tmp_path, term, learning_rate=1e-2, weight_decay=0.1) for _ in range(2)]
    for trainer in trainers:
        trainer.train()
    assert term.loss.scale == 0.5
    assert len(term.adapters) == 0
    assert_identical(weights(trainers[0]), weights(trainers[1]))  # the second did not begin where the first ended
    learned = trainers[0].distillation_objective.terms["hint"]
    assert learned.loss.scale != 0.5
    groups = trainers[0].optimizer.param_groups
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert decay[id(learned.adapters[0].weight)] == 0.1
    assert decay[id(learned.adapters[0].bias)] == decay[id(learned.loss.scale)] == 0.0
    assert sum(len(group["params"]) for group in groups) == len(decay)


def test_a_single_example_is_enough_to_look_at(tmp_path: Path) -> None:
    trainer = hinted(tmp_path, max_steps=1, teacher_score_examples=0)
    trainer.train_dataset = tiny.dataset(rows=1)
    trainer.train()
    assert len(trainer.distillation_objective.terms["hint"].adapters) == 1


def test_a_second_training_goes_on_with_the_same_adapters(tmp_path: Path) -> None:
    trainer = hinted(tmp_path, learning_rate=1e-2)
    trainer.train()
    adapter = trainer.distillation_objective.terms["hint"].adapters[0]
    before = adapter.weight.clone()
    trainer.train()
    assert trainer.distillation_objective.terms["hint"].adapters[0] is adapter
    assert not torch.equal(before, adapter.weight)
    held = [id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]]
    assert len(held) == len(set(held))


def test_every_trial_of_a_search_begins_with_new_adapters(tmp_path: Path) -> None:
    term = FeatureTerm(ScaledMSE(), FIRST)
    trainer = DistillationTrainer(
        args=tiny.arguments(tmp_path, max_steps=2, learning_rate=1e-2), model_init=lambda: tiny.bert(layers=2),
        train_dataset=tiny.dataset(), teacher_model=tiny.bert(layers=4, seed=1, hidden_size=24),
        objective=Objective(hint=term),
    )  # fmt: skip
    trainer.train()
    first = weights(trainer)
    trainer.train()
    assert_identical(first, weights(trainer))


def test_looking_at_shapes_does_not_touch_the_random_numbers(tmp_path: Path) -> None:
    """Dropout falls as it would without features: a term of next to no weight changes next to nothing."""
    trained = []
    for terms in ({}, {"hint": FeatureTerm(FeatureMSE(), FIRST, weight=1e-12)}):
        student = tiny.bert(layers=2, dropout=0.3)
        DistillationTrainer(
            student, tiny.arguments(tmp_path, max_steps=2, optim="sgd", learning_rate=0.1),
            train_dataset=tiny.dataset(), teacher_model=tiny.bert(layers=4, seed=1, hidden_size=24),
            objective=Objective(ce=LabelTerm(), **terms),
        ).train()  # fmt: skip
        trained.append(student.state_dict())
    for name, value in trained[0].items():
        torch.testing.assert_close(trained[1][name], value, atol=1e-7, rtol=1e-6)


def test_the_teacher_is_untouched_and_no_hook_stays(tmp_path: Path) -> None:
    student, teacher = tiny.resnet(), tiny.resnet(seed=1, width=12)
    for module in teacher.modules():
        module.__dict__.pop("train", None)  # an ordinary ResNet, whose statistics would move in training mode
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    trainer = DistillationTrainer(
        student, tiny.arguments(tmp_path, max_steps=3, learning_rate=1e-2), train_dataset=tiny.dataset("resnet"),
        teacher_model=teacher.train(), objective=Objective(hint=FeatureTerm(FeatureMSE(), Pair(STAGE, STAGE))),
    )  # fmt: skip
    trainer.train()
    assert_identical(before, teacher.state_dict())
    assert not teacher.training
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not any(module._forward_hooks for model in (student, teacher) for module in model.modules())


def test_a_weight_of_zero_asks_no_teacher(tmp_path: Path) -> None:
    teacher = tiny.bert(layers=4, seed=1, hidden_size=24)
    term = FeatureTerm(FeatureMSE(), FIRST, weight=linear(0.0, 0.0))
    trainer = hinted(tmp_path, term, teacher=teacher)
    asked: list[int] = []
    teacher.register_forward_hook(lambda *_: asked.append(1))
    trainer.train()
    assert len(asked) == 1  # for the shapes


@pytest.mark.parametrize("bf16", [True, False])
def test_adapters_run_in_the_students_precision_and_losses_in_float32(tmp_path: Path, bf16: bool) -> None:
    seen: list[torch.dtype] = []

    class Watched(nn.Linear):
        def forward(self, tokens: Tensor) -> Tensor:
            adapted = super().forward(tokens)
            seen.append(adapted.dtype)
            return adapted

    class Multiplied(FeatureMSE):
        """Of something that autocast would do in half precision."""

        def forward(self, student: Tensor, teacher: Tensor, **known: Any) -> Tensor:
            seen.append((student @ student.mT).dtype)
            return super().forward(student, teacher, **known)

    term = FeatureTerm(Multiplied(), FIRST, adapt=lambda student, teacher: Watched(student[-1], teacher[-1]))
    trainer = hinted(tmp_path, term, bf16=bf16, learning_rate=1e-2, max_steps=1)
    trainer.train()
    weight = trainer.distillation_objective.terms["hint"].adapters[0].weight
    assert seen == [torch.bfloat16 if bf16 else torch.float32, torch.float32]
    assert weight.dtype == weight.grad.dtype == torch.float32
    assert weight.grad.abs().sum() > 0


# ---- Evaluation ----


def test_evaluation_looks_inside_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = Objective(kd=LogitTerm(SoftTargetLoss(2.0)), hint=FeatureTerm(FeatureMSE(), FIRST))
    plain = Objective(kd=objective.terms["kd"])
    rows = tiny.dataset(rows=8)
    losses = []
    original, seen = hf_distill.trainer.tapped, []
    monkeypatch.setattr("hf_distill.trainer.tapped", lambda *given: seen.extend(given[1]) or original(*given))
    for one in (objective, plain):
        trainer = DistillationTrainer(
            tiny.bert(layers=2), tiny.arguments(tmp_path), objective=one,
            teacher_model=tiny.bert(layers=4, seed=1, hidden_size=24),
        )  # fmt: skip
        assert trainer.predict(rows).predictions.shape == (8, 3)
        losses.append(trainer.evaluate(rows.remove_columns("labels"))["eval_loss"])
    assert losses[0] == losses[1]
    assert seen == []


def test_features_alone_give_no_loss_to_a_set_without_labels(tmp_path: Path) -> None:
    trainer = DistillationTrainer(
        tiny.bert(layers=2), tiny.arguments(tmp_path), teacher_model=tiny.bert(layers=4, seed=1),
        objective=Objective(hint=FeatureTerm(FeatureMSE(), FIRST)),
    )  # fmt: skip
    assert "eval_loss" not in trainer.evaluate(tiny.dataset(rows=8).remove_columns("labels"))


# ---- Refused before training ----


def test_an_unknown_module_is_refused_at_construction(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match=r"'bert.encoder.layer.2'; did you mean 'bert.encoder.layer"):
        hinted(tmp_path, FeatureTerm(FeatureMSE(), Pair(LAYER.format(2), LAYER.format(1))))
    with pytest.raises(KeyError, match=r"'bert.encoder.layer.4'"):
        hinted(tmp_path, FeatureTerm(FeatureMSE(), Pair(LAYER.format(0), LAYER.format(4))))


def test_shapes_that_nothing_joins_are_refused_with_the_pair(tmp_path: Path) -> None:
    trainer = hinted(tmp_path, FeatureTerm(FeatureMSE(), Pair("bert.pooler", LAYER.format(1))))
    with pytest.raises(ValueError, match=r"bert\.pooler <- .*layer\.1: No adapter joins .*\(2, 16\).*\(2, 8, 24\)"):
        trainer.train()


@pytest.mark.parametrize(
    "teacher",
    [
        lambda: ColumnTeacher("soft"),
        lambda: EnsembleTeacher([tiny.bert(seed=1), tiny.bert(seed=2)]),
    ],
)
def test_a_teacher_without_layers_is_refused_at_construction(tmp_path: Path, teacher: Any) -> None:
    rows = tiny.dataset().map(lambda row: {"soft": [0.2, 0.3, 0.5]})
    with pytest.raises(ValueError, match=r"has answers but no layers.*Pass the teacher as a model"):
        DistillationTrainer(
            tiny.bert(), tiny.arguments(tmp_path), train_dataset=rows, teacher_model=teacher(),
            objective=Objective(hint=FeatureTerm(FeatureMSE(), Pair("bert.pooler", "bert.pooler"))),
        )  # fmt: skip


def test_scores_of_classes_in_another_order_are_refused_and_hidden_layers_are_not(tmp_path: Path) -> None:
    """The logits are reordered; what a module puts out is not."""
    names = ["bad", "fair", "good"]
    teacher = tiny.bert(seed=1, id2label=dict(enumerate(reversed(names))))
    student = tiny.bert(layers=2, id2label=dict(enumerate(names)))
    head, hidden = (FeatureTerm(FeatureMSE(), Pair(path, path)) for path in ("classifier", "bert.pooler"))
    with pytest.raises(ValueError, match=r"3 classes in another order .*\['classifier'\].*LogitTerm"):
        hinted(tmp_path, head, teacher, copy.deepcopy(student)).train()
    hinted(tmp_path, hidden, teacher, copy.deepcopy(student)).train()
    teacher.config.id2label = dict(enumerate(names))
    hinted(tmp_path, head, teacher, copy.deepcopy(student)).train()


@pytest.mark.parametrize("through_args", [True, False])
def test_reentrant_checkpointing_is_refused(tmp_path: Path, through_args: bool) -> None:
    kind = {"use_reentrant": True}
    student = tiny.bert(layers=2)
    changes: dict[str, Any] = {}
    if through_args:
        changes = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": kind}
    else:
        student.gradient_checkpointing_enable(kind)
    with pytest.raises(ValueError, match="Reentrant activation checkpointing"):
        hinted(tmp_path, student=student, **changes).train()


def test_a_frozen_layer_is_refused(tmp_path: Path) -> None:
    student = tiny.bert(layers=2)
    student.bert.embeddings.requires_grad_(False)
    student.bert.encoder.layer[0].requires_grad_(False)
    with pytest.raises(ValueError, match="No gradient reaches the student"):
        hinted(tmp_path, student=student).train()


@pytest.mark.parametrize("setting", ["is_fsdp_enabled", "is_deepspeed_enabled"])
def test_adapters_are_refused_where_weights_are_spread(tmp_path: Path, setting: str) -> None:
    refused = [FeatureTerm(FeatureMSE(), FIRST), FeatureTerm(ScaledMSE(), FIRST, adapt=False)]
    for term in refused:
        trainer = hinted(tmp_path, term)
        setattr(trainer, setting, True)
        with pytest.raises(ValueError, match="FSDP or DeepSpeed"):
            trainer.check_layers()
    trainer = hinted(tmp_path, FeatureTerm(FeatureMSE(), FIRST, adapt=False))
    setattr(trainer, setting, True)
    trainer.check_layers()


def test_tokens_of_another_tokenizer_are_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = hinted(tmp_path)
    monkeypatch.setattr(trainer.teachers["teacher"], "own_tokens", True)
    with pytest.raises(ValueError, match="reads tokens of its own"):
        trainer._check_tokens(trainer.first_look())
    assert isinstance(trainer.teachers["teacher"], ModelTeacher)


@pytest.mark.parametrize("adapt", [True, False])
def test_they_are_not_compared_without_an_adapter_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adapt: bool
) -> None:
    teacher = tiny.bert(layers=4, seed=1)
    trainer = hinted(tmp_path, FeatureTerm(FeatureMSE(), FIRST, adapt=adapt), teacher=teacher)
    looked = trainer.look

    def read_alone(*args: Any, **known: Any) -> Any:
        monkeypatch.setattr(trainer.teachers["teacher"], "own_tokens", True)
        return looked(*args, **known)

    monkeypatch.setattr(trainer, "look", read_alone)
    with pytest.raises(ValueError, match="reads tokens of its own"):
        trainer.train()


def test_a_scheduler_that_does_not_know_the_adapters_is_refused(tmp_path: Path) -> None:
    student = tiny.bert(layers=2)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    given = (optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0))
    trainer = DistillationTrainer(
        student,
        tiny.arguments(tmp_path, max_steps=2),
        train_dataset=tiny.dataset(),
        teacher_model=tiny.bert(layers=4, seed=1, hidden_size=24),
        objective=Objective(hint=FeatureTerm(FeatureMSE(), FIRST)),
        optimizers=given,
    )
    with pytest.raises(ValueError, match=r"optimizers=\(optimizer, None\)"):
        trainer.train()


# ---- The term ----


@pytest.mark.parametrize(
    ("loss", "adapt", "made"),
    [
        (HintLoss(), None, nn.Linear),
        (SimilarityPreservingLoss(), None, nn.Identity),
        (SimilarityPreservingLoss(), True, nn.Linear),
        (FeatureMSE(), None, nn.Linear),
    ],
)
def test_only_losses_that_need_one_shape_get_adapters_by_themselves(
    tmp_path: Path, loss: Any, adapt: bool | None, made: type[nn.Module]
) -> None:
    trainer = hinted(tmp_path, FeatureTerm(loss, FIRST, adapt=adapt))
    trainer.train()
    [adapter] = trainer.distillation_objective.terms["hint"].adapters
    assert type(adapter) is made
    assert ("adapt=" in repr(trainer.distillation_objective.terms["hint"])) is (adapt is not None)


def test_the_description_has_everything() -> None:
    term = FeatureTerm(FeatureMSE(), Pair("a", "b"), Pair("c", "d"), weight=2.0, teacher="t", adapt=False)
    assert repr(term) == "FeatureTerm(FeatureMSE(), a <- b, c <- d, weight=2.0, teacher='t', adapt=False)"
    assert repr(FeatureTerm(FeatureMSE(), Pair("a", "b"))) == "FeatureTerm(FeatureMSE(), a <- b, weight=1.0)"
    made = FeatureTerm(FeatureMSE(), Pair("a", "b"), adapt=partial(make_adapter, batch_norm=False))
    assert repr(made).endswith("adapt=make_adapter(batch_norm=False))")


def test_a_term_needs_pairs() -> None:
    for wrong in ((), ("bert.pooler",)):
        with pytest.raises(ValueError, match="FeatureTerm needs pairs"):
            FeatureTerm(FeatureMSE(), *wrong)
