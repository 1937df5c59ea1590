"""The codes by which the Hub knows licences and languages; it refuses a card with any other."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

_LICENSES = """
afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0
cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0
cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2
fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 grok2-community h-research intel-research isc lgpl
lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by
ofl-1.1 openmdw-1.0 openrail openrail++ osl-3.0 other pddl postgresql unknown unlicense wtfpl zlib
"""
LICENSES = frozenset(_LICENSES.split())
"""https://huggingface.co/docs/hub/repositories-licenses"""

_LANGUAGES = """
aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo
es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg
ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn
no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss st su sv sw
ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
LANGUAGES = frozenset(_LANGUAGES.split())
"""ISO 639-1. Those of three letters, from 639-2 and 639-3, are thousands, and only their form is checked."""


def check_license(license: str | None) -> None:
    """Raise where the Hub knows no such licence.

    Raises:
        ValueError: the message names near ones.

    Example:
        >>> check_license("Apache 2")
        Traceback (most recent call last):
            ...
        ValueError: The Hub knows no licence 'Apache 2'; did you mean apache-2.0? Any other is 'other'.
    """
    if license is None or license in LICENSES:
        return
    close = difflib.get_close_matches(re.sub(r"[\s_]+", "-", license.lower()), sorted(LICENSES), cutoff=0.5)
    near = f"did you mean {' or '.join(close)}?" if close else "its names are such as apache-2.0 and mit."
    raise ValueError(f"The Hub knows no licence {license!r}; {near} Any other is 'other'.")


def check_language(codes: str | Sequence[str] | None) -> None:
    """Raise where something is no code of a language.

    Raises:
        ValueError: the message says what one looks like.

    Example:
        >>> check_language(["en", "English"])
        Traceback (most recent call last):
            ...
        ValueError: 'English' is no code of a language: give those of ISO 639, such as en or deu, or 'multilingual'.
    """
    for code in [codes] if isinstance(codes, str) else codes or ():
        if code not in LANGUAGES and not re.fullmatch("[a-z]{3}|code|multilingual", code):
            raise ValueError(
                f"{code!r} is no code of a language: give those of ISO 639, such as en or deu, or 'multilingual'."
            )
