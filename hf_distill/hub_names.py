"""Names that may be on the Hub, or on this machine: which they are, and how a card shows them."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

HUB_ID = re.compile(r"(?!.*(?:--|\.\.))\w[\w.-]{0,95}(?:/\w[\w.-]{0,95})?", re.ASCII)
DATA_FILES = {".parquet", ".csv", ".json", ".jsonl", ".arrow"}


def hub_id(name: str) -> str | None:
    """The name if it can be one on the Hub, ``None`` if it is a local file or folder or no valid name.

    Example:
        >>> hub_id("org/name"), hub_id("/home/anna/model"), hub_id("train.csv")
        ('org/name', None, None)
    """
    is_file = Path(name).suffix.lower() in DATA_FILES
    return name if HUB_ID.fullmatch(name) and not is_file and not Path(name).exists() else None


def hub_dataset(name: str, known: Collection[str] = ()) -> tuple[str | None, str | None]:
    """Repository and configuration of a data set on the Hub; ``None`` where the name may be anything else.

    Args:
        name: ``owner/name`` or ``owner/name:configuration``. A single word may be a folder that was elsewhere.
        known: Repositories that are on the Hub, whether or not they have an owner.

    Example:
        >>> hub_dataset("nyu-mll/glue:sst2"), hub_dataset("my-reviews"), hub_dataset("imdb", ["imdb"])
        (('nyu-mll/glue', 'sst2'), (None, None), ('imdb', None))
    """
    repository, _, configuration = name.partition(":")
    is_there = hub_id(repository) and ("/" in repository or repository in known)
    return (repository, configuration or None) if is_there else (None, None)


def link(name: str, kind: str = "") -> str:
    """A link to the Hub where the name has an owner and is not local; else the name in plain words."""
    if "/" in name and hub_id(name):
        return f"[{name}](https://huggingface.co/{kind}{name})"
    return plain_name(name)


def data_link(name: str) -> str:
    """The same for a data set, with its configuration."""
    repository, configuration = hub_dataset(name)
    return link(repository or name, "datasets/") + (f", configuration {configuration}" if configuration else "")


def plain_name(name: str) -> str:
    """The last part of a local path; anything else as it is."""
    is_local = name.startswith("path/to/") or Path(name).exists() or Path(name).suffix.lower() in DATA_FILES
    return f"{Path(name).name} (local)" if is_local else name
