"""The bottleneck: nats and gradients against PyTorch's own, where there is noise and where none, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bottleneck_runs
import pytest
import safetensors.torch
import tiny
import torch
from bottleneck_runs import POOLER, WIDTH
from feature_runs import FeatureMSE, weights
from test_feature_training import Stop, assert_identical, assert_same
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from two_processes import run as run_in_two_processes

from hf_distill import (
    BottleneckTerm,
    DistillationTrainer,
    FeatureTerm,
    LabelTerm,
    ModelView,
    Objective,
    Pair,
    StepView,
    linear,
)
from hf_distill.adapting import ADAPTERS_FILE
from hf_distill.bottleneck_term import BottleneckLoss


def trainer(tmp_path: Path, vib: BottleneckTerm | None, student: Any = None, **settings: Any) -> DistillationTrainer:
    data = settings.pop("data", "bert")
    terms = {} if vib is None else {"vib": vib}
    return DistillationTrainer(
        tiny.bert(dropout=0.2) if student is None else student,
        tiny.arguments(tmp_path, **{"max_steps": 3, "learning_rate": 1e-2, **settings}),
        train_dataset=tiny.dataset(data),
        eval_dataset=tiny.dataset(data, seed=1),
        objective=Objective(ce=LabelTerm(), **terms),
    )


def count_draws(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """The shapes of all noise from now on."""
    shapes: list[torch.Size] = []
    draw = torch.randn_like
    monkeypatch.setattr(torch, "randn_like", lambda given: shapes.append(given.shape) or draw(given))
    return shapes


# ---- Values ----


def test_nats_are_those_of_torch_distributions() -> None:
    torch.manual_seed(0)
    loss = BottleneckLoss(width=5, deviation=0.3)
    mean = torch.randn(7, 5)
    for _ in range(2):  # as it begins, and with some weights
        deviation = loss.deviation(mean)
        expected = kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).sum(dim=-1)
        torch.testing.assert_close(loss(mean), expected)
        torch.testing.assert_close(loss(mean[:, :, None, None]), expected)
        torch.nn.init.normal_(loss.spread.weight)


@pytest.mark.parametrize("start", [1e-3, 0.5, 30.0])
def test_noise_has_the_deviation_that_it_is_said_to_have(start: float) -> None:
    torch.manual_seed(0)
    loss = BottleneckLoss(width=4, deviation=start)
    mean = torch.randn(20_000, 4)
    torch.testing.assert_close(loss.deviation(mean), torch.full((20_000, 4), start), rtol=2e-3, atol=0)
    noise = loss.noisy(mean) - mean
    assert noise.std().item() == pytest.approx(start, rel=0.02)
    assert abs(noise.mean().item()) < 0.02 * start


def test_precision_is_the_students_outside_and_float32_inside() -> None:
    loss = BottleneckLoss(width=4, deviation=0.5)
    mean = torch.ones(2, 4, 1, 1, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss.deviation(mean).dtype == loss(mean).dtype == torch.float32
        assert loss.noisy(mean).dtype == torch.bfloat16
        assert loss.noisy(mean).shape == mean.shape


def test_deviations_far_below_nothing_stay_finite() -> None:
    loss = BottleneckLoss(width=1, deviation=1.0)
    torch.nn.init.constant_(loss.spread.bias, -1e4)
    assert loss(torch.zeros(1, 1)).item() == pytest.approx(6 * 2.302585 - 0.5, rel=1e-4)


# ---- Gradients ----


@pytest.mark.parametrize(("batch", "accumulation"), [(16, 1), (4, 4)])
def test_gradients_equal_those_of_the_whole_batch(
    batch: int, accumulation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a teacher that has a module at the same path, and is shown no noise."""
    draws = torch.randn(bottleneck_runs.ROWS, WIDTH, generator=torch.Generator().manual_seed(1))
    rows = iter(draws)
    monkeypatch.setattr(torch, "randn_like", lambda given: torch.stack([next(rows) for _ in given]))
    setting = bottleneck_runs.trained(batch, accumulation)
    assert next(rows, None) is None
    assert_same(setting.steps, bottleneck_runs.expected(draws))


@pytest.mark.slow
def test_two_processes_give_the_same_gradients(tmp_path: Path) -> None:
    stored = run_in_two_processes(bottleneck_runs, tmp_path / "found.safetensors")
    found = [{key[2:]: grad for key, grad in stored.items() if key.startswith(f"{step}/")} for step in range(3)]
    assert_same(found, bottleneck_runs.expected(torch.zeros(bottleneck_runs.ROWS, WIDTH)))


def test_alone_it_forgets_everything(tmp_path: Path) -> None:
    """Nothing is cheaper than a mean of 0 and a deviation of 1."""
    student = tiny.bert()
    trained = DistillationTrainer(
        student, tiny.arguments(tmp_path, max_steps=20, learning_rate=5e-2, per_device_train_batch_size=36),
        train_dataset=tiny.dataset(), objective=Objective(vib=BottleneckTerm(POOLER, weight=1.0, deviation=0.1)),
    )  # fmt: skip
    trained.train()
    nats = [entry["vib"] for entry in trained.state.log_history if "vib" in entry]
    assert nats[-1] < 0.2 * nats[0]


# ---- Where there is noise ----


