import pytest

from hf_distill.evaluation.comparable import by_split, labelled_splits

SPLITS = {"validation": [{"label": 0}], "test": [{"label": -1}], "extra": [{"text": "no label"}]}


def test_only_splits_with_labels_stay():
    assert labelled_splits(SPLITS) == {"validation": [{"label": 0}]}


def test_without_any_label_the_error_names_the_columns_and_splits():
    with pytest.raises(ValueError, match="No labels in test, extra: looked for a column labels, label, label_ids"):
        labelled_splits({name: SPLITS[name] for name in ("test", "extra")})


def test_what_is_given_once_is_for_the_only_split():
    assert by_split("rows", {"test": 1}) == {"test": "rows"}
    assert by_split({"test": "rows", "train": "more"}, {"test": 1}) == {"test": "rows"}
    with pytest.raises(ValueError, match=r"\['test'\]"):
        by_split({"train": "rows"}, {"test": 1})
