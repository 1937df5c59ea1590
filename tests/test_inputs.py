"""Files and folders that the command line is given, and how a user can miss them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from PIL import Image

from hf_distill.inputs import find_images, read_evaluation, read_texts
from hf_distill.recipe.class_labels import class_labels

CLASSES = ["bad", "good"]


def test_lines_of_a_text_file_without_the_blank_ones(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffeins\r\n\n  zwei, drei \n".encode())
    found = read_texts(str(tmp_path / "a.txt"))
    assert (found.columns, found.values, found.labels) == (("text",), ["eins", "zwei, drei"], None)


def test_lines_of_the_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo"))
    assert read_texts("-").values == ["one", "two"]
    with pytest.raises(ValueError, match="The standard input holds no text"):
        read_texts("-")


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_the_text_column_of_a_table(tmp_path: Path, ending: str) -> None:
    rows = Dataset.from_dict({"sentence": ["a", "b, c"], "note": ["x", "y"], "other": ["p", "q"]})
    path = str(tmp_path / f"rows.{ending}")
    {"csv": rows.to_csv, "parquet": rows.to_parquet, "jsonl": rows.to_json}[ending](path)
    assert read_texts(path).values == ["a", "b, c"]
    assert read_texts(path, "note,other").values == [("x", "p"), ("y", "q")]
    with pytest.raises(KeyError, match=r"no column 'sentense'.* Did you mean 'sentence'"):
        read_texts(path, "sentense")


def test_files_that_are_no_texts(tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text("text\na\n\nb\n")
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*review.csv; near it is .*reviews.csv"):
        read_texts(str(tmp_path / "review.csv"))
    with pytest.raises(ValueError, match=r"no file of texts: give one that ends in \.txt"):
        read_texts(str(tmp_path))
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"latin\.txt is not UTF-8 text"):
        read_texts(str(tmp_path / "latin.txt"))
    Dataset.from_dict({"text": ["a", None]}).to_parquet(str(tmp_path / "holes.parquet"))
    with pytest.raises(ValueError, match=r"Row 1 of .*holes.parquet \(text=None\) has None in the text column"):
        read_texts(str(tmp_path / "holes.parquet"))


def test_images_in_folders_and_alone(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/c/1.JPG", "a.png", "b/notes.txt", "b/._2.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = find_images([str(tmp_path / "a.png"), str(tmp_path / "b")])
    assert [str(Path(path).relative_to(tmp_path)) for path in found.values] == ["a.png", "b/2.png", "b/c/1.JPG"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty holds no image"):
        find_images([str(tmp_path / "empty")])


def test_labels_are_found_by_name_number_or_class(tmp_path: Path) -> None:
    """The classes of the file come in another order than those of the model."""
    named, shouted = (
        Features({"text": Value("string"), "label": ClassLabel(names=names)})
        for names in (["good", "bad"], ["GOOD", "Bad"])
    )
    for name, rows in {
        "classes": Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, -1]}, features=named),
        "strings": Dataset.from_dict({"text": ["a", "b", "c"], "label": ["good", "bad", None]}),
        "digits": Dataset.from_dict({"text": ["a", "b", "c"], "label": ["1", "0", ""]}),
        "numbers": Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -100]}),
        "truths": Dataset.from_dict({"text": ["a", "b", "c"], "label": [True, False, None]}),
        "gaps": Dataset.from_dict({"text": ["a", "b", "c"], "label": [1.0, 0.0, None]}),
        "cases": Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, -1]}, features=shouted),
    }.items():
        path = str(tmp_path / f"{name}.parquet")
        rows.to_parquet(path)
        assert read_evaluation(path, CLASSES).labels == [1, 0, -100], name


def test_numbers_are_the_names_that_the_recipes_made_of_them(tmp_path: Path) -> None:
    """By the function that names the classes in training: 1 to 3 become "1" to "3", 0 to 2 get no names."""
    for given in ([1, 2, 3], [0, 1, 2], [True, False, True]):
        rows = Dataset.from_dict({"text": ["a", "b", "c"], "label": given})
        path = str(tmp_path / f"{given[1]}.parquet")
        rows.to_parquet(path)
        encoded, classes = class_labels(DatasetDict({"train": rows}), "label")
        assert read_evaluation(path, classes).labels == encoded["train"]
    Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}).to_parquet(str(tmp_path / "rows.parquet"))
    with pytest.raises(ValueError, match=r"has label 0 .* outside the classes"):
        read_evaluation(str(tmp_path / "rows.parquet"), ["1", "2", "3"])


def test_classes_of_others_are_not_taken_by_their_places(tmp_path: Path) -> None:
    """Unless one side has no names."""
    named = Features({"text": Value("string"), "label": ClassLabel(names=["cat", "dog"])})
    path = str(tmp_path / "rows.parquet")
    Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=named).to_parquet(path)
    assert read_evaluation(path, ["LABEL_0", "LABEL_1"]).labels == [1, 0]
    with pytest.raises(ValueError, match=r"has label 'dog' .* outside the classes"):
        read_evaluation(path, CLASSES)


def test_data_without_labels_is_taken_as_such(tmp_path: Path) -> None:
    Dataset.from_dict({"text": ["a", "b"]}).to_parquet(str(tmp_path / "plain.parquet"))
    assert read_evaluation(str(tmp_path / "plain.parquet"), CLASSES).labels is None


def test_a_label_that_is_no_class_of_the_model(tmp_path: Path) -> None:
    Dataset.from_dict({"text": ["a", "b"], "label": ["good", "goood"]}).to_parquet(str(tmp_path / "rows.parquet"))
    with pytest.raises(ValueError, match=r"Row 1 of train .* has label 'goood' .* Did you mean 'good'"):
        read_evaluation(str(tmp_path / "rows.parquet"), CLASSES)


def test_a_split_is_chosen(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        Dataset.from_dict({"text": [split, split], "label": [0, 1]}).to_parquet(str(tmp_path / f"{split}.parquet"))
    assert read_evaluation(str(tmp_path), CLASSES).values == ["validation"] * 2
    assert read_evaluation(str(tmp_path), CLASSES, split="train").values == ["train"] * 2
    with pytest.raises(KeyError, match="no split 'test'; it has train, validation"):
        read_evaluation(str(tmp_path), CLASSES, split="test")


def test_images_with_a_folder_for_each_class(tmp_path: Path) -> None:
    for index, name in enumerate(("good", "bad")):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((4, 4, 3), index, dtype=np.uint8)).save(tmp_path / name / "1.png")
    found = read_evaluation(str(tmp_path), CLASSES, images=True)
    assert found.labels is not None
    assert sorted(zip(found.labels, map(str, found.values), strict=True)) == [
        (0, str(tmp_path / "bad" / "1.png")),
        (1, str(tmp_path / "good" / "1.png")),
    ]