def test_a_weight_of_zero_is_a_training_without_it_bit_for_bit(tmp_path: Path) -> None:
    found = []
    for vib in (None, BottleneckTerm(POOLER, 0.0), BottleneckTerm(POOLER, 1e-9)):
        trained = trainer(tmp_path, vib, max_grad_norm=1.0)
        trained.train()
        found.append({name: value.clone() for name, value in trained.model.state_dict().items()})
    assert_identical(found[0], found[1])
    assert not torch.equal(found[0]["classifier.weight"], found[2]["classifier.weight"])


def test_noise_begins_where_a_scheduled_weight_leaves_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = count_draws(monkeypatch)
    trained = trainer(tmp_path, BottleneckTerm(POOLER, linear(0.0, 0.3)))
    trained.train()
    assert shapes == [(8, WIDTH)] * 2  # of three steps
    logged = [entry["vib"] for entry in trained.state.log_history if "vib" in entry]
    assert logged[0] == 0.0 < logged[1]


def test_evaluation_is_without_noise_and_that_of_the_saved_student(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = trainer(tmp_path, BottleneckTerm(POOLER, 0.1))
    trained.train()
    trained.save_model()
    assert safetensors.torch.load_file(tmp_path / "model.safetensors").keys() == tiny.bert().state_dict().keys()
    monkeypatch.setattr(torch, "randn_like", None)
    trained.first_look()
    found = trained.predict(trained.eval_dataset).predictions
    loaded = tiny.bert().from_pretrained(tmp_path)
    fresh = DistillationTrainer(loaded, tiny.arguments(tmp_path / "fresh"), eval_dataset=trained.eval_dataset)
    assert (found == fresh.predict(trained.eval_dataset).predictions).all()
    assert trained.evaluate()["eval_loss"] == fresh.evaluate()["eval_loss"]


def test_another_term_at_the_same_module_sees_no_noise(tmp_path: Path) -> None:
    """The same module of the same model as its own teacher's: without dropout the two do not differ at the start."""
    hint = FeatureTerm(FeatureMSE(), Pair(POOLER, POOLER))
    trained = DistillationTrainer(
        tiny.bert(), tiny.arguments(tmp_path, max_steps=1), train_dataset=tiny.dataset(), teacher_model=tiny.bert(),
        objective=Objective(ce=LabelTerm(), hint=hint, vib=BottleneckTerm(POOLER)),
    )  # fmt: skip
    trained.train()
    assert trained.state.log_history[0]["hint"] < 1e-10


def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole = bottleneck_runs.resumable(tmp_path / "whole", [])
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        bottleneck_runs.resumable(tmp_path / "killed", [Stop()]).train()
    saved = safetensors.torch.load_file(tmp_path / "killed" / "checkpoint-4" / ADAPTERS_FILE)
    assert saved["vib_term.loss.spread.weight"].abs().max() > 0
    resumed = bottleneck_runs.resumable(tmp_path / "killed", [])
    resumed.train(resume_from_checkpoint=True)
    assert_identical(weights(whole), weights(resumed))


@pytest.mark.parametrize(
    ("name", "path", "width"),
    [("vgg", "vgg.pooler", 8), ("resnet", "resnet.pooler", 8), ("distilbert", "pre_classifier", 16)],
)
def test_the_modules_in_front_of_other_heads(
    name: str, path: str, width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = count_draws(monkeypatch)
    trained = trainer(tmp_path, BottleneckTerm(path, 0.1), tiny.MODELS[name](), data=name, max_steps=1, bf16=True)
    trained.train()
    assert shapes == [(8, width)]
    assert trained.distillation_objective.terms["vib"].loss.spread.weight.abs().max() > 0


# ---- What is refused ----


def test_tokens_and_maps_are_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'bert.encoder.layer.0' puts out \(2, 8, 16\), and .*one vector an example"):
        trainer(tmp_path, BottleneckTerm("bert.encoder.layer.0")).train()
    with pytest.raises(ValueError, match=r"\(2, 8, 4, 4\), and .*such as a pooler"):
        trainer(tmp_path, BottleneckTerm("vgg.blocks.1"), tiny.vgg(), data="vgg").train()


def test_a_path_that_does_not_exist_is_refused_at_construction(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match=r"no module 'bert.poler'; did you mean 'bert.pooler'"):
        trainer(tmp_path, BottleneckTerm("bert.poler"))


def test_wrong_arguments_are_refused() -> None:
    for deviation in (0.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="deviation, the noise at the start, must be a finite number > 0, got"):
            BottleneckTerm(POOLER, deviation=deviation)


def test_two_at_one_module_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Two terms change what \['bert.pooler'\] put out"):
        Objective(one=BottleneckTerm(POOLER), two=BottleneckTerm(POOLER), other=BottleneckTerm("classifier"))


def test_without_a_trainer_the_first_batch_makes_the_loss() -> None:
    term = BottleneckTerm(POOLER, 0.1)
    features: dict[str, Tensor] = {POOLER: torch.ones(2, 3)}
    assert term.transforms()[POOLER](features[POOLER]) is features[POOLER]
    term.compute(StepView(ModelView(torch.zeros(2, 2), features)))
    assert not torch.equal(term.transforms()[POOLER](features[POOLER]), features[POOLER])


def test_it_reads_as_it_was_made() -> None:
    assert repr(BottleneckTerm(POOLER, linear(0.0, 0.1))) == (
        "BottleneckTerm('bert.pooler', weight=linear(0.0, 0.1), deviation=0.5)"
    )
