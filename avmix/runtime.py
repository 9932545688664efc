"""The machine a run finds: device, processes, threads, memory, precision."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Where this process stands."""

    device: torch.device
    """Where the network is."""
    threads: int
    """Of torch on the CPU."""
    rank: int = 0
    """Number of this process among `world_size`."""
    world_size: int = 1
    """Processes that train together (torchrun)."""

    @property
    def is_main(self) -> bool:
        """True in the one process that prints and writes files."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.world_size > 1:
            dist.barrier()

    def gather(self, value: Any) -> list[Any]:
        """`value` of every process, by rank, in every process; picklable."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Give every process the main one's statistics, so that all evaluate the same network."""
        if self.world_size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def autocast(self, precision: Literal["fp32", "bf16"]) -> torch.autocast:
        """Context of the network's forward pass."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16")


@contextmanager
def start(*, device: str, threads: int, num_workers: int) -> Iterator[Runtime]:
    """Set up this process, alone or as torchrun started it, and clean up after it.

    `device` and `threads` as in `RunConfig`. Raises ValueError when a CUDA device is asked for and
    there is none.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local_rank = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    chosen = _device(device, local_rank)
    local_world = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    cores = len(os.sched_getaffinity(0)) // local_world
    threads = threads or max(1, cores - num_workers)
    torch.set_num_threads(threads)
    if chosen.type == "cpu":
        _keep_freed_memory()
    # Same bits on every run: without this, cuDNN picks algorithms by timing them.
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
    if world_size > 1:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Runtime(device=chosen, threads=threads, rank=rank, world_size=world_size)
    finally:
        if world_size > 1:
            dist.destroy_process_group()


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def _keep_freed_memory() -> None:
    """Let this process keep the pages of freed tensors, as the allocator for CUDA does.

    Every step frees and allocates the same tensors. By default glibc gives their pages back to the
    kernel, which clears them anew: 15 s for an epoch of the demo become 13 s without that. Other C
    libraries are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def _device(name: str, local_rank: int) -> torch.device:
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ValueError(f"run.device is {name!r}, but torch finds no CUDA device here; use cpu")
    device = torch.device("cuda", local_rank) if name in ("auto", "cuda") else torch.device(name)
    torch.cuda.set_device(device)
    return device
