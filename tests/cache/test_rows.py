"""Which rows a process of a build takes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset

from hf_distill.cache import rows as rows_module
from hf_distill.cache.keys import Keys, keys_of_dataset
from hf_distill.cache.rows import shared_out, unanswered
from hf_distill.cache.store import AnswerStore

IDENTITY = {"format": 1, "dtype": "float32", "top_k": None, "features": [], "name": "t", "teacher": {"weights": "a"}}


def process(index: int, count: int) -> Any:
    return SimpleNamespace(process_index=index, num_processes=count)


@pytest.mark.parametrize(("rows", "processes"), [(1, 1), (60, 2), (61, 3), (2, 5), (25_000, 1), (700_000, 64)])
def test_each_row_has_one_process_and_all_have_about_as_many(rows: int, processes: int) -> None:
    parts = [shared_out(rows, process(index, processes)) for index in range(processes)]
    assert sorted(row for part in parts for block in part for row in block) == list(range(rows))
    assert max(len(block) for part in parts for block in part) <= 10_000
    sizes = [sum(map(len, part)) for part in parts]
    assert max(sizes) - rows / processes <= len(parts[0])


def test_a_process_hashes_its_own_rows_only_and_its_batches_are_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[int] = []

    def counted(dataset: Dataset, columns: Collection[str]) -> Iterator[Keys]:
        for keys in keys_of_dataset(dataset, columns):
            hashed.append(len(keys))
            yield keys

    monkeypatch.setattr(rows_module, "keys_of_dataset", counted)
    lengths = [1 + row % 7 for row in range(30)]
    rows = Dataset.from_dict({"input_ids": [[row] * length for row, length in enumerate(lengths)]})
    store, bar = AnswerStore(tmp_path, IDENTITY), SimpleNamespace(update=lambda _: None)
    batches = [list(unanswered(rows, store, {"input_ids"}, 5, process(index, 3), bar)) for index in range(3)]
    assert hashed == [10, 10, 10]
    for index, part in enumerate(batches):
        assert [len(batch) for batch in part] == [5, 5]
        found = [row for batch in part for row in batch]
        assert sorted(found) == list(range(10 * index, 10 * index + 10))
        assert [lengths[row] for row in found] == sorted((lengths[row] for row in found), reverse=True)
