"""What must not be published: tokens, and paths that say whose machine it was."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SECRET = r"(?:token|password|secret|key)"
PRIVATE_NAME = re.compile(rf"(?i)(?:^|[_-]){SECRET}$|^(?:host|node|user)(?:_?name)?$")
SECRET_FLAG = re.compile(rf"(?i)(--[\w-]*{SECRET}[= ]|\b\w*{SECRET}=)(?:'[^']*'|\"[^\"]*\"|\S+)")
HUB_TOKEN = re.compile(r"\b(?:hf|api)_(?:[a-z]+_)?[A-Za-z0-9]{20,}")
"""``hf_...``, and those of organisations and of apps: ``api_org_...``, ``hf_oauth_...``."""
LOGIN = re.compile(r"://[^\s/@'\"]+:[^\s/@'\"]+@")
"""``https://anna:PASSWORD@example.org``"""
OUTSIDE = r"(?:file://|[A-Za-z]:[\\/]|~[\w.-]*[\\/]|(?:\.\.[\\/])+|[\\/]{1,2}(?=[\w.]))"
OUTSIDE_PATH = re.compile(
    rf"(?P<quote>['\"])(?P<flag>(?:--[\w-]+=)?(?:config:)?)(?P<quoted>{OUTSIDE}[^'\"]*)(?P=quote)|"
    rf"(?:(?<![\w/:.\\~-])|(?<=\bconfig:))(?P<bare>{OUTSIDE}[^\s'\"`,;)\]]*)"
)


def redacted(value: Any) -> Any:
    """A copy of plain data without tokens, and with local paths cut down to their last name.

    Relative paths below the working directory stay, so that a command remains readable.

    Args:
        value: A string, or mappings and sequences of them; numbers and the like come back unchanged.

    Example:
        >>> redacted("train.py --data /home/anna/data/sst2 --hub_token hf_123 --output_dir out/student")
        'train.py --data path/to/sst2 --hub_token *** --output_dir out/student'
    """
    if isinstance(value, str):
        text = LOGIN.sub("://***@", HUB_TOKEN.sub("***", SECRET_FLAG.sub(r"\1***", value)))
        return OUTSIDE_PATH.sub(lambda path: (path["flag"] or "") + shortened(path["quoted"] or path["bare"]), text)
    if isinstance(value, Mapping):
        return {redacted(key): redacted(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted(item) for item in value]
    return value


def public_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, redacted, without those that are named after a secret, a user or a host, however deep they lie.

    Example:
        >>> public_settings({"seed": 0, "hub_token": "hf_123", "deepspeed": {"comet": {"api_key": "x"}}})
        {'seed': 0, 'deepspeed': {'comet': {}}}
    """
    return {
        redacted(name): public_settings(value) if isinstance(value, Mapping) else redacted(value)
        for name, value in settings.items()
        if not PRIVATE_NAME.search(str(name))
    }


def shortened(path: str) -> str:
    r"""``/home/anna/data/sst2`` as ``path/to/sst2``; a home directory keeps no name at all.

    Example:
        >>> shortened("/home/anna/data/sst2"), shortened("C:\\Users\\anna")
        ('path/to/sst2', 'path/to/home')
    """
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    is_home = not parts or parts == ["root"] or parts[-1].startswith("~") or parts[-2:-1] in (["home"], ["Users"])
    return "path/to/home" if is_home else f"path/to/{parts[-1].replace(' ', '_')}"


def first_line(error: BaseException) -> str:
    """What a foreign error says, in so far as it fits into a message of ours; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
