"""Shared memory between loader processes and the training process: batch slots and the state of
each worker.

Frames do not go through a pipe: pickling, sending and unpickling a batch of 53 MB was measured to
cost 190 ms, writing it into memory that is used again 6 ms (fresh pages: 30 ms).
"""

import math
import mmap
import os
import weakref
from contextlib import suppress
from dataclasses import fields
from multiprocessing import reduction
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8

from avmix.system.portability import memory_file
from avmix.types import Batch

NOTHING = -1
"""In place of a row: no clip is being read."""

MAX_LENT = 2
"""Batches in use that may lie in their slots: that of a step, and the one it asks for meanwhile."""

_ALIGNMENT = 64
"""Bytes; of every array, so that none begins in the middle of a number."""
_SMALL = 1 << 16
"""Bytes below which an array is copied out: a step's record keeps the rows of its clips for long,
and must not keep their frames with them."""


class Mark(NamedTuple):
    """State of a loader process: what it is reading."""

    row: int
    """Row of the clip that it reads; `NOTHING` when it reads none."""
    since_seconds: float
    """When it began, on `time.monotonic`, which all processes of a machine share."""
    group: int = 0
    """Which of the groups of its batch the clip is of."""


class Stored(NamedTuple):
    """Location of a tensor of a batch in its slot."""

    name: str
    """Name of the field."""
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    """Bytes from the start of the slot."""


class SharedBatches:
    """One mark per loader process, and slots for one batch each.

    An anonymous file (memfd) that travels to the processes as a descriptor: /dev/shm, which often
    has 64 MB in containers, is not used, and nothing is left behind whoever is killed. Elsewhere
    than on Linux it is a file without a name in the folder for temporary files, and on Windows one
    with a name (`avmix.system.portability.memory_file`).
    """

    def __init__(
        self,
        num_workers: int,
        num_slots: int,
        slot_bytes: int,
        fd: int | None = None,
        path: str = "",
    ) -> None:
        """`num_slots` batches of at most `slot_bytes`; `fd`: of memory that is there already;
        `path`: of its file, if that has a name.

        Raises OSError where there is not enough memory.
        """
        self._sizes = num_workers, num_slots, slot_bytes
        self._slot_bytes = _aligned(slot_bytes) + _ALIGNMENT * len(fields(Batch))
        self._first_slot = _aligned(24 * num_workers)
        size = self._first_slot + num_slots * self._slot_bytes
        if fd is None:
            fd, path = memory_file()
            os.ftruncate(fd, size)
            if path:
                weakref.finalize(self, _delete, path)
        self._fd, self._path = fd, path
        self._close = weakref.finalize(self, os.close, fd)
        self._memory = mmap.mmap(fd, size)
        self._marks = np.frombuffer(self._memory, np.float64, 3 * num_workers)
        self.free = list(range(num_slots))
        """Slots that are neither written nor read; only the training process counts them."""
        self._lent: set[int] = set()

    def __reduce__(self) -> tuple[Any, ...]:
        """The same memory in the process that is being started."""
        if self._path:
            return _attach_file, (self._path, self._sizes)
        return _attach, (reduction.DupFd(self._fd), self._sizes)

    def mark(self, worker: int, row: int, now_seconds: float = 0.0, group: int = 0) -> None:
        """Note that `worker` begins to read `row` now, of this group of its batch.

        The time is written first and read last: who sees the new row sees its time.
        """
        self._marks[3 * worker + 1] = now_seconds
        self._marks[3 * worker + 2] = group
        self._marks[3 * worker] = row

    def mark_of(self, worker: int) -> Mark:
        """What `worker` is doing, or was doing when it died."""
        row, since_seconds, group = self._marks[3 * worker : 3 * worker + 3].tolist()
        return Mark(int(row), since_seconds, int(group))

    def write(self, slot: int, batch: Batch) -> list[Stored]:
        """Put `batch` into `slot`; returns what `take` needs. Raises ValueError if it is larger."""
        stored: list[Stored] = []
        offset = 0
        for name, tensor in batch.tensors().items():
            if offset + tensor.nbytes > self._slot_bytes:
                raise ValueError(f"a batch of more than {self._sizes[2]} bytes, as was announced")
            one = Stored(name, tensor.dtype, tuple(tensor.shape), offset)
            _view(self._slot(slot), one).copy_(tensor)
            stored.append(one)
            offset = _aligned(offset + tensor.nbytes)
        return stored

    def take(self, slot: int, stored: list[Stored], *, pin: bool) -> Batch:
        """The batch in `slot`, which is free again when its video and audio are not referenced.

        Pinned, it is a copy. So is every batch while `MAX_LENT` others are still held: a caller may
        keep as many as it likes.
        """
        owner = self._slot(slot)
        tensors = [_view(owner, one) for one in stored]
        if pin:
            tensors = [t.pin_memory() for t in tensors]
            self.free.append(slot)
        elif len(self._lent) == MAX_LENT:
            tensors = [t.clone() for t in tensors]
            self.free.append(slot)
        else:
            tensors = [t.clone() if t.nbytes < _SMALL else t for t in tensors]
            self._lent.add(slot)
            # Called when the last tensor that looks into the slot is gone.
            weakref.finalize(owner, self._give_back, slot).atexit = False
        return Batch(**{one.name: t for one, t in zip(stored, tensors, strict=True)})

    def _give_back(self, slot: int) -> None:
        self._lent.discard(slot)
        self.free.append(slot)

    def _slot(self, slot: int) -> UInt8[np.ndarray, " bytes"]:
        start = self._first_slot + slot * self._slot_bytes
        return np.frombuffer(self._memory, np.uint8, self._slot_bytes, start)


def _view(slot: UInt8[np.ndarray, " bytes"], stored: Stored) -> torch.Tensor:
    num_bytes = math.prod(stored.shape) * stored.dtype.itemsize
    part = torch.from_numpy(slot[stored.offset : stored.offset + num_bytes])
    return part.view(stored.dtype).reshape(stored.shape)


def _aligned(num_bytes: int) -> int:
    return -(-num_bytes // _ALIGNMENT) * _ALIGNMENT


def _attach_file(path: str, sizes: tuple[int, int, int]) -> SharedBatches:
    return SharedBatches(
        *sizes, fd=os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0)), path=path
    )


def _delete(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)


def _attach(descriptor: Any, sizes: tuple[int, int, int]) -> SharedBatches:
    return SharedBatches(*sizes, fd=descriptor.detach())
