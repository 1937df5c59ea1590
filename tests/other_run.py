"""Stands for another process that is at work in a folder: the lock of a file handle of its own."""

from __future__ import annotations

import fcntl
from pathlib import Path

from hf_distill.recipe.turns import LOCK_FILE


class OtherRun:
    """Takes a folder.

    Args:
        folder: Where it is at work.
    """

    def __init__(self, folder: Path) -> None:
        self.file = (folder / LOCK_FILE).open("w")
        self.take()

    def take(self) -> None:
        """Take it again.

        Raises:
            BlockingIOError: someone else has it.
        """
        fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def leave(self) -> None:
        """End the work."""
        fcntl.flock(self.file, fcntl.LOCK_UN)
