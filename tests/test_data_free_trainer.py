"""Training without data: gradients, processes, checkpoints, and what is refused before it begins."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import data_free_runs
import image_models
import numpy as np
import pytest
import tiny
import torch
from data_free_runs import LATENT, Linear, everything, generator, learned, trainer, weights
from feature_runs import assert_identical, assert_same
from torch import Tensor, nn
from transformers import TrainerCallback
from two_processes import run as run_in_two_processes

from hf_distill import (
    DistillationTrainer,
    EnsembleTeacher,
    FeatureTerm,
    GeneratorLoss,
    ImageTeacher,
    LabelTerm,
    LogitTerm,
    MovingAverageTeacher,
    Noise,
    Objective,
    Pair,
    Tasks,
    cache_teacher,
    with_tasks,
)
from hf_distill.adapting import ADAPTERS_FILE
from hf_distill.losses import HintLoss, SoftTargetLoss

# ---- Gradients ----


@pytest.mark.parametrize(("batch", "accumulation"), [(8, 1), (2, 4)])
def test_gradients_of_both_and_logs_are_those_of_the_formulas(batch: int, accumulation: int) -> None:
    steps, logs = data_free_runs.gradients(batch, accumulation)
    expected_steps, expected_logs = data_free_runs.expected()
    assert_same(steps, expected_steps, rtol=1e-4)
    for logged, expected in zip(logs, expected_logs, strict=True):
        assert {name: logged[name] for name in expected} == pytest.approx(
            {name: value.item() for name, value in expected.items()}, abs=1e-5
        )


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """What two gloo processes found, with batches of 2, twice accumulated."""
    return run_in_two_processes(data_free_runs, tmp_path_factory.mktemp("two") / "found.safetensors")


def below(prefix: str, everything: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in everything.items() if key.startswith(prefix)}


def test_two_processes_give_the_same_gradients(two_processes: dict[str, Tensor]) -> None:
    assert_same([below(f"{step}/", two_processes) for step in range(3)], data_free_runs.expected()[0], rtol=1e-4)


def test_two_processes_stay_equal(two_processes: dict[str, Tensor]) -> None:
    assert_identical(below("rank0/", two_processes), below("rank1/", two_processes))


# ---- What learns ----


def test_student_and_generator_learn_and_the_teacher_stays(tmp_path: Path) -> None:
    teacher = tiny.vgg(seed=1, batch_norm=True)
    before = copy.deepcopy(teacher.state_dict())
    given = generator()
    made = learned(tmp_path, teacher_model=teacher, generator=given)
    assert_identical(dict(teacher.state_dict()), dict(before))
    assert not any(module._forward_pre_hooks for module in teacher.modules())
    begun = {**tiny.vgg(batch_norm=True).state_dict(), **generator().state_dict()}
    # A convolution in front of a batch normalisation gets no gradient through its bias.
    moved = {name for name, value in weights(made).items() if not torch.equal(value, begun[name])}
    assert {name for name in begun if name.endswith("weight")} <= moved
    assert_identical(given.state_dict(), generator().state_dict()), "it was copied"


def test_only_images_that_please_the_teacher_remain(tmp_path: Path) -> None:
    loss = GeneratorLoss(information=0.0, activation=0.0)
    made = trainer(
        tmp_path, generator_loss=loss, generator_learning_rate=0.1, learning_rate=0.0, max_steps=20,
        lr_scheduler_type="constant", generator=Linear(),
    )  # fmt: skip
    made.train()
    logged = [entry["generator_one_hot"] for entry in made.state.log_history if "loss" in entry]
    assert np.mean(logged[-3:]) < 0.3 * np.mean(logged[:3])


def test_the_generator_has_a_rate_of_its_own_also_beside_adapters(tmp_path: Path) -> None:
    hint = FeatureTerm(HintLoss(), Pair("vgg.blocks.0", "vgg.blocks.0"))
    made = trainer(
        tmp_path, teacher_model=tiny.vgg(seed=1, hidden_sizes=[6, 8]), objective=Objective(hint=hint),
        generator_learning_rate=0.5, learning_rate=0.1, lr_scheduler_type="linear", max_steps=4, weight_decay=0.01,
    )  # fmt: skip
    made.train()
    rates = {id(p): group["initial_lr"] for group in made.optimizer.param_groups for p in group["params"]}
    assert {rates[id(p)] for p in made.generator.parameters()} == {0.5}
    [adapter] = made.distillation_objective.terms["hint"].adapters
    assert {rates[id(p)] for p in [*made.model.parameters(), *adapter.parameters()]} == {0.1}
    decays = {id(p): group["weight_decay"] for group in made.optimizer.param_groups for p in group["params"]}
    assert {decays[id(p)] for p in made.generator.parameters() if p.dim() > 1} == {0.01}
    assert {decays[id(p)] for p in made.generator.parameters() if p.dim() <= 1} == {0.0}
    assert all("hint" in entry for entry in made.state.log_history if "loss" in entry)


def test_the_student_does_not_learn_to_disagree(tmp_path: Path) -> None:
    """Its gradient is the same with and without the term by which the generator seeks disagreement."""
    found = []
    for weight in (0.0, 5.0):
        recorder = data_free_runs.Recorder()
        recorder.trainer = trainer(
            tmp_path, [recorder], model=tiny.vgg(batch_norm=True), generator=Linear(), max_steps=1,
            generator_loss=GeneratorLoss(adversarial=weight),
        )  # fmt: skip
        recorder.trainer.train()
        [step] = recorder.steps
        found.append(step | dict(recorder.trainer.model.named_buffers()))
    plain, rival = found
    assert not torch.equal(plain.pop("layer.weight"), rival.pop("layer.weight"))
    del plain["layer.bias"], rival["layer.bias"]
    assert_identical(plain, rival)


def test_classes_in_another_order_are_put_right(tmp_path: Path) -> None:
    """A student that is its teacher with renamed classes has nothing to learn, and nothing to disagree about."""
    teacher, student = tiny.vgg(seed=1), tiny.vgg(seed=1)
    names = ["cat", "dog", "cow"]
    for model, order in ((teacher, [0, 1, 2]), (student, [2, 0, 1])):
        model.config.id2label = {place: names[index] for place, index in enumerate(order)}
        model.config.label2id = {names[index]: place for place, index in enumerate(order)}
    head = student.classifier[-1]
    head.weight.data, head.bias.data = head.weight.data[[2, 0, 1]], head.bias.data[[2, 0, 1]]
    loss = GeneratorLoss(adversarial=1.0)
    made = trainer(tmp_path, model=student, teacher_model=teacher, generator_loss=loss, max_steps=1)
    made.train()
    logged = made.state.log_history[0]
    assert logged["kd"] == pytest.approx(0.0, abs=1e-5)
    assert logged["generator_adversarial"] == pytest.approx(0.0, abs=1e-5)


def test_a_teacher_of_another_size_judges_what_its_processor_would_show(tmp_path: Path) -> None:
    student, processor = tiny.vgg(), image_models.processor("vit", 8)
    model = image_models.model("vit", 16, seed=1)
    teacher = ImageTeacher(model, processor, image_models.processor("vit", 16))
    made = trainer(tmp_path, model=student, teacher_model=teacher, processing_class=processor, max_steps=2)
    made.train()
    begun = generator().state_dict()
    assert not torch.equal(made.generator.state_dict()["begin.weight"], begun["begin.weight"])


# ---- Checkpoints ----


class Stop(TrainerCallback):
    """Ends a training the hard way, as a kill would."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 5:  # the last checkpoint is at 4, in the middle of the second epoch
            raise KeyboardInterrupt


