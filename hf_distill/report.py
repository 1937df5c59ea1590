"""What a comparison found: teacher, student and control, as JSON, as a table and class by class."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from hf_distill.deployment_table import deployment_lines
from hf_distill.figures import MODELS, figure, measure_rows
from hf_distill.whole_file import whole_file

FILE_NAME = "report.json"
LABEL_WIDTH, COLUMN_WIDTH = 26, 23
WIDTH = 100


@dataclass(frozen=True)
class DistillationReport:
    """The result of :func:`hf_distill.evaluation.compare`.

    ``teacher``, ``student`` and ``control`` hold ``accuracy``, ``macro_f1``, ``ece``, ``parameters``, ``size_mb``,
    ``latency_ms`` (``p50`` and ``p95``) and ``throughput_per_s``: means over the seeds, each with its sample standard
    deviation under ``<key>_std`` (``None`` for one seed). Then ``per_class`` (``precision``, ``recall``, ``f1``,
    ``support`` by class name, with ``per_class_std``), ``confusion`` and ``reliability``, from which plots are drawn.
    Those that a recipe trained may have ``training_s``, ``training_energy_wh`` and ``training_energy_of``, too.

    Args:
        teacher: The teacher's figures.
        student: The student's.
        control: Those of the same student trained without the teacher; ``None`` where there was no control.
        agreement: Share of examples that student and teacher put into the same class.
        kl_nats: Mean KL divergence from the teacher's probabilities to the student's, temperature 1.
        gap_closed: (student - control) / (teacher - control), of the mean accuracies; ``None`` without a control, or
            where the teacher is not better than it.
        examples: Number of rows.
        seeds: One for each student.
        dataset: Its name.
        split: The split that all of the above is about.
        machine: Where speed was measured.
        versions: Of Python and the libraries.
        command: What was run.
        agreement_std: Spread over seeds.
        kl_nats_std: Spread over seeds.
        gap_closed_std: Spread of each seed's own gap.
        other_splits: ``teacher`` to ``examples`` for further splits, by name.
        deployment: Size, speed and accuracy as PyTorch, ONNX and int8, as :func:`~hf_distill.deployment.deployment`
            measured them; ``None`` where nothing was exported.
        training: What a recipe knows of the trainings, ``None`` where nobody does: ``settings`` of the student's by
            name, the ``published_seed`` of the student whose files lie beside the report, and in words how the
            ``control`` was made.
    """

    teacher: dict[str, Any]
    student: dict[str, Any]
    control: dict[str, Any] | None
    agreement: float
    kl_nats: float
    gap_closed: float | None
    examples: int
    seeds: list[int]
    dataset: str
    split: str
    machine: dict[str, Any]
    versions: dict[str, str]
    command: str | None = None
    agreement_std: float | None = None
    kl_nats_std: float | None = None
    gap_closed_std: float | None = None
    other_splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    deployment: dict[str, Any] | None = None
    training: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """A copy as plain dicts, lists and numbers."""
        return asdict(self)

    def save(self, directory: str | Path) -> Path:
        """Write ``report.json`` into a directory, which is made where it is missing; whole or not at all."""
        path = Path(directory) / FILE_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.write(json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        return path

    @classmethod
    def load(cls, path: str | Path) -> DistillationReport:
        """Read a report.

        Args:
            path: ``report.json``, or the directory that holds it.

        Raises:
            FileNotFoundError: there is none.
            ValueError: the file holds something else, or a part of a report.
        """
        file = Path(path) / FILE_NAME if Path(path).is_dir() else Path(path)
        content = json.loads(file.read_text(encoding="utf-8"))
        known = {entry.name: entry.default is MISSING and entry.default_factory is MISSING for entry in fields(cls)}
        if not isinstance(content, dict) or not set(content) <= set(known):
            found = sorted(content) if isinstance(content, dict) else type(content).__name__
            raise ValueError(f"{file} is no report of hf_distill: it holds {found}, a report holds {sorted(known)}.")
        if missing := [name for name, required in known.items() if required and name not in content]:
            raise ValueError(f"{file} is no whole report: {', '.join(missing)} is missing. Run the recipe again.")
        return cls(**content)

    def of_split(self, split: str | None = None) -> Mapping[str, Any]:
        """All that is said about one split; default the main one.

        Raises:
            KeyError: there is no such split in the report.
        """
        splits = {self.split: {key: getattr(self, key) for key in _SPLIT_KEYS}, **self.other_splits}
        if (split or self.split) not in splits:
            raise KeyError(f"No split {split!r} in this report; it has {list(splits)}.")
        return splits[split or self.split]

    def title(self, split: str | None = None) -> str:
        """One line that says what the figures are about, such as ``sst2 validation: 872 examples, 3 seeds``."""
        name = f"{self.dataset.removeprefix('path/to/')} {split or self.split}".strip()
        seeds = f", {len(self.seeds)} seeds" if len(self.seeds) > 1 else ""
        return f"{name}: {self.of_split(split)['examples']:,} examples{seeds}"

    def to_table(self) -> str:
        """Teacher, student and control side by side for a terminal, at most 100 columns wide."""
        threads = f"cores: {self.machine.get('cores')}, threads: {self.machine.get('threads')}"
        lines = [
            _clipped(f"Measured on {self.machine.get('gpu') or self.machine.get('cpu')}, {threads}"),
            *self._block(self.split),
        ]
        for split in self.other_splits:
            lines += ["", *self._block(split)]
        if self.control is not None:
            lines += ["", "Gap closed = (student - control) / (teacher - control), of the mean accuracies."]
        if len(self.seeds) > 1:
            lines.append(f"Mean ± sample standard deviation over the seeds {', '.join(map(str, self.seeds))}.")
        if self.deployment is not None:
            lines += ["", *deployment_lines(self.deployment)]
        return "\n".join(lines)

    def classification_report(self, model: str = "student", split: str | None = None, digits: int = 3) -> str:
        """Precision, recall, F1 and support of each class, in the layout of scikit-learn; means over seeds.

        Args:
            model: ``"teacher"``, ``"student"`` or ``"control"``.
            split: Default the main one.
            digits: Digits after the point.

        Raises:
            KeyError: there is no such split or model in the report.
        """
        chosen = self.of_split(split)
        if model not in self.models(split):
            raise KeyError(f"No model {model!r} in this report; it has {self.models(split)}.")
        per_class, total = chosen[model]["per_class"], chosen["examples"]
        width = max(len("weighted avg"), *map(len, per_class))
        heads = "".join(f"{head:>10}" for head in ("precision", "recall", "f1-score", "support"))
        lines = [" " * (width + 1) + heads, ""]

        def line(name: str, figures: Sequence[float | None], support: int) -> str:
            cells = "".join(" " * 10 if figure is None else f"{figure:>10.{digits}f}" for figure in figures)
            return f"{name:>{width}} {cells}{support:>10}"

        columns = ("precision", "recall", "f1")
        rows = list(per_class.values())
        macro = [sum(row[key] for row in rows) / len(rows) for key in columns]
        weighted = [sum(row[key] * row["support"] for row in rows) / total for key in columns]
        lines += [line(name, [row[key] for key in columns], row["support"]) for name, row in per_class.items()]
        lines += ["", line("accuracy", [None, None, chosen[model]["accuracy"]], total)]
        lines += [line("macro avg", macro, total), line("weighted avg", weighted, total), ""]
        return "\n".join(lines)

    def models(self, split: str | None = None) -> list[str]:
        """Which of teacher, student and control there are figures of."""
        return [name for name in MODELS if self.of_split(split)[name] is not None]

    def rows(self, split: str | None = None) -> list[tuple[str, list[str]]]:
        """What a table of a split says: each measure's name, and a cell for each of :meth:`models`.

        Size and speed do not depend on the split and stand with the main one only.
        """
        chosen, models = self.of_split(split), self.models(split)
        rows = [(label, cells) for label, *cells in measure_rows(chosen, models, (split or self.split) == self.split)]
        relations = [
            ("agreement with teacher", "agreement", ".3f"),
            ("KL(teacher‖student), nats", "kl_nats", ".3f"),
            *([("gap closed", "gap_closed", ".1%")] if "control" in models else []),
        ]
        for label, key, spec in relations:
            cell = figure(chosen, key, spec)
            rows.append((label, [cell if name == "student" else "" for name in models]))
        return rows

    def notes(self, split: str | None = None) -> list[str]:
        """What must be said beside the table of a split."""
        chosen = self.of_split(split)
        return [*(_why_no_gap(chosen) if chosen["control"] is not None else []), *training_notes(chosen["student"])]

    def _block(self, split: str) -> list[str]:
        """The lines about one split."""
        models = self.models(split)
        lines = [_clipped(self.title(split)), _line("", models), "-" * (LABEL_WIDTH + COLUMN_WIDTH * len(models))]
        return [
            *lines,
            *(_line(label, cells) for label, cells in self.rows(split)),
            *(line for note in self.notes(split) for line in textwrap.wrap(note, WIDTH)),
        ]


def flag_by_flag(command: str) -> str:
    r"""A command with each of its flags on a line of its own; one with quotes stays as it is.

    Example:
        >>> print(flag_by_flag("python train.py --seeds 0,1 --bf16"))
        python train.py \
          --seeds 0,1 \
          --bf16
    """
    return command if re.search("[\"']", command) else command.replace(" --", " \\\n  --")


def training_notes(figures: Mapping[str, Any]) -> list[str]:
    """What was counted as the time and the energy of a training, where these were measured."""
    if figures.get("training_s") is None:
        return []
    time = "Training: wall time of one run with its evaluations and checkpoints, without what the teacher said before."
    if figures.get("training_energy_wh") is None:
        return [f"{time} Its energy was not measured: no counter could be read, or several processes shared the work."]
    counters = ", ".join(figures.get("training_energy_of") or [])
    return [f"{time} Its energy is what the counters of {counters} counted meanwhile, whatever else ran there."]


_SPLIT_KEYS = (
    *MODELS,
    *("agreement", "agreement_std", "kl_nats", "kl_nats_std", "gap_closed", "gap_closed_std", "examples"),
)


def _line(label: str, cells: Sequence[str]) -> str:
    return (f"{label:<{LABEL_WIDTH}}" + "".join(f"{cell:>{COLUMN_WIDTH}}" for cell in cells)).rstrip()


def _why_no_gap(chosen: Mapping[str, Any]) -> list[str]:
    if chosen["gap_closed"] is not None:
        return []
    teacher, control = chosen["teacher"]["accuracy"], chosen["control"]["accuracy"]
    return [f"No gap to close: the teacher's accuracy ({teacher:.3f}) is not above the control's ({control:.3f})."]


def _clipped(text: str) -> str:
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"
