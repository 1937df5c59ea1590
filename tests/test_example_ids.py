"""Numbers for the rows of a training set, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from datasets import Dataset, IterableDataset
from view_runs import views

from hf_distill import with_example_ids
from hf_distill.example_ids import EXAMPLE_ID, count_of_examples

ROWS = Dataset.from_dict({"labels": [3, 1, 4, 1, 5]})


def test_rows_are_numbered_as_they_stand() -> None:
    chosen = ROWS.shuffle(seed=0).filter(lambda row: row["labels"] != 1)
    numbered = with_example_ids(chosen)
    assert numbered[:] == {"labels": chosen["labels"][:], EXAMPLE_ID: [0, 1, 2]}
    assert count_of_examples(numbered) == 3
    assert ROWS.column_names == ["labels"]


def test_shuffling_keeps_the_numbers_and_numbering_again_replaces_them() -> None:
    shuffled = with_example_ids(ROWS).shuffle(seed=0)
    assert count_of_examples(shuffled) == 5
    assert [ROWS[i]["labels"] for i in shuffled[EXAMPLE_ID]] == shuffled["labels"][:]
    assert with_example_ids(shuffled)[EXAMPLE_ID][:] == [0, 1, 2, 3, 4]


def test_a_format_or_transform_stays() -> None:
    assert isinstance(with_example_ids(ROWS.with_format("torch"))[0][EXAMPLE_ID], torch.Tensor)
    transformed = with_example_ids(
        ROWS.with_transform(lambda batch: {**batch, "labels": [-y for y in batch["labels"]]})
    )
    assert transformed[2] == {"labels": -4, EXAMPLE_ID: 2}
    assert count_of_examples(transformed) == 5


def test_all_views_of_an_image_have_its_number() -> None:
    plain, numbered = views(count=2), with_example_ids(views(count=2))
    assert numbered.describe() == plain.describe()
    for view in range(2):
        for rows in (plain, numbered):
            rows.set_epoch(view)
        assert [row[EXAMPLE_ID] for row in numbered] == list(range(32))
        assert torch.equal(numbered[3]["pixel_values"], plain[3]["pixel_values"])
    assert count_of_examples(numbered) == 32


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (ROWS, KeyError, r"by a column 'example_id', but the training set has \['labels'\].*with_example_ids"),
        (
            with_example_ids(ROWS).select([0, 1, 4]),
            ValueError,
            "Row 2 .* has example_id 4, but there are 3",
        ),
        (ROWS.add_column(EXAMPLE_ID, [0, 1, 2, 3, -1]), ValueError, "Row 4 .* has example_id -1.*after all rows"),
        (ROWS.add_column(EXAMPLE_ID, list("abcde")), ValueError, "must hold whole numbers"),
        (ROWS.add_column(EXAMPLE_ID, [0, 1, None, 3, 4]), ValueError, "must hold whole numbers"),
        (IterableDataset.from_generator(lambda: iter([])), ValueError, "as Views, got IterableDataset"),
        ([{"example_id": 0}], ValueError, "Give the training set as a datasets.Dataset or as Views, got list"),
    ],
)
def test_what_cannot_be_counted_is_refused(rows: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        count_of_examples(rows)
