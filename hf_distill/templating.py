"""The templates of cards and pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def template(name: str, filters: Mapping[str, Callable[[Any], str]]) -> Any:
    """A file of ``templates/``, whose ``render`` fills it in; a name in it that is not given is an error.

    Args:
        name: The file. In one that ends in ``.html`` whatever is filled in is escaped.
        filters: What it calls besides Jinja's own, by name.
    """
    environment = Environment(
        loader=PackageLoader("hf_distill"),
        autoescape=name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= filters
    return environment.get_template(name)
