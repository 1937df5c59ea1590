"""Where the text comes from: a dataset on the Hub, or Parquet, CSV and JSON lines on the disk."""

from __future__ import annotations

import difflib
import glob
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, DatasetDict

from hf_distill.recipe.reach import hub_reachable
from hf_distill.redaction import first_line

logger = logging.getLogger(__name__)

READERS = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json"}
SPLIT_WORDS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip


def load_splits(name: str, flag: str = "--dataset") -> DatasetDict:
    """Load the splits ``train``, ``validation`` and ``test``, as far as there are any.

    Args:
        name: A dataset on the Hub, with a configuration after a colon where it has several (``nyu-mll/glue:sst2``);
            a folder with ``train``, ``validation`` (or ``dev``, ``valid``) and ``test`` as files or as folders of
            files; or one file. Files are Parquet, CSV, TSV, JSON or JSON lines. A name that exists on the disk is
            taken from there.
        flag: What messages call it.

    Returns:
        The splits, with at least ``train``, none of them empty.

    Raises:
        FileNotFoundError: there is no such file, folder or dataset; the message names near ones.
        ConnectionError: it would have to come from the Hub, which cannot be reached.
        ValueError: a file cannot be read, or a split is missing or empty.
    """
    path = Path(name).expanduser()
    return in_order(name, _from_disk(path) if name.strip() and path.exists() else _from_hub(name, flag))


def in_order(name: str, splits: Mapping[str, Dataset]) -> DatasetDict:
    """The splits ``train``, ``validation`` and ``test``.

    Args:
        name: What messages call the data.
        splits: By name.

    Raises:
        ValueError: there is no training split, or a split is empty.
    """
    if "train" not in splits:
        raise ValueError(
            f"{name} has no training split, only {', '.join(splits)}. Name one of its files or folders `train`."
        )
    for split, rows in splits.items():
        if len(rows) == 0:
            raise ValueError(f"The {split} split of {name} is empty: fill it, or leave it out.")
    return DatasetDict({split: splits[split] for split in ("train", "validation", "test") if split in splits})


# ---- From the disk ----


def _from_disk(path: Path) -> dict[str, Dataset]:
    if path.is_file():
        return {"train": _read([path], "train")}
    files = _files_by_split(path)
    return {split: _read(found, split) for split, found in files.items()}


def _files_by_split(folder: Path) -> dict[str, list[Path]]:
    """The data files of a folder by split: named after it (``train-00000.parquet``) or in a folder that is."""
    found: dict[str, list[Path]] = {}
    files = sorted(file for file in folder.glob("**/*") if file.is_file() and file.suffix.lower() in READERS)
    for file in files:
        if split := split_of(file.relative_to(folder).parts):
            found.setdefault(split, []).append(file)
    if not files:
        raise FileNotFoundError(f"{folder} holds no data: looked for files ending in {', '.join(READERS)}.")
    if not found:
        if len(files) == 1:
            return {"train": files}
        raise ValueError(
            f"Which file of {folder} is for training? Name the files train, validation and test; there are "
            f"{listed(file.name for file in files)}."
        )
    if left := sorted(set(files).difference(*found.values())):
        names = listed(str(file.relative_to(folder)) for file in left)
        logger.warning("%s: %d files are left out, as their names name no split: %s.", folder, len(left), names)
    return found


def split_of(parts: Iterable[str]) -> str | None:
    """The split that a relative path names, innermost last: ``("train", "part-0.csv")``, ``("dev.jsonl",)``."""
    for part in reversed(list(parts)):
        word = part.lower().split(".")[0].replace("_", "-").split("-")[0]
        if word in SPLIT_WORDS:
            return SPLIT_WORDS[word]
    return None


