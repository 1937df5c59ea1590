"""The codes of licences and languages."""

from __future__ import annotations

import pytest

from hf_distill.hub_codes import LANGUAGES, LICENSES, check_language, check_license


@pytest.mark.parametrize("license", [None, "apache-2.0", "cc-by-nc-sa-4.0", "openrail++", "other"])
def test_the_hubs_licences_are_taken(license: str | None) -> None:
    check_license(license)


@pytest.mark.parametrize(
    ("license", "near"),
    [("Apache 2", "apache-2.0"), ("MIT", "mit"), ("gpl3", "gpl-3.0"), ("cc by 4.0", "cc-by-4.0"), ("", "such as")],
)
def test_another_is_refused_with_the_nearest(license: str, near: str) -> None:
    with pytest.raises(ValueError, match=rf"The Hub knows no licence '{license}'.*{near}.*'other'"):
        check_license(license)


def test_languages_are_codes() -> None:
    assert (len(LICENSES), len(LANGUAGES)) == (82, 185)
    check_language(None)
    check_language("en")
    check_language(["de", "deu", "code", "multilingual"])
    for word in ("English", "EN", "jp", "en-US", ""):
        with pytest.raises(ValueError, match="ISO 639"):
            check_language(["en", word])
