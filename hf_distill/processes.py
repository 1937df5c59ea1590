"""What several processes of a training tell each other."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn


def from_all_processes(rows: Tensor) -> Tensor:
    """The rows of all processes, those of the first one in front; without others the same.

    The gradient does not get through. The processes may hold different numbers of rows.

    Args:
        rows: ``(B, ...)``, of the same shape but for B on every process.

    Example:
        >>> from_all_processes(torch.tensor([1, 2]))
        tensor([1, 2])
    """
    rows = rows.detach()
    if not _are_several():
        return rows
    size = torch.tensor([len(rows)], device=rows.device)
    sizes = [torch.empty_like(size) for _ in range(distributed.get_world_size())]
    distributed.all_gather(sizes, size)
    counts = torch.cat(sizes).tolist()
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    distributed.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def share_buffers(model: nn.Module) -> None:
    """Give all processes the first one's buffers, which are what it saves.

    ``DistributedDataParallel`` does so at the begin of each step, so that after the last one each process has the
    running statistics of batch normalisation of its own batch.
    """
    if _are_several():
        with torch.no_grad():
            for buffer in model.buffers():
                distributed.broadcast(buffer, src=0)


def leave_together() -> None:
    """End what the processes share, once all have come so far. From here on each works, and leaves, by itself.

    So the first one can do alone what takes long: others that waited for it in a collective operation would give up
    after ``ddp_timeout``, half an hour by default. A process that leaves without this may take the others with it.
    """
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


def _are_several() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
