"""A teacher's answers, kept between the runs of a recipe."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import transformers

from hf_distill.cache import cache_teacher
from hf_distill.image_views import stored_rows
from hf_distill.teachers import Teacher
from hf_distill.training_args import DistillationTrainingArguments

logger = logging.getLogger(__name__)

AUTO, OFF = "auto", "off"


def asked_once(
    teacher: Teacher,
    rows: Any,
    args: DistillationTrainingArguments,
    *,
    collator: Callable[[list[Any]], Mapping[str, Any]],
    cache: str,
    folder: Path,
    features: Collection[str] = (),
) -> Teacher:
    """The teacher whose answers are kept, or the teacher itself where ``--teacher_cache`` is ``off``.

    Args:
        teacher: Who is asked.
        rows: The student's training set.
        args: For the device, the batch size and bfloat16.
        collator: Makes batches of the rows.
        cache: A folder, ``auto`` or ``off``.
        folder: Where ``auto`` keeps the answers: one folder for each teacher, precision, kind of rows and features.
        features: Paths of the teacher's modules whose output is kept as well.
    """
    if cache == OFF:
        return teacher
    columns = sorted(getattr(stored_rows(rows), "column_names", ()))
    about = [
        teacher.fingerprint(),
        args.bf16,
        transformers.__version__,
        columns,
        *([sorted(features)] if features else []),
    ]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    where = folder / digest if cache == AUTO else Path(cache)
    logger.info("The teacher answers %d examples, once for all runs; the answers are kept in %s.", len(rows), where)
    return cache_teacher(
        rows,
        teacher,
        where,
        data_collator=collator,
        batch_size=args.eval_batch_size,
        bf16=args.bf16,
        features=features,
        device=args.device,
    )
