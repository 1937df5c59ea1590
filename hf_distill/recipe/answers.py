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
from hf_distill.example_ids import EXAMPLE_ID
from hf_distill.image_views import stored_rows
from hf_distill.teachers import Teacher
from hf_distill.training_args import DistillationTrainingArguments

logger = logging.getLogger(__name__)

AUTO, OFF = "auto", "off"


def usable_cache(cache: str, hindrance: str | None) -> str:
    """What ``--teacher_cache`` says, or ``off`` for ``auto`` where something is in the way.

    Args:
        cache: A folder, ``auto`` or ``off``.
        hindrance: Why answers cannot be kept, and what to do about it; ``None`` where they can.

    Raises:
        ValueError: something is in the way of a folder that somebody named.
    """
    if hindrance is None or cache == OFF:
        return cache
    if cache != AUTO:
        raise ValueError(f"--teacher_cache {cache} cannot be used: {hindrance}")
    return OFF


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
        args: For the device, the batch size, bfloat16 and the number of data workers.
        collator: Makes batches of the rows.
        cache: A folder, ``auto`` or ``off``.
        folder: Where ``auto`` keeps the answers: one folder for each teacher, precision, kind of rows and features.
        features: Paths of the teacher's modules whose output is kept as well.
    """
    if cache == OFF:
        return teacher
    columns = sorted({*getattr(stored_rows(rows), "column_names", ())} - {EXAMPLE_ID})
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
        num_workers=args.dataloader_num_workers,
    )
