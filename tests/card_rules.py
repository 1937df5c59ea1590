"""What the Hub refuses in the metadata of a model card, in so far as that is written down.

Licences: huggingface.co/docs/hub/repositories-licenses. Languages: ISO 639. The rest is what
``huggingface_hub.repocard_data`` writes and reads, and what its documentation says of each entry.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9][\w.-]{0,95})?")


def errors_of(content: str) -> list[str]:
    """One line for each mistake in the front matter of a card."""
    import yaml  # not above: the server starts with the standard library alone

    front = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
    if front is None:
        return []  # of which the Hub only warns
    return list(_errors(yaml.safe_load(front[1])))


def _errors(data: dict[str, Any]) -> Iterator[str]:
    from hf_distill.hub_codes import LANGUAGES, LICENSES

    if data.get("license", "other") not in LICENSES:
        yield f'"license" must be one of the known ones, not {data["license"]!r}'
    for code in _several(data.get("language")):
        if code not in LANGUAGES and not re.fullmatch("[a-z]{3}|code|multilingual", str(code)):
            yield f'"language" must be codes of ISO 639, not {code!r}'
    for kind in ("base_model", "datasets"):
        for name in _several(data.get(kind)):
            if not ID.fullmatch(str(name)) or "--" in name or ".." in name:
                yield f'"{kind}" must be names on the Hub, not {name!r}'
    for kind in ("tags", "metrics"):
        if not all(isinstance(one, str) for one in _several(data.get(kind))):
            yield f'"{kind}" must be words'
    for model in data.get("model-index", []):
        if not isinstance(model.get("name"), str) or not model.get("results"):
            yield '"model-index" must have a name and results'
        for result in model.get("results") or []:
            yield from _errors_of_result(result)


def _errors_of_result(result: dict[str, Any]) -> Iterator[str]:
    task, dataset, metrics = (result.get(part) or {} for part in ("task", "dataset", "metrics"))
    if not isinstance(task.get("type"), str):
        yield "A result must have a task with a type"
    if not all(isinstance(dataset.get(key), str) and dataset[key] for key in ("name", "type")):
        yield "A result must have a data set with name and type"
    elif not ID.fullmatch(dataset["type"]):
        yield f"A data set's type must be its name on the Hub, not {dataset['type']!r}"
    if not metrics:
        yield "A result must have metrics"
    for metric in metrics:
        number = isinstance(metric.get("value"), (int, float)) and not isinstance(metric["value"], bool)
        if not isinstance(metric.get("type"), str) or not number:
            yield f"A metric must have a type and a number, not {metric}"


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
