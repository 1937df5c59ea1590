"""Do teacher and student mean the same words by the same numbers?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerBase


def check_vocabulary(
    name: str, vocabulary: Mapping[str, Any], config: PreTrainedConfig, processing_class: object
) -> None:
    """Refuse a teacher that would read the student's token ids as other words.

    Args:
        name: The teacher's.
        vocabulary: Its ``size``, and a hash of its ``words`` where they are known; empty where it shares no tokens.
        config: The student's.
        processing_class: The student's tokenizer, where it has one.

    Raises:
        ValueError: the two differ; the message says what to do.
    """
    if not vocabulary:
        return
    cure = (
        "Pass teacher_model=ModelTeacher(model, processing_class=TOKENIZER, text_columns=[...]) and keep the text "
        "columns in the dataset, so that each example is tokenized again for the teacher; or, if the tokenizers "
        "are the same, ModelTeacher(model, processing_class=TOKENIZER)."
    )
    size = getattr(config, "vocab_size", None)
    if size is not None and vocabulary["size"] != size:
        raise ValueError(
            f"Teacher {name!r} knows {vocabulary['size']} tokens and the student {size}, so the teacher would read "
            f"the student's token ids as other words. {cure}"
        )
    words = words_fingerprint(processing_class)
    if words is not None and vocabulary["words"] not in (None, words):
        raise ValueError(f"Teacher {name!r} and the student have different tokenizers. {cure}")


def words_fingerprint(tokenizer: object) -> str | None:
    """A hash of which number stands for which word; ``None`` where there is no tokenizer."""
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        return None
    return hashlib.sha256(json.dumps(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()[:16]
