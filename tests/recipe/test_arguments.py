"""The command line of a recipe: presets are defaults, mistakes are named, and the help can be read."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from hf_distill import DistillationTrainingArguments
from hf_distill.recipe import Preset, parse


@dataclass
class RecipeArguments:
    dataset: str = field(default="org/data", metadata={"help": "Where the data is."})
    target: str = field(default="soft", metadata={"help": "What is learned.", "choices": ["soft", "hard"]})
    fast: bool = field(default=False, metadata={"help": "Whether to hurry."})


TYPES = [RecipeArguments, DistillationTrainingArguments]
PRESETS = {
    "full": Preset("All of it, three hours.", {"output_dir": "out/full"}),
    "quick": Preset(
        "A taste, two minutes.", {"dataset": "", "num_train_epochs": 1.0, "temperature": 4.0, "fast": True}
    ),
}


def test_the_first_preset_is_what_runs_without_one() -> None:
    recipe, args = parse(TYPES, PRESETS, [])
    assert (recipe.dataset, args.output_dir, args.num_train_epochs) == ("org/data", "out/full", 3.0)


@pytest.mark.parametrize("option", [["--preset", "quick"], ["--preset=quick"]])
def test_a_preset_changes_defaults(option: list[str]) -> None:
    recipe, args = parse(TYPES, PRESETS, option)
    assert (recipe.dataset, recipe.fast, args.num_train_epochs, args.temperature) == ("", True, 1.0, 4.0)


@pytest.mark.parametrize("turned", [False, True])
def test_an_explicit_flag_wins_over_the_preset_wherever_it_stands(turned: bool) -> None:
    words = [["--preset", "quick"], ["--temperature", "3", "--dataset", "mine", "--fast", "false"]]
    recipe, args = parse(TYPES, PRESETS, [word for part in (words[::-1] if turned else words) for word in part])
    assert (recipe.dataset, recipe.fast, args.temperature, args.num_train_epochs) == ("mine", False, 3.0, 1.0)


def test_a_flag_that_repeats_the_default_wins_too() -> None:
    _, args = parse(TYPES, PRESETS, ["--preset", "quick", "--temperature", "2.0"])
    assert args.temperature == 2.0


@pytest.mark.parametrize("words", [["--fp16"], ["--fp16", "true"], ["--fp16=true"]])
def test_a_precision_on_the_command_line_replaces_that_of_the_preset(words: list[str]) -> None:
    presets = {"full": Preset("", {"bf16": True, "use_cpu": True})}
    assert parse(TYPES, presets, [])[1].bf16
    # On a CPU fp16 is refused, with a message of its own: what must not come is the clash with bf16.
    with pytest.raises(ValueError, match="fp16 does nothing on a CPU"):
        parse(TYPES, presets, words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--preset", "quik"], "'full', 'quick'"),
        (["--num_train_epoch", "3"], "did you mean --num_train_epochs?"),
        (["--num-train-epoch=3"], "did you mean --num_train_epochs?"),
        (["--zzz", "3"], "see --help"),
        (["--target", "softt"], "'soft', 'hard'"),
        (["--temperature", "warm"], "invalid float value: 'warm'"),
        (["--dataset"], "expected one argument"),
    ],
)
def test_a_mistake_is_named_in_two_lines(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(TYPES, PRESETS, words)
    said = capsys.readouterr().err.replace("choose from full, quick", "'full', 'quick'")  # before Python 3.12
    assert stop.value.code == 2
    assert message in said.replace("choose from soft, hard", "'soft', 'hard'")
    assert len(said.splitlines()) == 2


def test_a_value_that_the_dataclass_refuses_is_its_error() -> None:
    with pytest.raises(ValueError, match=r"temperature must be a finite number > 0, got 0\.0"):
        parse(TYPES, PRESETS, ["--temperature", "0"])


def test_a_preset_with_a_misspelt_flag_is_an_error() -> None:
    with pytest.raises(KeyError, match="temprature"):
        parse(TYPES, {"full": Preset("", {"temprature": 1.0})}, [])


def test_flags_may_be_spelt_with_hyphens() -> None:
    _, args = parse(TYPES, PRESETS, ["--num-train-epochs", "7"])
    assert args.num_train_epochs == 7.0


def test_the_help_reads_from_the_recipe_down_to_the_training_arguments(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as stop:
        parse(TYPES, PRESETS, ["--preset", "quick", "--help"], "Distil something.\n\n    python recipe.py")
    said = capsys.readouterr().out
    assert stop.value.code == 0
    wanted = [
        "Distil something.", "    python recipe.py", "full   All of it, three hours.", "quick  A taste, two minutes.",
        "this recipe:", "--dataset", "distillation:", "--temperature", "transformers.TrainingArguments:",
        "--num_train_epochs",
    ]  # fmt: skip
    places = [said.index(text) for text in wanted]
    assert places == sorted(places)
    assert "--num-train-epochs" not in said, "one spelling is enough"
    assert "--load_best_model_at_end" not in said, "a recipe refuses it"
    assert "(default: 4.0)" in said, "the defaults are those of the chosen preset"
    assert max(map(len, said.splitlines())) <= 100
