"""What the student's collator is shown of the rows, and what a data worker gets."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from test_teachers import ITS, MINE

from hf_distill import ColumnTeacher, EnsembleTeacher, ModelTeacher
from hf_distill.batches import TEACHER_INPUTS, TeacherCollator
from hf_distill.teachers import Teacher

ROWS = [{"text": "a good film", "soft": [0.0, 1.0], "labels": 1}, {"text": "bad", "soft": [1.0, 0.0], "labels": 0}]
BERT = frozenset({"input_ids", "attention_mask", "labels"})


def tokenized(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What a collator makes of texts, and passes on of the rest."""
    others = {name: torch.tensor([row[name] for row in rows]) for name in rows[0] if name != "text"}
    return {**MINE([row["text"] for row in rows], padding=True, return_tensors="pt"), **others}


def own(seed: int = 1) -> ModelTeacher:
    return ModelTeacher(tiny.bert(labels=2, seed=seed), ITS, ["text"])


def test_a_collator_may_make_the_inputs_from_what_a_teacher_reads_too() -> None:
    collator = TeacherCollator(tokenized, {"own": own(), "column": ColumnTeacher("soft")}, BERT)
    batch = collator(ROWS)
    assert batch.keys() == {"input_ids", "attention_mask", "labels", TEACHER_INPUTS}
    assert torch.equal(batch["input_ids"], MINE(["a good film", "bad"], padding=True, return_tensors="pt").input_ids)
    assert batch[TEACHER_INPUTS].keys() == {"own", "column"}


@pytest.mark.parametrize("student", [BERT, frozenset({"args", "kwargs"})])  # the second is a compiled one's
def test_where_there_are_inputs_only_teachers_see_the_text(student: frozenset[str]) -> None:
    shown: list[dict[str, Any]] = []
    collator = TeacherCollator(lambda rows: {"rows": shown.extend(rows)}, {"own": own()}, student)
    collator([{"input_ids": [5], **row} for row in ROWS])
    assert [row.keys() for row in shown] == [{"input_ids", "soft", "labels"}] * 2


class Reader(Teacher):
    """Looks up its answers by what another teacher reads."""

    name, raw_columns = "reader", frozenset({"input_ids", "token_type_ids"})

    def __call__(self, inputs: Any) -> Any:
        pytest.fail("asked")


def test_a_teacher_keeps_what_another_looks_up_and_the_student_does_not_read() -> None:
    collator = TeacherCollator(lambda rows: rows[0], {"kept": Reader(), "live": ModelTeacher(tiny.bert())}, BERT)
    assert collator([{"input_ids": [5, 6], "token_type_ids": [0, 1]}])["token_type_ids"] == [0, 1]


def test_a_data_worker_gets_no_model(tmp_path: Path) -> None:
    collator = TeacherCollator(tokenized, {"one": own(), "both": EnsembleTeacher([own(1), own(2)])}, BERT)
    weights = sum(parameter.nbytes for parameter in own().parameters())
    sent = pickle.dumps(collator)
    assert len(sent) < weights
    found, expected = (made(ROWS)[TEACHER_INPUTS] for made in (pickle.loads(sent), collator))
    assert str(found) == str(expected)
    assert all(teacher.models() for teacher in collator.teachers.values()), "those of the trainer keep theirs"