def test_a_killed_run_resumes_to_the_same_bits_generator_included(tmp_path: Path) -> None:
    often = {"max_steps": 8, "save_strategy": "steps", "save_steps": 2, "train_sampling_strategy": "random"}
    whole = learned(tmp_path / "whole", **often)
    with pytest.raises(KeyboardInterrupt):
        learned(tmp_path / "killed", callbacks=[Stop()], **often)
    resumed = everything(tmp_path / "killed", **often)
    resumed.train(resume_from_checkpoint=True)
    assert_identical(weights(resumed), weights(whole))
    assert resumed.generated_grid(8).tobytes() == whole.generated_grid(8).tobytes()
    assert (tmp_path / "whole" / "checkpoint-8" / ADAPTERS_FILE).is_file()


def test_the_generator_is_not_saved_with_the_student_but_named(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    made.train()
    made.save_model()
    assert not (tmp_path / ADAPTERS_FILE).exists()
    assert type(made.model).from_pretrained(tmp_path).state_dict().keys() == tiny.vgg().state_dict().keys()
    told = json.loads((tmp_path / "objective.json").read_text())
    assert told["terms"] == {"kd": "LogitTerm(SoftTargetLoss(temperature=2.0), weight=1.0)"}
    assert told["generators"] == {"network": repr(generator()), "loss": repr(GeneratorLoss())}


# ---- Evaluation, and what is left out ----


def test_evaluation_is_that_of_a_plain_trainer_on_real_images(tmp_path: Path) -> None:
    rows = tiny.dataset("vgg", rows=12)
    made = trainer(tmp_path, eval_dataset=rows, eval_strategy="epoch", max_steps=3)
    made.train()
    plain = DistillationTrainer(made.model, tiny.arguments(tmp_path), eval_dataset=rows)
    assert made.evaluate()["eval_loss"] == pytest.approx(plain.evaluate()["eval_loss"])
    assert len([entry for entry in made.state.log_history if "eval_loss" in entry]) == 2


def test_a_collator_of_images_never_sees_latent_vectors(tmp_path: Path) -> None:
    def images_only(rows: list[Any]) -> dict[str, Any]:
        return {"pixel_values": torch.stack([torch.as_tensor(row["pixel_values"]) for row in rows])}

    made = data_free_runs.DataFreeTrainer(
        tiny.vgg(), tiny.arguments(tmp_path, max_steps=1), images_only, eval_dataset=tiny.dataset("vgg", rows=4),
        teacher_model=tiny.vgg(seed=1), generator=generator(),
    )  # fmt: skip
    made.train()
    assert np.isfinite(made.evaluate()["eval_loss"])


def test_without_rows_there_are_ten_thousand_of_the_seed(tmp_path: Path) -> None:
    rows = trainer(tmp_path, train_dataset=None, seed=7).train_dataset
    assert rows.describe() == Noise((LATENT,), 10_000, seed=7).describe()


def test_nobody_scores_a_teacher_on_noise_and_nobody_misses_labels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = trainer(tmp_path, teacher_score_examples=512, max_steps=1)
    assert made.score_teachers() == {}
    made.train()
    assert "labels" not in caplog.text


def test_the_labels_share_counts_for_nothing(tmp_path: Path) -> None:
    for weight in (0.5, 1.0):
        made = trainer(tmp_path, distillation_weight=weight)
        assert made.distillation_objective.describe() == {
            "kd": "LogitTerm(SoftTargetLoss(temperature=2.0), weight=1.0)"
        }


def test_generated_images_can_be_looked_at(tmp_path: Path) -> None:
    processor = image_models.processor("vit", 8)
    given = Linear()
    made = trainer(tmp_path, generator=given, processing_class=processor)
    picture = made.generated_grid(count=5, columns=3, scale=1)
    assert (picture.size, picture.mode) == ((28, 19), "RGB")
    latents = made.train_dataset[4]["latents"][None]
    mean, std = torch.tensor(processor.image_mean), torch.tensor(processor.image_std)
    image = given(latents)[0] * std[:, None, None] + mean[:, None, None]
    expected = (image.clamp(0, 1) * 255).round().permute(1, 2, 0).detach().numpy()
    found = np.asarray(picture)[10:18, 10:18]
    assert np.array_equal(found, expected), "the fifth of five, below the second"
    assert (np.asarray(picture)[9] == 255).all()
    enlarged = np.asarray(made.generated_grid(count=5, columns=3, scale=2))[18:34:2, 18:34:2]
    assert np.array_equal(enlarged, found)
    unknown = np.asarray(trainer(tmp_path, generator=given).generated_grid(1, 1, scale=1))[1:-1, 1:-1]
    assert (unknown.min(), unknown.max()) == (0, 255), "from the darkest to the lightest"


def test_its_card_says_that_there_was_no_data(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    made.create_model_card()
    card = (Path(made.args.output_dir) / "README.md").read_text(encoding="utf-8")
    assert "with hf-distill on generated images alone." in card
    assert f"| generator | {made.generator!r} |" in card
    assert "GeneratorLoss: The first three are of Chen et al. 2019 (DAFL)" in card


# ---- What is refused ----


class Silent(nn.Module):
    """A generator that does not say what it reads."""


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"train_dataset": tiny.dataset("vgg")}, TypeError, "a Dataset, but a generator makes .*eval_dataset"),
        ({"train_dataset": Noise((4,), 8)}, ValueError, r"of 5 numbers, .* shape \(4,\): Noise\(\(5,\), rows"),
        ({"train_dataset": Noise((5,), 8, "pixel_values")}, ValueError, "has pixel_values of shape"),
        ({"generator": Silent()}, ValueError, "a Silent, does not say .* attribute latent_size"),
        ({"distillation_weight": 0.7}, ValueError, "0.7 would leave 0.3 to labels, and without data there are none"),
        ({"objective": Objective(ce=LabelTerm())}, ValueError, "follows no teacher.*add a LogitTerm"),
        (
            {"objective": Objective(generator_one_hot=LogitTerm(SoftTargetLoss()))},
            ValueError,
            r"\['generator_one_hot'\] would be taken for parts of the generator's loss",
        ),
        ({"teacher_model": MovingAverageTeacher()}, ValueError, "one teacher that is a live image model"),
        ({"model": with_tasks(tiny.vgg(), Tasks({"a": ["x", "y"], "b": ["z", "w"]}))}, ValueError, "has .'a', 'b'.:"),
        ({"teacher_model": None}, ValueError, "one teacher that is a live image model, got None"),
        (
            {"teacher_model": EnsembleTeacher([tiny.vgg(seed=1), tiny.vgg(seed=2)])},
            ValueError,
            r"got \['.*\(EnsembleTeacher\)'\]: pass teacher_model=MODEL",
        ),
        ({"teacher_model": tiny.bert()}, ValueError, r"got \['BertForSequenceClassification \(ModelTeacher\)'\]"),
        ({"model": tiny.bert()}, ValueError, "a BertForSequenceClassification, reads no images"),
        (
            {"generator": generator(channels=1)},
            ValueError,
            r"student cannot read images of 8 x 8 pixels and 1 channel: .*num_channels 3.*ImageGenerator\(channels=",
        ),
        (
            {"teacher_model": tiny.vgg(seed=1, num_channels=1)},
            ValueError,
            r"Teacher .* cannot read images of 8 x 8 pixels and 3 channels: .*ImageGenerator\(channels=",
        ),
        ({"generator_loss": GeneratorLoss(batch_norm=1.0)}, ValueError, "no batch normalisation .*batch_norm=0.0"),
        (
            {"model": tiny.vgg(labels=1), "teacher_model": tiny.vgg(labels=1, seed=1)},
            ValueError,
            "this is a regression with 1 labels",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_a_cure(
    given: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        trainer(tmp_path, **given)


def test_a_search_over_a_share_of_labels_is_refused(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    made.args.distillation_weight = 0.3
    with pytest.raises(ValueError, match=r"0\.3 would leave 0\.7 to labels"):
        made.train()


def test_evaluating_on_noise_stays_an_evaluation(tmp_path: Path) -> None:
    made = trainer(tmp_path, generator_loss=GeneratorLoss(adversarial=0.5))
    made.evaluate(Noise((5,), 24))
    assert not made.model.training


def test_noise_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="so no answer would be used twice"):
        cache_teacher(Noise((3, 8, 8), 6, "pixel_values"), tiny.vgg(seed=1), tmp_path)


def test_sharded_training_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainer(tmp_path)
    monkeypatch.setattr(made, "is_fsdp_enabled", True)
    with pytest.raises(ValueError, match="generators cannot be trained under FSDP"):
        made.check_layers()