def _read(files: list[Path], split: str) -> Dataset:
    endings = {file.suffix.lower() for file in files}
    ending = endings.pop()
    if endings or ending not in READERS:
        raise ValueError(
            f"Cannot tell how to read {listed(file.name for file in files)}: give files of one kind, one of "
            f"{', '.join(READERS)}."
        )
    options: dict[str, Any] = {}
    if READERS[ending] == "csv":
        # Only an empty field is missing; "null", "none" and "NA" are words that a text may consist of.
        options = {"keep_default_na": False, "na_values": [""], "sep": "\t" if ending == ".tsv" else ","}
    if empty := [file for file in files if file.stat().st_size == 0]:
        raise ValueError(f"{empty[0]} is empty (0 bytes).")
    names = [glob.escape(str(file)) for file in files]  # they are taken for patterns
    try:
        loaded = datasets.load_dataset(READERS[ending], data_files={split: names}, **options)
        part: Dataset = loaded[split]
    except PermissionError:
        raise
    except (OSError, ValueError, TypeError, datasets.exceptions.DatasetGenerationError) as error:
        cause = error.__cause__ or error
        if "corresponds to no data" in str(cause):  # as the library says it of a file with a header and no rows
            return Dataset.from_dict({})
        raise ValueError(
            f"Cannot read {listed(str(file) for file in files)} ({type(cause).__name__}: {first_line(cause)}). Is "
            "it complete, and what its ending says it is? Tables of text must be UTF-8."
        ) from error
    if READERS[ending] == "csv" and len(part.column_names) == 1 and ";" in part.column_names[0]:
        raise ValueError(f"{listed(file.name for file in files)}: columns must be separated by commas, not by `;`.")
    return part


# ---- From the Hub ----


def _from_hub(name: str, flag: str) -> dict[str, Dataset]:
    instead = "it may be left out" if flag == "--unlabelled" else "--preset quick needs no data set at all"
    cure = f"{flag} {'NAME=' if flag == '--tasks' else ''}PATH takes a local file or folder, and {instead}"
    near = nearest_paths(Path(name).expanduser())
    if _can_only_be_a_path(name):
        raise FileNotFoundError(f"There is no file or folder {name}{near}. {cure}.")
    reachable = hub_reachable()
    repository, _, configuration = name.partition(":")
    try:
        loaded = datasets.load_dataset(repository, configuration or None)
    except (ConnectionError, FileNotFoundError) as error:
        if reachable and isinstance(error, FileNotFoundError):
            raise FileNotFoundError(
                f"There is no data set {name} on the Hub that may be read ({first_line(error)}), and no such path "
                f"here{near}. Log in with `hf auth login` if it is private or gated; {cure}."
            ) from error
        raise ConnectionError(
            f"The Hugging Face Hub cannot be reached, and {name} is neither in the local cache nor a path here{near}. "
            f"{cure}."
        ) from error
    return _main_splits(loaded)


def _main_splits(loaded: Mapping[str, Dataset]) -> dict[str, Dataset]:
    """The training, validation and test splits under these names; the first where several could be one of them."""
    chosen: dict[str, Dataset] = {}
    for name, rows in loaded.items():
        split = split_of([name])
        if split is not None and split not in chosen:
            chosen[split] = rows
            if name != split:
                logger.warning("Split %r is taken as %s.", name, split)
    return chosen or dict(loaded)


def _can_only_be_a_path(name: str) -> bool:
    return (
        name.startswith((".", "/", "~"))
        or Path(name).is_absolute()
        or Path(name).suffix.lower() in READERS
        or name.count("/") > 1
        or not name.strip()
    )


def nearest_paths(path: Path) -> str:
    """What to say of names like this one in the same folder; nothing where there are none."""
    parent = path.parent
    if not parent.is_dir():
        return ""
    close = difflib.get_close_matches(path.name, sorted(entry.name for entry in parent.iterdir()), cutoff=0.5)
    return (
        f"; near it {'is' if len(close) == 1 else 'are'} {listed(str(parent / name) for name in close)}"
        if close
        else ""
    )


def listed(names: Iterable[str], most: int = 8) -> str:
    """The first of these names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
