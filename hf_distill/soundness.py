"""Is what is installed sound? Asked when the package is imported, before anything else fails over it in riddles."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

from hf_distill.environment import version_of

PACKAGE = "torchvision"


def check_torchvision() -> None:
    """Raise where torchvision is there but cannot be imported.

    transformers imports it wherever it is installed, for models of texts too, and where that fails it says that
    ``PreTrainedModel`` cannot be imported. A wheel of torchvision fits the very build of PyTorch that it was made for:
    the one on PyPI fails beside a PyTorch for the CPU alone, even of the right version.

    Raises:
        ImportError: the message names both versions and the cure.
    """
    if find_spec(PACKAGE) is None:
        return
    try:
        importlib.import_module(PACKAGE)
    except Exception as error:  # of any kind: RuntimeError, OSError and ImportError have been seen
        raise ImportError(
            f"{PACKAGE} {version_of(PACKAGE)} is installed but cannot be imported beside torch {version_of('torch')} "
            f"({type(error).__name__}: {error}), and without it transformers loads no model. Install the pair that "
            f"belongs together, from one place; or `pip uninstall {PACKAGE} timm`: nothing here needs them but models "
            "of timm."
        ) from error
