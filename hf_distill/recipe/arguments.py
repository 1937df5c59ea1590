"""The command line of a recipe: its own flags, every training argument, and presets."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import HfArgumentParser, TrainingArguments

EXCLUDED_BY = {"bf16": "fp16", "fp16": "bf16"}
"""Flags that cannot both be true: the one that a preset sets gives way to the one on the command line."""


NOT_HEEDED = {
    "seed": "Give one or more with --seeds; each has a student and a control.",
    "resume_from_checkpoint": "The same command, given again, goes on from the last checkpoint by itself.",
    "load_best_model_at_end": "The last epoch counts, for teacher, student and control alike, so that none is chosen "
    "by the data that it is judged by.",
    "teacher_dtype": "The teacher stays in the precision that it was saved in; --bf16 lets it compute in bfloat16.",
}
"""Arguments of the trainer that a recipe does not go by, and what to do instead. ``--help`` leaves them out."""


@dataclasses.dataclass(frozen=True)
class Preset:
    """Defaults that go together.

    Args:
        help: What it does, what it needs and how long it takes.
        settings: Flag names, without dashes, to the values that stand in for their defaults.
    """

    help: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def parse(
    types: Sequence[type[Any]],
    presets: Mapping[str, Preset],
    argv: Sequence[str] | None = None,
    description: str | None = None,
) -> tuple[Any, ...]:
    """Parse a command line into dataclasses. ``--preset NAME`` changes defaults only, so an explicit flag wins.

    Args:
        types: Dataclasses whose fields become flags. ``--help`` shows them in this order, transformers' own last.
        presets: By name; the first one counts where none is named.
        argv: The command line without the program; that of the process if left out.
        description: What ``--help`` says on top, such as the recipe's docstring.

    Returns:
        One instance of each dataclass. An unknown flag or preset ends the program with a message and exit code 2.

    Raises:
        KeyError: a preset sets a flag that no dataclass has.
        ValueError: a dataclass refuses a value.

    Example:
        >>> @dataclasses.dataclass
        ... class Arguments:
        ...     epochs: int = 3
        ...     rate: float = 0.1
        >>> presets = {"full": Preset("All of it."), "quick": Preset("A taste.", {"epochs": 1, "rate": 0.5})}
        >>> parse([Arguments], presets, ["--preset", "quick", "--rate", "0.2"])
        (Arguments(epochs=1, rate=0.2),)
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    usage = "%(prog)s [--preset NAME] [--FLAG VALUE ...]"
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, usage=usage)
    first = next(iter(presets))
    chooser.add_argument("--preset", choices=list(presets), default=first, help="A set of defaults, described above.")
    parser = _RecipeParser(
        types, parents=[chooser], allow_abbrev=False, usage=usage, description=_described(description, presets)
    )
    preset = presets[chooser.parse_known_args([word for word in arguments if word not in ("-h", "--help")])[0].preset]
    if unknown := sorted(preset.settings.keys() - parser.names()):
        raise KeyError(f"A preset sets {unknown}, but there are no such flags.")
    said = {word.split("=")[0].lstrip("-").replace("-", "_") for word in arguments if word.startswith("--")}
    parser.set_defaults(**{name: value for name, value in preset.settings.items() if EXCLUDED_BY.get(name) not in said})
    *parsed, _, rest = parser.parse_args_into_dataclasses(
        arguments, return_remaining_strings=True, look_for_args_file=False
    )
    if rest:
        close = difflib.get_close_matches(rest[0].split("=")[0].lstrip("-").replace("-", "_"), parser.names())
        hint = f"; did you mean {' or '.join(f'--{name}' for name in close)}?" if close else "; see --help."
        parser.error(f"unknown argument {rest[0]}{hint}")
    return tuple(parsed)


def parse_seeds(text: str) -> list[int]:
    """The seeds of ``--seeds 0,1,2``.

    Raises:
        ValueError: they are no whole numbers, or one stands there twice.

    Example:
        >>> parse_seeds("0,1, 2")
        [0, 1, 2]
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words) or len(set(map(int, words))) < len(words):
        raise ValueError(
            f"--seeds takes different whole numbers with commas between them, such as 0,1,2; got {text!r}."
        )
    return [int(word) for word in words]


class _RecipeParser(HfArgumentParser):
    """Help in sections: the recipe's own flags, those of distillation, then transformers' training arguments."""

    def names(self) -> set[str]:
        return {action.dest for action in self._actions}

    def format_help(self) -> str:
        formatter = _Help(self.prog, max_help_position=30, width=min(shutil.get_terminal_size().columns, 110))
        formatter.add_usage(self.usage, [], [])
        formatter.add_text(self.description)
        inherited = {field.name for field in dataclasses.fields(TrainingArguments)}
        chosen: dict[str, list[argparse.Action]] = {"this recipe": [], "distillation": [], "training": []}
        own = [one for one in self.dataclass_types if not issubclass(one, TrainingArguments)]
        recipe = {field.name for one in own for field in dataclasses.fields(one)} | {"preset", "help"}
        for action in self._actions:
            if not action.option_strings[0].startswith("--no_") and action.dest not in NOT_HEEDED:
                name = action.dest
                title = "training" if name in inherited else "this recipe" if name in recipe else "distillation"
                chosen[title].append(action)
        chosen["transformers.TrainingArguments"] = chosen.pop("training")
        for title, actions in chosen.items():
            if actions:
                formatter.start_section(title)
                formatter.add_arguments(actions)
                formatter.end_section()
        return formatter.format_help()


class _Help(argparse.RawDescriptionHelpFormatter):
    """The description as it is written; one spelling of each flag; defaults where they say something."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        flag = action.option_strings[-1 if "-h" in action.option_strings else 0]
        if action.nargs == 0:
            return flag
        if action.choices is not None:
            choices = [str(choice) for choice in action.choices]
            return f"{flag} {{{','.join(choices)}}}" if len(choices) <= 5 else f"{flag} NAME"
        if action.const is True:
            return f"{flag} [true|false]"
        kind = {"int": "N", "float": "X"}.get(getattr(action.type, "__name__", ""), "VALUE")
        return f"{flag} {action.metavar or kind}"

    def _get_help_string(self, action: argparse.Action) -> str:
        text = " ".join((action.help or "").split())
        silent = action.default in (None, "", argparse.SUPPRESS) or not action.option_strings or action.nargs == 0
        return text if silent else f"{text} (default: %(default)s)"


def _described(description: str | None, presets: Mapping[str, Preset]) -> str:
    width = max(map(len, presets))
    lines = [f"  {name:<{width}}  {preset.help}" for name, preset in presets.items()]
    return "\n".join([(description or "").strip(), "", "presets (the first is what runs without --preset):", *lines])
