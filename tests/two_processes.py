"""A script of these tests under two gloo processes: started by one function, ended by the other."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import safetensors.torch
import torch
from torch import Tensor


def run(script: ModuleType, path: Path) -> dict[str, Tensor]:
    """What the script stored at the path that it is given."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, str(script.__file__), str(path)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return safetensors.torch.load_file(path)


def store(found: Mapping[str, Tensor], path: str) -> None:
    """In the script: save what the first process found, and leave together, or the backend aborts now and then."""
    if int(torch.distributed.get_rank()) == 0:
        safetensors.torch.save_file(dict(found), path)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
