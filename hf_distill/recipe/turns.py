"""One run at a time in a folder: whoever comes second is refused, or waits."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from accelerate import PartialState
from filelock import FileLock, Timeout
from transformers import TrainingArguments

logger = logging.getLogger(__name__)

LOCK_FILE = "_lock"
"""Who holds it counts, not whether it is there: a process that was killed holds nothing."""

_locks: dict[Path, FileLock] = {}
"""One for each folder, which this process may take several times."""


def take_folder(args: TrainingArguments) -> None:
    """Take ``args.output_dir`` for as long as this process lives.

    Raises:
        ValueError: another process has taken it, or trains there.
    """
    if args.process_index == 0:
        _acquire(Path(args.output_dir), patience=0)


@contextlib.contextmanager
def turn(args: TrainingArguments) -> Iterator[None]:
    """Wait until no other process is at work in ``args.output_dir``, and keep others waiting until this is left.

    Where several processes wait for the first one, they would give up after ``ddp_timeout``: it does after half of it.

    Raises:
        ValueError: it gave up.
    """
    lock = None
    if args.process_index == 0:
        lock = _acquire(Path(args.output_dir), patience=args.ddp_timeout / 2 if args.world_size > 1 else -1)
    try:
        PartialState().wait_for_everyone()
        yield
        PartialState().wait_for_everyone()
    finally:
        if lock:
            lock.release()


def _acquire(folder: Path, patience: float) -> FileLock | None:
    """The lock of a folder; none where none can be made.

    Args:
        folder: It is made if it is not there.
        patience: Seconds to wait for it, -1 for as long as it takes.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        new = FileLock(folder / LOCK_FILE, thread_local=False, fallback_to_soft=False)
        lock = _locks.setdefault(folder.resolve(), new)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if patience:
                logger.info("Another run is at work in %s: waiting until it has ended.", folder)
            lock.acquire(timeout=patience)
    except Timeout:
        raise ValueError(
            f"Another run is at work in {folder}. Wait until it has ended, or choose another --output_dir, and another "
            "--shared_dir if there is one. (A notebook that ran a recipe holds its folder until the kernel is "
            "restarted; --ddp_timeout says how long several processes wait.)"
        ) from None
    except (OSError, NotImplementedError) as error:  # it is read-only, or this file system knows no locks
        logger.info("%s cannot be locked (%s): start no second run there.", folder, error)
        return None
    return lock
