"""Text and labels are found where they can be meant one way only; everything else is an error before training."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from hf_distill.recipe import TextData, as_classification, with_unlabelled

WORDS = ["a", "b", "c", "d"]


def splits(
    labels: list[Any], feature: Any = None, text: str = "text", label: str = "label", **more: Any
) -> DatasetDict:
    """``train`` and ``validation``, both with these labels."""
    columns = {text: [f"text {row}" for row in range(len(labels))], label: labels, **more}
    features = Features({text: Value("string"), label: feature}) if feature is not None else None
    return DatasetDict({name: Dataset.from_dict(columns, features) for name in ("train", "validation")})


def labels_of(data: TextData, split: str = "train") -> list[int]:
    labels: list[int] = data.splits[split]["labels"][:]
    return labels


# ---- Labels ----


def test_class_names_come_from_the_feature() -> None:
    data = as_classification(splits([1, 0, 1], ClassLabel(names=["negative", "positive"])))
    assert data.classes == ("negative", "positive")
    assert labels_of(data) == [1, 0, 1]
    assert data.splits["train"].column_names == ["text", "labels"]


PETS = ClassLabel(names=["cat", "dog", "fish"])


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (([0, 1, 2], PETS), ([2, 0, 1, -1], ClassLabel(names=["dog", "fish", "cat"]))),
        (([0, 1, 2], PETS), (["cat", "dog ", "fish", None], Value("string"))),
        (([0, 1, 2], PETS), ([0, 1, 2, -1], Value("int64"))),
        ((["cat", "dog", "fish"], Value("string")), ([0, 2, 3, None], ClassLabel(names=["cat", "cow", "dog", "fish"]))),
        (([7, 8, 9], Value("int64")), ([7, 8, 9, -1], Value("int64"))),
        (([0, 1, 2], Value("int64")), ([0, 1, 2, -1], PETS)),
        (([0, 1, 2], PETS), ([0, 1, 2, -1], ClassLabel(num_classes=3))),
        (([0, 1, 2], ClassLabel(num_classes=3)), ([0, 1, 2, -1], PETS)),
        (([0, 1, 2], PETS), (["Cat", "DOG", " fish", ""], Value("string"))),
        (([7, 8, 9], Value("int64")), ([1, 2, 3, -1], ClassLabel(names=["6", "7", "8", "9"]))),
    ],
)
def test_splits_that_number_their_classes_otherwise_are_read_by_the_names(train: Any, test: Any) -> None:
    first, second = (splits(*given)["train"] for given in (train, test))
    assert labels_of(as_classification(DatasetDict(train=first, test=second)), "test") == [0, 1, 2, -100]


def test_truth_is_a_class_like_others() -> None:
    given = splits([False, True])["train"], splits([1, 0], ClassLabel(names=["True", "False"]))["train"]
    assert labels_of(as_classification(DatasetDict(train=given[0], test=given[1])), "test") == [0, 1]


def test_classes_that_differ_in_case_alone_are_told_apart() -> None:
    given = splits([0, 1], ClassLabel(names=["a", "A"]))["train"], splits(["A", "a"])["train"]
    assert labels_of(as_classification(DatasetDict(train=given[0], test=given[1])), "test") == [1, 0]


@pytest.mark.parametrize("names", [["a", "a "], ["", "a"]])
def test_classes_need_names_that_differ(names: list[str]) -> None:
    with pytest.raises(ValueError, match="need names that differ"):
        as_classification(splits([0, 1], ClassLabel(names=names)))


def test_a_split_with_a_class_that_is_not_in_training() -> None:
    first = splits([0, 1, 2], PETS)["train"]
    second = splits([0, 1], ClassLabel(names=["cat", "cow"]))["train"]
    with pytest.raises(ValueError, match=r"Row 1 of test .* has label 'cow' .* outside the classes \{'cat': 0, "):
        as_classification(DatasetDict(train=first, test=second))


@pytest.mark.parametrize(
    ("labels", "classes", "expected"),
    [
        (["pos", "neg ", " pos"], ("neg", "pos"), [1, 0, 1]),
        ([1, 0, 1], ("LABEL_0", "LABEL_1"), [1, 0, 1]),
        ([5, 1, 3], ("1", "3", "5"), [2, 0, 1]),
        ([True, False, True], ("False", "True"), [1, 0, 1]),
        ([1.0, 0.0, math.nan], ("LABEL_0", "LABEL_1"), [1, 0, -100]),
        ([10, 9, 2], ("2", "9", "10"), [2, 1, 0]),
    ],
)
def test_other_labels_become_classes(labels: list[Any], classes: tuple[str, ...], expected: list[int]) -> None:
    data = as_classification(splits(labels))
    assert data.classes == classes
    assert labels_of(data) == expected


@pytest.mark.parametrize("missing", [-100, None])
def test_what_stands_for_no_label(missing: int | None) -> None:
    data = as_classification(splits([1, missing, 0]))
    assert labels_of(data) == [1, -100, 0]
    assert data.labelled("train")["text"][:] == ["text 0", "text 2"]


def test_rows_without_a_label_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "hf_distill"):
        as_classification(splits([1, None, 0, None]))
    assert caplog.messages == [
        "2 of the 4 rows of train have no label, and are learnt from through the teacher alone.",
        "2 of the 4 rows of validation have no label, and are left out.",
    ]


def test_an_empty_string_is_no_label() -> None:
    assert labels_of(as_classification(splits(["yes", "", "no"]))) == [1, -100, 0]


def test_a_test_split_without_labels_is_left_out_of_the_evaluation() -> None:
    given = splits([1, 0, 1], ClassLabel(names=["n", "p"]))
    unlabelled = Dataset.from_dict({"text": WORDS, "label": [-1] * 4})
    for test in (unlabelled, unlabelled.remove_columns("label")):
        data = as_classification(DatasetDict({**given, "test": test}))
        assert list(data.evaluation()) == ["validation"]
        assert labels_of(data, "test") == [-100] * 4


def test_only_labelled_rows_are_evaluated() -> None:
    data = as_classification(splits([1, None, 0, 1]))
    assert data.evaluation()["validation"]["labels"][:] == [1, 0, 1]


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [
        (
            [0, 1, 2],
            [0, 1, 3],
            r"Row 2 of validation \(text='text 2', label=3\) has label 3 in column 'label', which is outside",
        ),
        (["a", "b"], ["a", "bb"], r"Row 1 of validation \(.*\) has label 'bb'.*\{'a': 'a', 'b': 'b'\}"),
        ([0.0, 0.5, 1.0], [0.0, 1.0], None),
    ],
)
def test_a_label_outside_the_classes(train: list[Any], validation: list[Any], message: str | None) -> None:
    given = DatasetDict(train=splits(train)["train"], validation=splits(validation)["validation"])
    with pytest.raises(ValueError, match=message or "0.5 in column 'label', which is no class"):
        as_classification(given)


def test_a_class_label_outside_its_own_range() -> None:
    """Files that were not written by the library may hold such indices; it checks its own."""
    wrong = splits([0, 1, 2]).cast_column("label", Value("int64"))
    for part in wrong.values():
        part.info.features["label"] = ClassLabel(names=["n", "p"])
    with pytest.raises(ValueError, match=r"Row 2 of train \(.*\) has label 2 .*\{'n': 0, 'p': 1\}"):
        as_classification(wrong)


def test_a_wrong_row_is_quoted() -> None:
    """So that it can be found by what it holds; long texts are shortened. Rows are held out later."""
    rows = Dataset.from_dict(
        {"text": [f"{row} " + "x" * 100 for row in range(20)], "label": [0.0, 1.0] * 3 + [0.0, 0.5] + [1.0] * 12}
    )
    with pytest.raises(ValueError, match=r"Row 7 of train \(text='7 x+\.\.\.x+', label=0\.5\) has label 0\.5") as error:
        as_classification(DatasetDict(train=rows), hold_out=True)
    assert "x" * 60 not in str(error.value)


def test_lists_of_labels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Row 0 of train \(.*\) has label \[0, 1\].*one class for each row"):
        as_classification(splits([[0, 1], [1]]))


@pytest.mark.parametrize("labels", [[1, 1, 1], ["a", "a", "a"]])
def test_a_single_class(labels: list[Any]) -> None:
    with pytest.raises(ValueError, match="train split has one class only: 3 rows of"):
        as_classification(splits(labels))


def test_minus_one_for_negative_is_explained() -> None:
    with pytest.raises(ValueError, match=r"one class only: 2 rows of '1' and 1 without a label \(-1 or nothing\)"):
        as_classification(splits([1, -1, 1]))


@pytest.mark.parametrize("labels", [[-1, 0, 1], [-1, 1, 2, 3]])
def test_minus_one_beside_other_classes_is_a_question(labels: list[int]) -> None:
    with pytest.raises(ValueError, match="is -1 a class, or a missing label"):
        as_classification(splits(labels))


def test_a_validation_split_of_one_class() -> None:
    given = DatasetDict(train=splits([0, 1])["train"], validation=splits([1, 1])["validation"])
    with pytest.raises(ValueError, match="validation split has one class only"):
        as_classification(given)


def test_no_labels_at_all() -> None:
    with pytest.raises(ValueError, match="No row of train has a label"):
        as_classification(splits([-1, -1]))


# ---- Columns ----


@pytest.mark.parametrize("name", ["text", "sentence", "review", "my_column"])
def test_the_only_text_column_is_found(name: str) -> None:
    assert as_classification(splits([0, 1], text=name)).text_columns == (name,)


def test_a_text_column_of_a_known_name_is_preferred() -> None:
    assert as_classification(splits([0, 1], source=["web", "web"])).text_columns == ("text",)


def test_pairs_are_known_by_their_names() -> None:
    given = splits([0, 1], text="hypothesis", premise=["x", "y"], source=["web", "web"])
    assert as_classification(given).text_columns == ("premise", "hypothesis")


def test_flags_choose() -> None:
    given = splits([0, 1], text="one", label="first", two=["x", "y"], second=[1, 0])
    data = as_classification(given, "two, one", "second")
    assert data.text_columns == ("two", "one")
    assert labels_of(data) == [1, 0]


def test_string_labels_are_not_taken_for_text() -> None:
    assert as_classification(splits(["a", "b"], text="quote", label="labels")).text_columns == ("quote",)


@pytest.mark.parametrize(
    ("given", "flags", "message"),
    [
        (splits([0, 1], text="one", two=["x", "y"]), {}, r"holds the text\?.*'two'.*--text_column"),
        (splits([0, 1], label="stars"), {}, r"holds the labels\?.*'stars'.*--label_column"),
        (splits([0, 1], Labels=[0, 1]), {}, r"holds the labels\?"),
        (splits([0, 1]), {"text": "txt"}, r"train has no column 'txt'; it has .*Did you mean 'text'\?"),
        (splits([0, 1]), {"label": "lable"}, r"no column 'lable'.*Did you mean 'label'\?"),
    ],
)
def test_columns_that_are_not_there_or_not_clear(given: DatasetDict, flags: dict[str, str], message: str) -> None:
    with pytest.raises(KeyError, match=message):
        as_classification(given, **flags)


def test_a_validation_split_with_other_columns() -> None:
    given = splits([0, 1])
    given["validation"] = given["validation"].rename_column("text", "sentence")
    with pytest.raises(KeyError, match="validation has no column 'text'"):
        as_classification(given)


def test_a_missing_text() -> None:
    given = DatasetDict({"train": Dataset.from_dict({"text": ["a", None, "c"], "label": [0, 1, 1]})})
    with pytest.raises(ValueError, match=r"Row 1 of train \(.*\) has None in the text column 'text'"):
        as_classification(given)


def test_missing_texts_are_counted() -> None:
    given = DatasetDict({"train": Dataset.from_dict({"text": ["a", None, "c", None, None], "label": [0, 1, 1, 0, 0]})})
    with pytest.raises(ValueError, match="a string is needed, and so have 2 more rows"):
        as_classification(given)


def test_a_text_column_of_numbers() -> None:
    with pytest.raises(ValueError, match=r"Row 0 of train \(.*\) has 3 in the text column 'stars'"):
        as_classification(splits([0, 1], stars=[3, 4]), "stars")


def test_a_label_is_no_text() -> None:
    with pytest.raises(ValueError, match="'label' cannot be text and label at once"):
        as_classification(splits(["a", "b"]), "label", "label")


# ---- Unlabelled text ----


def more(tmp_path: Path, **columns: list[Any]) -> str:
    path = tmp_path / "more.parquet"
    Dataset.from_dict(columns).to_parquet(str(path))
    return str(path)


def test_unlabelled_texts_are_appended_without_their_labels(tmp_path: Path) -> None:
    data = as_classification(splits([1, 0]))
    longer = with_unlabelled(data, more(tmp_path, label=[1, 1, 0], text=["x", "y", "z"]))
    assert longer.splits["train"]["text"][:] == ["text 0", "text 1", "x", "y", "z"]
    assert labels_of(longer) == [1, 0, -100, -100, -100]
    assert longer.labelled("train")["text"][:] == ["text 0", "text 1"]
    assert labels_of(data) == [1, 0], "the data given is not changed"


def test_unlabelled_texts_may_have_another_column_name_and_be_cut(tmp_path: Path) -> None:
    data = with_unlabelled(as_classification(splits([1, 0])), more(tmp_path, sentence=["x", "y", "z"]), examples=2)
    assert data.splits["train"]["text"][2:] == ["x", "y"]


def test_texts_that_are_evaluated_on_are_not_trained_on(tmp_path: Path) -> None:
    data = with_unlabelled(as_classification(splits([1, 0])), more(tmp_path, text=["x", "text 1", "z"]))
    assert data.splits["train"]["text"][2:] == ["x", "z"]
    with pytest.raises(ValueError, match="no text that is not in validation or test"):
        with_unlabelled(as_classification(splits([1, 0])), more(tmp_path, text=["text 0", "text 1"]))


def test_unlabelled_texts_that_are_not_there(tmp_path: Path) -> None:
    data = as_classification(splits([0, 1]))
    with pytest.raises(FileNotFoundError, match=r"more\.csv\. --unlabelled PATH takes a local file .* left out"):
        with_unlabelled(data, str(tmp_path / "more.csv"))


def test_texts_that_other_tasks_are_evaluated_on_are_left_out_too(tmp_path: Path) -> None:
    other = as_classification(splits([1, 0], text="sentence").map(lambda row: {"sentence": f"other {row['sentence']}"}))
    rows = more(tmp_path, text=["x", "text 1", "other text 0", "z"])
    data = with_unlabelled(as_classification(splits([1, 0])), rows, others=[other])
    assert data.splits["train"]["text"][2:] == ["x", "z"]


def test_unlabelled_pairs_are_needed_for_pairs(tmp_path: Path) -> None:
    pairs = as_classification(splits([1, 0], text="premise", hypothesis=["x", "y"]))
    with pytest.raises(KeyError, match=r"text columns \['text'\], but \['premise', 'hypothesis'\] are needed"):
        with_unlabelled(pairs, more(tmp_path, text=["x"]))
