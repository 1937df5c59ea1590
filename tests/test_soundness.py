"""In a process of its own, beside a torchvision that is broken on purpose."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hf_distill


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("raise RuntimeError('operator torchvision::nms does not exist')", "RuntimeError: operator torchvision::nms"),
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
    ],
)
def test_a_torchvision_that_does_not_fit_is_named_with_the_cure(tmp_path: Path, content: str, cause: str) -> None:
    (tmp_path / "torchvision.py").write_text(content)
    path = os.pathsep.join((str(tmp_path), str(Path(hf_distill.__file__).parents[1])))
    command = [sys.executable, "-c", "import hf_distill"]
    found = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert found.returncode == 1
    last = found.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: torchvision ")
    assert f"cannot be imported beside torch {hf_distill.environment.library_versions()['torch']} ({cause}" in last
    assert "`pip uninstall torchvision timm`" in last
