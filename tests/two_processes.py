"""A script of these tests under two gloo processes: started by one function, ended by the other."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import socket
import sys
from collections.abc import Mapping
from multiprocessing.connection import wait
from pathlib import Path
from types import ModuleType

import safetensors.torch
import torch
from torch import Tensor


def run(script: ModuleType, path: Path) -> dict[str, Tensor]:
    """What the script stored at the path that it is given.

    The processes are forks of one that has imported all they need, once for all scripts: to import it takes longer than
    what they do.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([script.__name__])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    logs = [path.with_name(f"rank{rank}.log") for rank in range(2)]
    ranks = [context.Process(target=_rank, args=(rank, port, script.__file__, path, logs[rank])) for rank in range(2)]
    for rank in ranks:
        rank.start()
    running = {rank.sentinel for rank in ranks}
    while running and not any(rank.exitcode for rank in ranks):
        ended = wait(running, timeout=600)
        assert ended, "the two processes hang"
        running -= set(ended)
    for rank in ranks:
        rank.kill()  # it has ended, or would wait for the other for ever
    assert [rank.exitcode for rank in ranks] == [0, 0], "\n".join(log.read_text()[-4000:] for log in logs)
    return safetensors.torch.load_file(path)


def _rank(rank: int, port: int, script: str, path: Path, log: Path) -> None:
    """One of the two processes, with the variables that ``torchrun`` would give it."""
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true",
    }  # fmt: skip
    with log.open("w") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    torch.set_num_threads(1)
    sys.argv = [script, str(path)]
    runpy.run_path(script, run_name="__main__")


def store(found: Mapping[str, Tensor], path: str) -> None:
    """In the script: save what the first process found, and leave together, or the backend aborts now and then."""
    if int(torch.distributed.get_rank()) == 0:
        safetensors.torch.save_file(dict(found), path)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
