"""The code in the documentation runs, and the table of losses is complete."""

import re
import shlex
from pathlib import Path

import pytest
import torch

import hf_distill.losses
from hf_distill import cli
from hf_distill.losses import LabelLoss, PairLoss

DOCS = Path(__file__).parent.parent / "docs"
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_python_blocks(page):
    """Run the page's blocks one after the other, as a reader would, and return what they defined."""
    text, namespace = page.read_text(encoding="utf-8"), {"__name__": page.stem}
    for block in PYTHON_BLOCK.finditer(text):
        lines_above = text.count("\n", 0, block.start(1))
        exec(compile("\n" * lines_above + block.group(1), str(page), "exec"), namespace)
    return namespace


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_python_blocks_run(page):
    run_python_blocks(page)


def commands():
    """Each command of ``hf-distill`` in the documents, in a block or in a line of text."""
    root = DOCS.parent
    for page in (root / "README.md", *sorted(DOCS.glob("*.md")), *sorted(root.glob("model_cards/*.md"))):
        text = page.read_text(encoding="utf-8")
        lines = re.findall(r"^hf-distill .*$", text, re.MULTILINE)
        for line in (*lines, *re.findall(r"`(hf-distill [a-z]+ [^`]+)`", text)):
            yield pytest.param(line, id=f"{page.name}: {' '.join(line.split())[:60]}")


@pytest.mark.parametrize("line", list(commands()))
def test_commands_are_understood(line):
    parsed = cli.parser().parse_args(shlex.split(line, comments=True)[1:])
    assert callable(parsed.run)


def test_every_loss_has_a_row_in_the_table():
    rows = re.findall(r"^\| `(\w+)[(`]", (DOCS / "losses.md").read_text(encoding="utf-8"), re.MULTILINE)
    exported = [getattr(hf_distill.losses, name) for name in hf_distill.losses.__all__]
    losses = {c.__name__ for c in exported if isinstance(c, type) and issubclass(c, (PairLoss, LabelLoss))}
    assert sorted(rows) == sorted(losses - {"PairLoss", "LabelLoss", "FeatureLoss"})


def test_the_loss_of_your_own_does_what_the_page_says():
    namespace = run_python_blocks(DOCS / "losses.md")
    student, teacher = torch.tensor([[3.0, 1.0], [1.0, 1.0]]).log(), torch.zeros(2, 2)
    # By hand: (3/4, 1/4) against (1/2, 1/2) differ by 1/4, and the second row by nothing.
    torch.testing.assert_close(namespace["TotalVariationLoss"]()(student, teacher), torch.tensor([0.25, 0.0]))
