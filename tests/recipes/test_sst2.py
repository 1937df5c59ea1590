"""The recipe as a user calls it: in a process of its own."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from unittest import mock

import exported
import pytest
import recipe_calls
import tiny
from datasets import Dataset
from huggingface_hub import ModelCard
from recipe_calls import last_line
from transformers import pipeline

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))

import sst2

call = partial(recipe_calls.call, "sst2.py")


@pytest.mark.slow
def test_help_reads_from_the_recipe_down() -> None:
    result = call("--help", COLUMNS="100")
    assert result.returncode == 0, result.stderr
    wanted = [
        "accelerate launch recipes/sst2.py --preset quick",
        "\n  full ",
        "\n  quick ",
        "this recipe:",
        *("\n  --dataset", "\n  --teacher", "\n  --student", "\n  --seeds"),
        "distillation:",
        "transformers.TrainingArguments:",
    ]
    places = [result.stdout.index(text) for text in wanted]
    assert places == sorted(places)


def test_without_the_hub_the_full_preset_gives_up_within_seconds(tmp_path: Path) -> None:
    """Nothing listens on port 9; the caches are empty."""
    result = call(
        "--output_dir", str(tmp_path / "out"), HF_HUB_OFFLINE="0", HF_ENDPOINT="http://127.0.0.1:9",
        HF_HOME=str(tmp_path / "home"), HF_DATASETS_CACHE=str(tmp_path / "cache"), HF_HUB_CACHE=str(tmp_path / "hub"),
    )  # fmt: skip
    assert result.returncode == 2
    assert last_line(result).startswith("error: ")
    assert "--preset quick" in last_line(result)
    assert "--dataset PATH" in last_line(result)


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A call that would work, up to the tokenizer."""
    tiny.bert(labels=2).save_pretrained(tmp_path / "model")
    rows = Dataset.from_dict({"text": [f"text {row}" for row in range(20)], "label": [0, 1] * 10})
    rows.to_parquet(str(tmp_path / "train.parquet"))
    model = str(tmp_path / "model")
    return ["--dataset", str(tmp_path / "train.parquet"), "--teacher", model, "--student", model,
            "--output_dir", str(tmp_path / "out")]  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], ["made", "its teacher", "its student", "its texts"]),
        (["--teacher", "t", "--student", "layers:0", "--unlabelled", "u"], ["made", "t", "layers:0", "u"]),
        (["--unlabelled", ""], ["made", "its teacher", "its student", None]),
        (["--dataset", "d"], ["d", sst2.RecipeArguments.teacher, sst2.RecipeArguments.student, None]),
    ],
)
def test_an_explicit_flag_wins_over_what_quick_makes(
    flags: list[str], expected: list[str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = {name: mock.MagicMock() for name in ("load_splits", "as_classification", "check_names", "load_tokenizer")}
    for name, step in {**steps, "tokenizer_of_student": mock.MagicMock(), "with_unlabelled": mock.MagicMock()}.items():
        monkeypatch.setattr(sst2, name, step)
    made = sst2.sentiment_grammar.Made("made", "its texts", "its teacher", "its student")
    monkeypatch.setattr(sst2.sentiment_grammar, "make", lambda folder: made)
    monkeypatch.setattr(sst2, "fine_tuned_teacher", mock.MagicMock(side_effect=InterruptedError))
    monkeypatch.setattr(sys, "argv", ["sst2.py", "--preset", "quick", "--output_dir", str(tmp_path), *flags])
    with pytest.raises(InterruptedError):
        sst2.main()
    more = sst2.with_unlabelled.call_args
    found = [steps["load_splits"].call_args.args[0], *steps["check_names"].call_args.args, more and more.args[1]]
    assert found == expected
    assert sst2.fine_tuned_teacher.call_args.args[1] is steps["as_classification"].return_value, "labelled data alone"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--unlabelled", "{folder}/tetxs.parquet"], "There is no file or folder .*tetxs.parquet"),
        (["--student", "{folder}/model"], "No tokenizer was saved with the model .*model"),
        (["--cache_top_k", "2"], "keeps every one of the 2 classes"),
        (["--load_best_model_at_end"], "The last epoch counts"),
        (["--output_dir", "{folder}/model"], "holds a model that is not ours"),
    ],
)
def test_what_goes_wrong_goes_wrong_before_the_teacher_is_trained(
    flags: list[str], message: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = tmp_path / "teacher"
    tiny.bert(labels=2).save_pretrained(teacher)
    exported.tokenizer().save_pretrained(teacher)
    flags = ["--teacher", str(teacher), "--student", "layers:0", *(flag.format(folder=tmp_path) for flag in flags)]
    monkeypatch.setattr(sst2, "fine_tuned_teacher", mock.MagicMock(side_effect=InterruptedError))
    monkeypatch.setattr(sys, "argv", ["sst2.py", *words, *flags])
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        sst2.main()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--dataset", "./trian.parquet"], "There is no file or folder ./trian.parquet"),
        (["--label_column", "lable"], "Did you mean 'label'?"),
        (["--text_column", "txt"], "Did you mean 'text'?"),
        (["--student", "layers:4"], "there is no layer 4"),
        (["--temperature", "0"], "temperature must be a finite number > 0, got 0.0"),
        (["--distillation_weight", "2"], "must lie in [0, 1], got 2.0"),
        (["--distillation_weight", "0.3"], "--target soft has no --distillation_weight"),
        (["--target", "hard", "--temperature", "4"], "--target hard has no --temperature"),
        ([], "No tokenizer was saved with the model"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(words: list[str], changed: list[str], message: str) -> None:
    result = call(*words, *changed)
    assert result.returncode == 2, result.stderr
    assert last_line(result).startswith("error: ")
    assert message in last_line(result)


@pytest.mark.slow
def test_the_quick_preset_from_end_to_end(tmp_path: Path) -> None:
    result = call("--preset", "quick", "--output_dir", str(tmp_path), "--license", "mit", timeout=900)
    assert result.returncode == 0, result.stderr[-3000:]
    report = json.loads((tmp_path / "report.json").read_text())
    for name in ("teacher", "student", "control"):
        assert report[name]["accuracy"] > 0.75, "well above chance, for two balanced classes"
        assert set(report[name]["per_class"]) == {"negative", "positive"}
    assert report["split"] == "test"
    assert set(report["other_splits"]) == {"validation"}
    assert "gap closed" in result.stdout
    assert report["teacher"]["parameters"] > 3 * report["student"]["parameters"]
    assert report["student"]["parameters"] == report["control"]["parameters"]
    for name in (
        "README.md",
        "objective.json",
        "models.png",
        "confusion.png",
        "reliability.png",
        "training_curves.png",
    ):
        assert (tmp_path / name).stat().st_size > 0
    said = ModelCard.load(tmp_path / "README.md").data
    assert (said.license, said.language, said.datasets, said.base_model) == ("mit", ["en"], None, None)
    classifier = pipeline("text-classification", model=str(tmp_path))
    answers = classifier(["the plot was superb .", "the plot was atrocious ."])
    assert [answer["label"] for answer in answers] == ["positive", "negative"]
    folders = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert all(name.startswith("_") for name in folders), "what is not the student is not published"
