"""Kept answers teach exactly as the live teacher does, however the rows come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cached_runs
import pytest
import tiny
import torch
from cached_runs import everything, kept, large, mixed, pad, ragged, trained
from datasets import Dataset
from torch import Tensor
from two_processes import run as run_in_two_processes

from hf_distill import (
    CachedTeacher,
    ColumnTeacher,
    DistillationTrainer,
    EnsembleTeacher,
    FeatureTerm,
    LabelTerm,
    LogitTerm,
    Objective,
    Pair,
    cache_teacher,
    with_soft_labels,
)
from hf_distill.losses import HintLoss, SoftTargetLoss


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-6) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=tolerance, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    return trained(large(), tmp_path_factory.mktemp("live"))


def test_a_mixed_filtered_shuffled_set_gives_the_same_student(tmp_path: Path, live: dict[str, Tensor]) -> None:
    assert_same(trained(kept(tmp_path / "cache"), tmp_path / "out"), live)


def test_it_is_the_answers_that_teach(tmp_path: Path, live: dict[str, Tensor]) -> None:
    cache_teacher(everything(), tiny.bert(layers=2, seed=2, hidden_size=24), tmp_path / "c", data_collator=pad)
    other = trained(CachedTeacher(tmp_path / "c"), tmp_path / "out")
    assert (other["logged"] - live["logged"]).abs().max() > 1e-2


def test_data_workers_find_them_too(tmp_path: Path, live: dict[str, Tensor]) -> None:
    assert_same(trained(kept(tmp_path / "cache"), tmp_path / "out", dataloader_num_workers=2), live)


def test_half_precision_is_close(tmp_path: Path, live: dict[str, Tensor]) -> None:
    found = trained(kept(tmp_path / "cache", dtype=torch.float16), tmp_path / "out")
    torch.testing.assert_close(found["logged"], live["logged"], atol=5e-3, rtol=0)


def test_two_processes_share_the_asking_and_learn_the_same(tmp_path: Path) -> None:
    found = run_in_two_processes(cached_runs, tmp_path / "found.safetensors")
    cached, live = (
        {key.removeprefix(kind): value for key, value in found.items() if key.startswith(kind)}
        for kind in ("cached/", "live/")
    )
    assert len(cached) > 10
    assert_same(cached, live)
    assert int(found["files"]) == 2
    assert int(found["answers"]) == 60


class NotAsked(CachedTeacher):
    """Fails where it is asked about a batch with labels."""

    def __call__(self, inputs: Any) -> Any:
        pytest.fail("asked")


def test_evaluation_sets_need_no_answers(tmp_path: Path) -> None:
    trainer = DistillationTrainer(
        tiny.bert(),
        tiny.arguments(tmp_path / "out"),
        pad,
        ragged(),
        {"labelled": ragged(seed=9), "unlabelled": ragged(seed=9).remove_columns("labels")},
        teacher_model=kept(tmp_path / "cache"),
    )
    metrics = trainer.evaluate()
    assert "eval_labelled_loss" in metrics
    assert "eval_unlabelled_loss" not in metrics, "nobody knows the answers"


def test_an_unlabelled_set_with_answers_has_a_loss(tmp_path: Path) -> None:
    rows = ragged().remove_columns("labels")
    losses = [
        DistillationTrainer(
            tiny.bert(), tiny.arguments(tmp_path / "out"), pad, ragged(), rows, teacher_model=teacher
        ).evaluate()["eval_loss"]
        for teacher in (kept(tmp_path / "cache"), large())
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_an_example_without_an_answer_is_found_before_training(tmp_path: Path) -> None:
    teacher = kept(tmp_path / "cache")
    changed = ragged().map(lambda row, i: {"input_ids": [7, *row["input_ids"][1:]] if i < 4 else row["input_ids"]},
                           with_indices=True)  # fmt: skip
    with pytest.raises(
        ValueError, match=r"[34] of 30 examples of the data set have no answer of .*adds what is missing"
    ):
        DistillationTrainer(tiny.bert(), tiny.arguments(tmp_path / "out"), pad, changed, teacher_model=teacher)
    with pytest.raises(KeyError, match=r"reads the columns \['token_type_ids'\]"):
        DistillationTrainer(
            tiny.bert(), tiny.arguments(tmp_path / "out"), pad, ragged().remove_columns("token_type_ids"),
            teacher_model=teacher,
        )  # fmt: skip


def test_a_teacher_that_means_other_words_is_refused(tmp_path: Path) -> None:
    teacher = kept(tmp_path / "cache")
    with pytest.raises(ValueError, match=r"knows 40 tokens and the student 50, .*text_columns="):
        DistillationTrainer(
            tiny.bert(vocab_size=50), tiny.arguments(tmp_path / "out"), pad, ragged(), teacher_model=teacher
        )


def test_an_example_that_is_made_later_is_found_when_it_comes(tmp_path: Path) -> None:
    teacher, rows = kept(tmp_path / "cache"), [dict(row) for row in ragged(rows=24)]
    trainer = DistillationTrainer(tiny.bert(), tiny.arguments(tmp_path / "out"), pad, rows, teacher_model=teacher)
    rows[20]["input_ids"][0] += 1
    with pytest.raises(KeyError, match="an example of this batch is not in"):
        trainer.train()


def test_kept_features_teach_as_live_ones(tmp_path: Path) -> None:
    layer = "bert.encoder.layer.1"

    def run(teacher: Any, name: str) -> dict[str, Tensor]:
        objective = Objective(
            ce=LabelTerm(0.5),
            hint=FeatureTerm(HintLoss(), Pair("bert.encoder.layer.0", layer)),
            pooled=FeatureTerm(HintLoss(), Pair("bert.pooler", "bert.pooler")),
        )
        args = tiny.arguments(tmp_path / name, num_train_epochs=1, optim="sgd", learning_rate=0.1)
        trainer = DistillationTrainer(tiny.bert(), args, pad, ragged(), teacher_model=teacher, objective=objective)
        trainer.train()
        logged = [[entry["hint"], entry["pooled"]] for entry in trainer.state.log_history if "hint" in entry]
        return {**trainer.model.state_dict(), "logged": torch.tensor(logged)}

    found = run(kept(tmp_path / "cache", features=[layer, "bert.pooler"]), "cached")
    assert found["logged"].min() > 0.01
    assert_same(found, run(large(), "live"), tolerance=1e-3)


def test_a_collator_may_cut_the_texts_that_tell_examples_apart(tmp_path: Path) -> None:
    layer, tokens = "bert.encoder.layer.1", ragged(rows=8)
    words = [" ".join(map(str, ids)) for ids in tokens["input_ids"]]
    rows = Dataset.from_dict({"text": words, "labels": tokens["labels"]})

    def cut(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        ids = [[int(word) for word in row["text"].split()] for row in rows]
        return pad([{"input_ids": one, "attention_mask": [1] * len(one), "labels": 0} for one in ids])

    cache_teacher(rows, large(), tmp_path / "c", data_collator=cut, key_columns=["text"], features=[layer])
    hint = FeatureTerm(HintLoss(), Pair("bert.encoder.layer.0", layer))
    objective = Objective(kd=LogitTerm(SoftTargetLoss(2.0)), hint=hint)
    args, teacher = tiny.arguments(tmp_path / "out", max_steps=1), CachedTeacher(tmp_path / "c")
    trainer = DistillationTrainer(tiny.bert(), args, cut, rows, teacher_model=teacher, objective=objective)
    batch = next(iter(trainer.get_train_dataloader()))
    with torch.no_grad():
        expected = large().eval()(batch["input_ids"], batch["attention_mask"]).logits
    torch.testing.assert_close(trainer.ask("teacher", batch).logits, expected, atol=1e-6, rtol=1e-5)
    trainer.train()


def test_a_feature_that_was_not_kept_is_refused(tmp_path: Path) -> None:
    objective = Objective(hint=FeatureTerm(HintLoss(), Pair("bert.pooler", "bert.pooler")))
    with pytest.raises(ValueError, match=r"has answers but no layers.*features=\["):
        DistillationTrainer(
            tiny.bert(),
            tiny.arguments(tmp_path),
            pad,
            ragged(),
            teacher_model=kept(tmp_path / "c"),
            objective=objective,
        )


def test_a_live_and_a_kept_teacher_together(tmp_path: Path) -> None:
    def run(teachers: dict[str, Any], name: str) -> dict[str, Tensor]:
        objective = Objective(
            a=LogitTerm(SoftTargetLoss(2.0), teacher="a"), b=LogitTerm(SoftTargetLoss(1.0), teacher="b")
        )
        args = tiny.arguments(tmp_path / name, num_train_epochs=1, optim="sgd", learning_rate=0.1)
        trainer = DistillationTrainer(tiny.bert(), args, pad, ragged(), teacher_model=teachers, objective=objective)
        trainer.train()
        return dict(trainer.model.state_dict())

    cached, other = kept(tmp_path / "cache"), tiny.bert(seed=4)
    assert_same(run({"a": cached, "b": other}, "1"), run({"a": large(), "b": other}, "2"))
    both = EnsembleTeacher([cached, other])
    assert_same(trained(both, tmp_path / "3"), trained(EnsembleTeacher([large(), other]), tmp_path / "4"))


def test_soft_labels_teach_those_who_have_no_teacher(tmp_path: Path, live: dict[str, Tensor]) -> None:
    rows = with_soft_labels(mixed(), kept(tmp_path / "cache"))
    rows.save_to_disk(tmp_path / "published")
    published = Dataset.load_from_disk(tmp_path / "published")
    assert_same(trained(ColumnTeacher("teacher_logits"), tmp_path / "out", published), live)
    with pytest.raises(ValueError, match="has a column 'teacher_logits' already"):
        with_soft_labels(rows, kept(tmp_path / "cache"))
    with pytest.raises(ValueError, match="have no answer"):
        with_soft_labels(ragged(seed=8), kept(tmp_path / "cache"))
