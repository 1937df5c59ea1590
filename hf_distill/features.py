"""What a model computes inside: the outputs of its modules, by path, during one forward pass."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

Transforms: TypeAlias = Mapping[str, Callable[[Tensor], Tensor]]
"""What the output of some modules, by their paths, is replaced by."""


@contextmanager
def tapped(
    model: nn.Module, paths: Collection[str], transforms: Transforms = MappingProxyType({})
) -> Iterator[dict[str, Tensor]]:
    """Collect what some modules put out while the model runs once inside the block.

    The hooks are gone when the block ends, also after an error. A student's features carry its gradient; around a
    teacher, use ``torch.no_grad()``. Of a module that puts out several things, the first tensor is taken.

    Args:
        model: Any module, also one wrapped for several processes or compiled.
        paths: Where the modules stand in it, as in ``model.named_modules()``: ``bert.encoder.layer.0``.
        transforms: For some of these, a function of the output; the rest of the model goes on with what it returns,
            while what is collected stays what the module put out.

    Yields:
        A dict that the forward pass fills: the output of each module under its path.

    Raises:
        KeyError: there is no such module; the message names the nearest.
        ValueError: a module did not run exactly once, or puts out no tensor, or what it put out was changed afterwards,
            or it should be transformed and is more than one tensor.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> with tapped(model, ["0"]) as features:
        ...     _ = model(torch.zeros(1, 2))
        >>> features["0"].shape
        torch.Size([1, 3])
    """
    features: dict[str, Tensor] = {}
    versions: dict[str, int] = {}

    def keep(path: str) -> Callable[[nn.Module, Any, Any], Tensor | None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> Tensor | None:
            if path in features:
                raise ValueError(
                    f"Module {path!r} runs more than once in a forward pass, so that it has no single output. Choose "
                    "a module that runs once, such as the one around it."
                )
            features[path] = first_tensor(output, path)
            versions[path] = _version(features[path])
            if path not in transforms:
                return None
            if not isinstance(output, Tensor):
                raise ValueError(
                    f"Module {path!r} puts out a {type(output).__name__}, of which only one tensor would be changed on "
                    "its way through the student. Choose a module that puts out one tensor."
                )
            return transforms[path](output)

        return hook

    handles = []
    try:
        for path in sorted(set(paths)):
            handles.append(find_module(model, path).register_forward_hook(keep(path)))
        yield features
    finally:
        for handle in handles:
            handle.remove()
    for path in paths:
        if path not in features:
            raise ValueError(
                f"Module {path!r} did not run in the forward pass. Choose one that does; and if the model is compiled, "
                "leave torch_compile off, for compiled code does not see the hooks."
            )
        if _version(features[path]) != versions[path]:
            raise ValueError(
                f"The output of module {path!r} is changed in place by a later module, as nn.ReLU(inplace=True) does, "
                "so what was collected is not what the module put out. Choose that later module."
            )


def _version(tensor: Tensor) -> int:
    """How often a tensor was changed in place; PyTorch does not count it in inference mode."""
    return 0 if tensor.is_inference() else tensor._version


def find_module(model: nn.Module, path: str) -> nn.Module:
    """The module at a path, whatever the model is wrapped in.

    Raises:
        KeyError: there is none; the message names the nearest.
    """
    inner: Any = model
    while isinstance(inner, nn.Module):
        try:
            return inner.get_submodule(path)
        except AttributeError:
            # DistributedDataParallel, or torch.compile
            inner = getattr(inner, "module", None) or getattr(inner, "_orig_mod", None)
    known = [re.sub(r"^((module|_orig_mod)\.)+", "", name) for name, _ in model.named_modules() if name]
    close = difflib.get_close_matches(path, known, n=3, cutoff=0.4) or known[:3]
    raise KeyError(f"There is no module {path!r}; did you mean {' or '.join(map(repr, close))}?")


def first_tensor(output: Any, path: str) -> Tensor:
    """A module's output, or the first tensor in it where it is a tuple or a ``ModelOutput``.

    Raises:
        ValueError: there is none.
    """
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else ()
    found = next((value for value in (output, *values) if isinstance(value, Tensor)), None)
    if found is None:
        raise ValueError(f"Module {path!r} puts out no tensor but {type(output).__name__}: choose another module.")
    return found


def check_checkpointing(model: nn.Module) -> None:
    """Refuse activation checkpointing of the reentrant kind, behind which a collected feature has no gradient.

    Raises:
        ValueError: it is on.
    """
    for module in model.modules():
        function = getattr(module, "_gradient_checkpointing_func", None)
        kind = getattr(function, "keywords", {}).get("use_reentrant")
        if getattr(module, "gradient_checkpointing", False) and kind is not False:
            raise ValueError(
                "Reentrant activation checkpointing cuts the gradient of features off, without a word. Use "
                'gradient_checkpointing_kwargs={"use_reentrant": False}, or leave gradient_checkpointing off.'
            )


def check_gradient(features: Mapping[str, Tensor]) -> None:
    """Refuse features of the student through which nothing can be learned.

    Raises:
        ValueError: one has no gradient, although gradients are on.
    """
    dead = sorted(path for path, feature in features.items() if not feature.requires_grad)
    if dead and torch.is_grad_enabled():
        raise ValueError(
            f"No gradient reaches the student through {dead}: all weights up to there are frozen, or activation "
            "checkpointing hides them. Choose a later module, or let them learn."
        )


def check_no_class_scores(teacher: str, features: Mapping[str, Tensor], classes: int) -> None:
    """Refuse features of a teacher with one number for each class, where its class order is not the student's.

    A vector that is by chance as long as there are classes cannot be told from that, and is refused too.

    Args:
        teacher: What the message calls it.
        features: By the path of their module; a map of an image, ``(B, C, H, W)``, is never taken for scores.
        classes: How many there are.

    Raises:
        ValueError: there is such a feature.
    """
    scores = sorted(path for path, value in features.items() if value.dim() in (2, 3) and value.shape[-1] == classes)
    if scores:
        raise ValueError(
            f"Teacher {teacher!r} has its {classes} classes in another order than the student, and its {scores} put "
            "out one number for each class: the same place would mean different classes. Let a LogitTerm follow the "
            "logits, which are put into the student's order, or give the student the teacher's class order."
        )
