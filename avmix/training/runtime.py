"""Runtime setup: device, processes, threads, memory, precision."""

import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from avmix.system.portability import usable_cores


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Rank, world size and device of this process, and communication with the others."""

    device: torch.device
    """Where the network is."""
    threads: int
    """Threads of torch on the CPU."""
    rank: int = 0
    """Number of this process among `world_size`."""
    world_size: int = 1
    """Processes that train together (torchrun)."""
    patient: Any = None
    """Group of all processes whose collective calls may wait for a week; None for one process."""

    @property
    def is_main(self) -> bool:
        """True in the one process that prints and writes files."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until every process is here, however long the main one prepares: a dataset takes
        longer than the 10 minutes that NCCL waits by default."""
        if self.world_size > 1:
            dist.barrier(group=self.patient)

    def mean(self, value: Tensor) -> Tensor:
        """Mean of a tensor over all processes; all must call it at once."""
        if self.world_size > 1:
            value = value.clone()
            dist.all_reduce(value)
            value /= self.world_size
        return value

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
def start(*, device: str, threads: int) -> Iterator[Runtime]:
    """Set up this process, alone or as torchrun started it, and clean up after it.

    `device` and `threads` as in `RunConfig`. Raises ValueError when a CUDA device is asked for and
    there is none.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local_rank = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    chosen = _device(device, local_rank)
    local_world = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    # Of the cores alone: how sums are split among threads shows in their last digits, and no result
    # may depend on the number of loader processes.
    threads = threads or max(1, usable_cores() // local_world)
    torch.set_num_threads(threads)
    if chosen.type == "cpu":
        _keep_freed_memory()
    # Same bits on every run: without this, cuDNN picks algorithms by timing them.
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
    patient = None
    if world_size > 1:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        patient = dist.new_group(backend="gloo", timeout=timedelta(days=7))
    try:
        yield Runtime(
            device=chosen, threads=threads, rank=rank, world_size=world_size, patient=patient
        )
    finally:
        if world_size > 1:
            dist.destroy_process_group()


def check_compile(device: torch.device, precision: Literal["fp32", "bf16"]) -> None:
    """Raises ValueError where `run.compile` cannot be right here, before minutes of compilation."""
    compilers = [name for name in (os.environ.get("CXX"), "g++", "clang++") if name]
    if not any(shutil.which(name) for name in compilers):
        raise ValueError(f"run.compile needs a C++ compiler, and finds none of {compilers}")
    if device.type == "cpu" and precision == "bf16":
        raise ValueError(
            "run.compile with run.precision bf16 does not train on a CPU: torch 2.11 makes of it "
            "gradients that are not finite; use fp32, or no compile"
        )


def omp_notice(threads: int, option: str) -> str:
    """What is to be said where OMP_NUM_THREADS asks for another number of threads than `option`
    gives; empty where it does not."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if not asked.isdigit() or int(asked) == threads:
        return ""
    return f"OMP_NUM_THREADS={asked} cannot act: {option} sets the threads, {threads} here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounding:
    """Settings that change the last digits of every result, apart from the configuration."""

    device: str
    """`cpu`, or the model of the GPU."""
    threads: int
    """Threads of torch on the CPU."""
    kernel: str
    """That normalises and mixes frames (`frontend.kernel`)."""
    cpu: str
    """The widest vector instructions that torch uses: of other cores, other sums."""
    torch_version: str
    """As torch says it."""

    @classmethod
    def here(cls, device: torch.device, kernel: str) -> "Rounding":
        """Settings of this process. `kernel`: the one that `frontend.kernel` resolves to on
        `device`."""
        gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
        return cls(
            device=gpu,
            threads=torch.get_num_threads(),
            kernel=kernel,
            cpu=torch.backends.cpu.get_cpu_capability(),
            torch_version=str(torch.__version__),
        )

    def notice(self, before: "Rounding | None") -> str:
        """Message for a run that resumes here with other settings than `before`; empty where they
        are equal."""
        if before is None or before == self:
            return ""
        changed = ", ".join(
            f"{f.name} {getattr(before, f.name)} -> {getattr(self, f.name)}"
            for f in fields(self)
            if getattr(before, f.name) != getattr(self, f.name)
        )
        return (
            f"it resumes with other settings ({changed}): results may differ in their last digits "
            "from those of an uninterrupted run"
        )


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def _keep_freed_memory() -> None:
    """Let this process keep the pages of freed tensors, as the allocator for CUDA does.

    Every step frees and allocates the same tensors. By default glibc gives their pages back to the
    kernel, which clears them again: 15 s for an epoch of the demo become 13 s without that. Other C
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
