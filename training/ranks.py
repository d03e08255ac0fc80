"""The processes of one run, as torchrun starts them: one for each device, on one machine or many.

`torchrun --nproc-per-node 8 -m training ...`; without torchrun there is one process.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """This process and its place among those of the run."""

    device: torch.device
    rank: int = 0
    count: int = 1
    local: int = 0
    """Rank on this machine."""

    @property
    def first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.count > 1:
            dist.all_reduce(value)
        return value

    def broadcast(self, value: Tensor) -> Tensor:
        """The first process's value, in place."""
        if self.count > 1:
            dist.broadcast(value, 0)
        return value

    @contextmanager
    def local_first(self) -> Iterator[None]:
        """The first process on each machine runs the block before the others.

        Also if it fails there: then the others fail in the same way, and none waits for another.
        """
        if self.count > 1 and self.local > 0:
            dist.barrier()
        try:
            yield
        finally:
            if self.count > 1 and self.local == 0:
                dist.barrier()


@contextmanager
def join_run(device: str | None = None) -> Iterator[Ranks]:
    """Joins the process group that torchrun describes in the environment, and leaves it at exit."""
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if "RANK" not in os.environ:
        yield Ranks(torch.device(name))
        return
    rank, count, local = (int(os.environ[k]) for k in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if name == "cuda":
        torch.cuda.set_device(local)
        where = torch.device("cuda", local)
    else:
        where = torch.device(name)
    dist.init_process_group("nccl" if name == "cuda" else "gloo")
    try:
        yield Ranks(where, rank, count, local)
    finally:
        dist.destroy_process_group()
