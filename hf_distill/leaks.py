"""Whether a file that is about to be published tells a secret, or on whose machine it was made."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hf_distill.redaction import HUB_TOKEN, LOGIN, OUTSIDE_PATH, SECRET, SECRET_FLAG

SECRET_NAME = re.compile(rf"(?i)(?:^|[_-]){SECRET}$")
SPECIAL_TOKENS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
"""Here ``</s>`` is no path, and ``pad_token`` no secret."""

RANDOM = re.compile(r"(?=[\w./+-]*\d)[\w./+-]{16,}")
"""A key, rather than ``None`` or ``os.environ``: long, without spaces or brackets, and with a digit."""


def leaks(text: str, name: str, places: Sequence[Path] = (), class_names: Sequence[str] = ()) -> list[str]:
    """What a text tells that it should not, in words; the secrets themselves are not repeated.

    Tokens and keys are looked for everywhere, and so is all that lies below ``places``. In JSON every string must be as
    :func:`~hf_distill.redaction.redacted` leaves it, without a path that leads out of the working directory.

    Args:
        text: The file's content.
        name: Its name.
        places: Folders of this machine, such as the home directory.
        class_names: May look like paths: ``/m/01g317`` is a class of Open Images.

    Example:
        >>> leaks('{"base_model_name_or_path": "/mnt/firm/models/base"}', "adapter_config.json")
        ['the local path /mnt/firm/models/base']
    """
    secret = HUB_TOKEN.search(text) or LOGIN.search(text) or any(map(_is_random, SECRET_FLAG.finditer(text)))
    found = ["a token or key"] if secret else []
    found += [f"the local path {place}/" for place in places if len(place.parts) > 1 and _below(place).search(text)]
    if name.endswith(".json"):
        for key, value in _strings(_parsed(text, name)):
            if value not in class_names:
                found += _leaks_of_value(key, value, name in SPECIAL_TOKENS)
    return list(dict.fromkeys(found))


def _is_random(match: re.Match[str]) -> bool:
    return RANDOM.fullmatch(match[0][len(match[1]) :].strip("'\"`,;)")) is not None


def _below(place: Path) -> re.Pattern[str]:
    """A path below this place. Not one: ``/opt/page`` in ``https://example.org/opt/page`` and in ``runs/opt/page``."""
    return re.compile(rf"(?:(?<![\w.~/\\-])|(?<=file://)){re.escape(str(place))}[/\\]")


def _leaks_of_value(key: str, value: str, is_tokenizers: bool) -> Iterator[str]:
    if SECRET_NAME.search(key) and RANDOM.fullmatch(value):
        yield "a token or key"
    if is_tokenizers:
        whole = OUTSIDE_PATH.fullmatch(value)
        paths = [value] if whole and len(Path(value).parts) > 2 else []
    else:
        if SECRET_FLAG.sub(r"\1***", value) != value:
            yield "a token or key"
        paths = [match["quoted"] or match["bare"] for match in OUTSIDE_PATH.finditer(value)]
    yield from (f"the local path {path}" for path in paths)


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """All strings of parsed JSON, each with the name that is nearest above it."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _strings(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, key)


def _parsed(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{name} is no JSON ({error}), so nothing was sent. Is it complete?") from error
