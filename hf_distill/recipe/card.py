"""What a recipe tells the model card: what its flags say, and which of its data came from the Hub."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_distill.hub_codes import check_language, check_license
from hf_distill.hub_names import hub_id


@dataclass
class CardArguments:
    """The flags of every recipe that are for the card alone.

    Raises:
        ValueError: the Hub would refuse one of them, which is said before anything takes long.
    """

    language: str | None = field(
        default=None, metadata={"help": "For the card: language of the data, such as en; several with commas."}
    )
    license: str | None = field(
        default=None, metadata={"help": "For the card: the Hub's identifier of the student's licence."}
    )

    def __post_init__(self) -> None:
        check_license(self.license)
        check_language(_codes(self.language))

    def for_card(self, *data: str | None, language: str | None = None) -> dict[str, Any]:
        """The arguments of ``create_model_card``.

        Args:
            *data: What was given as data sets, names on the Hub or paths; what is on the disk is taken from there.
            language: Of data that the recipe knows; the flag comes first.

        Example:
            >>> CardArguments(license="mit").for_card("stanfordnlp/sst2", "/home/anna/reviews", None)
            {'language': None, 'license': 'mit', 'dataset_tags': ['stanfordnlp/sst2']}
        """
        return {
            "language": _codes(self.language or language),
            "license": self.license,
            "dataset_tags": [found for name in data if name and (found := _on_hub(name))],
        }


def _on_hub(name: str) -> str | None:
    r"""The repository, unless the whole is a path: ``C:\data`` is not the configuration of ``C``."""
    return None if Path(name).exists() else hub_id(name.partition(":")[0])


def _codes(text: str | None) -> list[str] | None:
    return [code.strip() for code in text.split(",")] if text else None
