"""The table in this folder's README, one row a model, and the commands below it.

    python model_cards/index.py

A model is ``NAME.md``, its card, and ``NAME.json``, the report that its recipe wrote. All figures and the command are
the report's; who taught, what the student was, and what it was trained on and with are the card's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from hf_distill import DistillationReport
from hf_distill.report import flag_by_flag

HERE = Path(__file__).parent
README = HERE / "README.md"
PLACE = "<!-- {0}, written by index.py -->\n{1}<!-- end of {0} -->"
COLUMNS = ("Model", "Teacher", "Student", "Data; loss", "Teacher's accuracy", "Student's", "Control's", "Size, MB",
           "Latency, ms", "Command")  # fmt: skip
NUMBERS = COLUMNS[4:9]


def parts(folder: Path = HERE) -> dict[str, str]:
    """The table and the commands, in Markdown."""
    reports = sorted(folder.glob("*.json"))
    table = [
        f"| {' | '.join(COLUMNS)} |",
        "|" + "|".join("--:" if name in NUMBERS else ":--" for name in COLUMNS) + "|",
        *(f"| {' | '.join(row(path))} |" for path in reports),
    ]
    commands = [f"### {path.stem}\n\n```bash\n{command(path)}\n```\n" for path in reports]
    return {"table": "\n".join(table) + "\n", "commands": "\n".join(commands)}


def row(path: Path) -> list[str]:
    """A model's cells, from the path of its report."""
    report, card = DistillationReport.load(path), path.with_suffix(".md").read_text(encoding="utf-8")
    figures = {label: dict(zip(report.models(), cells, strict=True)) for label, cells in report.rows()}

    def of(label: str) -> str:
        return f"{figures[label]['student']} of {figures[label]['teacher']}"

    cells = [
        f"[{path.stem}]({path.stem}.md)",
        fact(card, "Teachers?"),
        f"{fact(card, 'Student')}, {report.student['parameters'] / 1e6:.1f} M",
        "; ".join([data(card), " + ".join(terms(card))]),
        *(figures["accuracy"].get(model, "–") for model in ("teacher", "student", "control")),
        of("size, MB"),
        of("latency p50, ms"),
        f"[below](#{path.stem})",
    ]
    return [cell.replace(" ± ", "<br>±\N{NO-BREAK SPACE}") for cell in cells]


def command(path: Path) -> str:
    """What was run, a flag a line."""
    return flag_by_flag(str(DistillationReport.load(path).command))


def fact(card: str, title: str) -> str:
    """What a card says behind a word in its list of facts.

    Raises:
        ValueError: it says nothing there.
    """
    found = re.search(rf"^- {title}: (.+)$", card, re.MULTILINE)
    if found is None:
        raise ValueError(f"The card {re.findall('^# .*', card, re.MULTILINE)[:1]} has no line '- {title}: ...'.")
    return found[1]


def terms(card: str) -> list[str]:
    """The losses that a card's objective adds up, with their weights where these are not 1."""
    found = re.findall(r"^\| [\w.]+ \| `(\w+)Term\((?:(\w+)\(.*?\), )?.*?weight=([\w.]+).*`", card, re.MULTILINE)
    return [(f"{weight} " if weight != "1.0" else "") + (loss or f"{kind.lower()}s") for kind, loss, weight in found]


def data(card: str) -> str:
    """The data set with the number of its training examples."""
    counts = {name: int(count) for name, count in re.findall(r"^\| (.*) \| (\d+) \|$", card, re.MULTILINE)}
    examples, unlabelled = (counts.get(name) for name in ("training examples", "of them without a label"))
    size = "" if examples is None else f", {examples:,} examples"
    return fact(card, "Data") + size + (f", {unlabelled:,} of them unlabelled" if unlabelled else "")


def with_parts(text: str, written: Mapping[str, str]) -> str:
    """The README with new parts in place of those that it has."""
    for name, content in written.items():
        text = re.sub(
            PLACE.format(name, ".*?"), PLACE.format(name, content).replace("\\", r"\\"), text, flags=re.DOTALL
        )
    return text


if __name__ == "__main__":
    README.write_text(with_parts(README.read_text(encoding="utf-8"), parts()), encoding="utf-8")
