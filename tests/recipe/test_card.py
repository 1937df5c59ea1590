"""What a card learns from a recipe's flags, and which data sets it may call the Hub's."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_distill import DistillationTrainingArguments
from hf_distill.model_card import CardFacts, write_card
from hf_distill.recipe import CardArguments, Preset, parse


def test_flags_reach_the_metadata() -> None:
    presets = {"full": Preset("All of it.")}
    words = ["--license", "apache-2.0", "--language", "en, de"]
    chosen, _ = parse([CardArguments, DistillationTrainingArguments], presets, words)
    given = chosen.for_card("nyu-mll/glue:sst2", "stanfordnlp/imdb", language="fr")
    facts = CardFacts("x", "text-classification", datasets=["nyu-mll/glue:sst2"], **given)
    data = write_card(facts, {"student": {"accuracy": 0.9}, "dataset": "nyu-mll/glue:sst2"}).data
    assert (data.license, data.language) == ("apache-2.0", ["en", "de"])
    assert data.datasets == ["nyu-mll/glue", "stanfordnlp/imdb"]
    [result] = data.eval_results
    assert (result.dataset_type, result.dataset_config) == ("nyu-mll/glue", "sst2")


def test_a_language_is_said_of_known_data_or_by_the_flag_alone() -> None:
    assert CardArguments().for_card("", language="en")["language"] == ["en"]
    assert CardArguments().for_card("org/reviews")["language"] is None


def test_what_the_hub_would_refuse_is_refused_before_any_training() -> None:
    with pytest.raises(ValueError, match="The Hub knows no licence 'MIT licence'"):
        CardArguments(license="MIT licence")
    with pytest.raises(ValueError, match="'English' is no code"):
        CardArguments(language="en,English")


def test_what_lies_on_the_disk_is_not_the_hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my-reviews").mkdir()
    (tmp_path / "C:\\data").mkdir()
    monkeypatch.chdir(tmp_path)
    given = CardArguments().for_card("my-reviews", "C:\\data", str(tmp_path), None, "")
    assert given["dataset_tags"] == []
    assert CardArguments().for_card("imdb")["dataset_tags"] == ["imdb"]
    monkeypatch.chdir(tmp_path.parent)  # where no folder of this name is

    for names, expected in ((given, None), ({"dataset_tags": ["my-reviews"]}, ["my-reviews"])):
        facts = CardFacts("x", "text-classification", datasets=["my-reviews"], dataset_tags=names["dataset_tags"])
        data = write_card(facts, {"student": {"accuracy": 0.9}, "dataset": "my-reviews"}).data
        assert data.datasets == expected
        assert data.eval_results[0].dataset_type == ("unknown" if expected is None else "my-reviews")
