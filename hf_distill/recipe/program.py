"""A recipe as a program: a log a person can read, and a mistake of the user's as one line."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
from collections.abc import Callable

import transformers
from safetensors import SafetensorError

from hf_distill.processes import leave_together

MISTAKES = (ValueError, KeyError, OSError, ImportError, SafetensorError)
"""What the user can mend."""

CURES = {
    "Give the student the teacher's `num_labels`": " Here the student's labels are all that occur in the label column.",
    "has nothing to teach": " Where the recipe trained it: --teacher_epochs and --teacher_learning_rate say how.",
    "No space left": " Free some space and run the same command again.",
    "Expected more than 1 value per channel when training": ". The last batch of an epoch holds a single example: "
    "run the same command with --dataloader_drop_last, or with another --per_device_train_batch_size.",
}
"""What to do about errors of others, by their words."""


def run(main: Callable[[], None]) -> None:
    """Call ``main``; what the user can mend ends the program with ``error: ...`` and exit code 2, not with a traceback.

    ``--log_level debug`` shows the traceback all the same.
    """
    logging.basicConfig(format="%(asctime)s  %(message)s", datefmt="%H:%M:%S", level=logging.WARNING)
    first = os.environ.get("RANK", "0") == "0"  # the others would only say the same again
    logging.getLogger("hf_distill").setLevel(logging.INFO if first else logging.WARNING)
    transformers.logging.set_verbosity_warning()
    print_utf8()
    try:
        main()
        leave_together()
    except KeyboardInterrupt:
        print("stopped: the same command goes on from the last checkpoint, if there is one", file=sys.stderr)
        sys.exit(130)
    except MISTAKES as error:
        if re.search(r"--log[_-]level[= ]debug", " ".join(sys.argv)):
            raise
        cure = "".join(cure for words, cure in CURES.items() if words in said(error))
        print(f"error: {said(error)}{cure}", file=sys.stderr)
        sys.exit(2)


def said(error: BaseException) -> str:
    """What an error says, without the quotes that a ``KeyError`` puts around it."""
    return str(error.args[0] if isinstance(error, KeyError) and error.args else error)


def print_utf8() -> None:
    """Print in UTF-8, as all files are written: the code pages that Windows has for redirected output lack ``‖``."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
