"""A teacher's answers, kept between the runs of a recipe."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import transformers

from hf_distill.cache import cache_teacher
from hf_distill.example_ids import EXAMPLE_ID
from hf_distill.image_views import stored_rows
from hf_distill.teachers import Teacher
from hf_distill.training_args import DistillationTrainingArguments

logger = logging.getLogger(__name__)

AUTO, OFF = "auto", "off"


@dataclass
class AnswerArguments:
    """The flags of every recipe that say how the teacher's answers are kept.

    Raises:
        ValueError: no answer can be kept in this way.
    """

    teacher_cache: str = field(
        default=AUTO,
        metadata={
            "help": "Folder where the teacher's answers are kept, so that it is asked once about each text or "
            "view of an image; auto for SHARED_DIR/_teacher_cache, off to ask it in every step."
        },
    )
    cache_dtype: str = field(
        default="float32", metadata={"help": "How logits are kept.", "choices": ["float32", "float16"]}
    )
    cache_top_k: int | None = field(
        default=None,
        metadata={"help": "Keep the so many largest logits alone, the rest as one mass; for hundreds of classes."},
    )

    def __post_init__(self) -> None:
        if self.cache_top_k is not None and self.cache_top_k < 1:
            raise ValueError(f"--cache_top_k must be >= 1, got {self.cache_top_k}.")
        if self.shortened() and self.teacher_cache == OFF:
            raise ValueError("--teacher_cache off keeps no answers: leave --cache_dtype and --cache_top_k out.")

    def shortened(self) -> dict[str, str]:
        """How the kept answers differ from the teacher's; empty where they do not."""
        dtype = {"kept logits": self.cache_dtype} if self.cache_dtype != "float32" else {}
        classes = {"kept classes": f"the {self.cache_top_k} likeliest"} if self.cache_top_k is not None else {}
        return {**dtype, **classes}

    def settings(self, features: Collection[str] = ()) -> dict[str, str]:
        """What a report says of the kept answers; features, where students look at them, are kept in float16."""
        return {**self.shortened(), **({"kept features": "float16"} if features and self.teacher_cache != OFF else {})}

    def check_classes(self, classes: int) -> None:
        """Raise where so many of the largest logits shall be kept that they are all of them.

        Raises:
            ValueError: there are no more classes than that.
        """
        if self.cache_top_k is not None and self.cache_top_k >= classes:
            raise ValueError(
                f"--cache_top_k {self.cache_top_k} keeps every one of the {classes} classes: leave it out, or make it "
                "smaller."
            )

    def unless(self, hindrance: str | None) -> AnswerArguments:
        """These, or with ``off`` for ``auto`` where something is in the way.

        Args:
            hindrance: Why answers cannot be kept, and what to do about it; ``None`` where they can.

        Raises:
            ValueError: something is in the way of what somebody asked for by name.
        """
        if hindrance is None or self.teacher_cache == OFF:
            return self
        if self.teacher_cache != AUTO:
            raise ValueError(f"--teacher_cache {self.teacher_cache} cannot be used: {hindrance}")
        if self.shortened():
            raise ValueError(f"--cache_dtype and --cache_top_k cannot be used: {hindrance}")
        return replace(self, teacher_cache=OFF)


def asked_once(
    teacher: Teacher,
    rows: Any,
    args: DistillationTrainingArguments,
    *,
    collator: Callable[[list[Any]], Mapping[str, Any]],
    kept: AnswerArguments,
    folder: Path,
    features: Collection[str] = (),
) -> Teacher:
    """The teacher whose answers are kept, or the teacher itself where ``--teacher_cache`` is ``off``.

    Args:
        teacher: Who is asked.
        rows: The student's training set.
        args: For the device, the batch size, bfloat16 and the number of data workers.
        collator: Makes batches of the rows.
        kept: Where and how the answers are kept, if at all.
        folder: Where ``auto`` keeps them: one folder for each teacher, precision, kind of rows, and what is kept.
        features: Paths of the teacher's modules whose output is kept as well.
    """
    if kept.teacher_cache == OFF:
        return teacher
    columns = sorted({*getattr(stored_rows(rows), "column_names", ())} - {EXAMPLE_ID})
    about = [
        teacher.fingerprint(),
        args.bf16,
        transformers.__version__,
        columns,
        *([sorted(features)] if features else []),
        *([kept.shortened()] if kept.shortened() else []),
    ]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    where = folder / digest if kept.teacher_cache == AUTO else Path(kept.teacher_cache)
    logger.info("Answers to %d examples are kept in %s; the teacher is asked for those that lack.", len(rows), where)
    return cache_teacher(
        rows,
        teacher,
        where,
        data_collator=collator,
        batch_size=args.eval_batch_size,
        bf16=args.bf16,
        dtype=getattr(torch, kept.cache_dtype),
        top_k=kept.cache_top_k,
        features=features,
        device=args.device,
        num_workers=args.dataloader_num_workers,
    )
