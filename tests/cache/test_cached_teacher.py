"""What was kept of tokens lies where the tokens of the batch do."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from cached_runs import pad, ragged

from hf_distill import cache_teacher
from hf_distill.cache import cached_teacher

LAYER = "bert.encoder.layer.0"


def test_tokens_lie_where_the_mask_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, files_searched = ragged(rows=4), []
    teacher = cache_teacher(rows, tiny.bert(), tmp_path, data_collator=pad, features=[LAYER])
    search = cached_teacher.AnswerStore.find
    monkeypatch.setattr(
        cached_teacher.AnswerStore, "find", lambda *args: (files_searched.append(args), search(*args))[1]
    )
    kept = teacher.collate([rows[row] for row in range(4)])
    assert len(files_searched) == 1
    single = [teacher.collate([rows[row]])["cached_features"][LAYER][0, :-1] for row in range(4)]
    assert [len(tokens) for tokens in single] == [3, 4, 5, 6]
    mask = torch.zeros(4, 9, dtype=torch.int64)
    mask[0, :3] = mask[1, -4:] = mask[2, 1:6] = mask[3, [0, 1, 2, 5, 6, 8]] = 1  # right, left, both, holes
    placed = teacher({"attention_mask": mask, **kept}).features[LAYER]
    assert placed.shape == (4, 9, 16)
    for example, tokens in enumerate(single):
        assert torch.equal(placed[example][mask[example].bool()], tokens)
    assert not placed[mask == 0].any()


def test_a_token_that_was_not_kept_is_no_number(tmp_path: Path) -> None:
    rows = ragged(rows=2)
    teacher = cache_teacher(rows, tiny.bert(), tmp_path, data_collator=pad, features=[LAYER])
    mask = torch.ones(2, 6, dtype=torch.int64)
    placed = teacher({"attention_mask": mask, **teacher.collate([rows[0], rows[1]])}).features[LAYER]
    assert placed.isnan().any(dim=-1).tolist() == [[False] * 3 + [True] * 3, [False] * 4 + [True] * 2]
