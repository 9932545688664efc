"""Main function of a loader process; `avmix.data.loader_pool` starts, watches and replaces it."""

import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from avmix.data.sample import BadClip, Loaded, Place, Sample
from avmix.data.shared_memory import NOTHING, SharedBatches, Stored
from avmix.system.portability import alarm, by_default, child_context

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext


@runtime_checkable
class Reader(Protocol):
    """Interface of the dataset that a loader process reads; it is sent to each process once."""

    @property
    def bytes_per_clip(self) -> int:
        """Largest number of bytes of a clip in a batch."""
        ...

    def name(self, row: int) -> str:
        """Name of the file of a row, for messages."""
        ...

    def groups(self, places: Sequence[Place]) -> list[list[Place]]:
        """`places` in order, grouped into those that `samples` reads from one open file."""
        ...

    def apart(self, places: Sequence[Place]) -> list[list[Place]]:
        """A group in parts of one clip each, which are read by themselves where a process was lost
        with the group: which of its clips is to blame is then known."""
        ...

    def samples(
        self, places: Sequence[Place], skip: Mapping[int, str], begin: Callable[[int], None]
    ) -> list[Sample]:
        """Read `places`, calling `begin(row)` before anything of a row is touched.

        Rows in `skip` are not touched; they are unreadable for the reason given there.
        """
        ...

    def collate(self, samples: list[Sample]) -> Loaded:
        """Collate samples into a batch."""
        ...


@dataclass(frozen=True)
class Task:
    """Request to read a batch."""

    number: int
    """In the order of the loop."""
    places: list[Place]
    slot: int
    """Where the batch is to be put."""
    first: tuple[int, ...] = ()
    """Groups of the batch that are read before the others: with each a process was lost."""

    def order(self, num_groups: int) -> list[int]:
        """Order in which the groups are read."""
        return [*self.first, *(i for i in range(num_groups) if i not in self.first)]


@dataclass(frozen=True)
class Done:
    """Answer of a loader process; the batch itself is in the slot."""

    number: int
    """Number of the task."""
    stored: list[Stored] | None
    """None when no clip of the batch could be read."""
    bad: tuple[BadClip, ...]
    """As in `Loaded`."""
    failure: str = ""
    """Traceback of a mistake in the program."""


def fork_server() -> "ForkServerContext | SpawnContext":
    """Multiprocessing context of loader processes: a server that has imported what they need, once.

    Forking the training process would copy the state of OpenMP's and CUDA's threads. The server has
    no thread but its own, and a process that takes the place of a dead one is there at once, not
    after seconds of imports. Where the system has no such server, each process imports for itself.
    """
    context = child_context([__name__])
    if context.get_start_method() != "forkserver":
        return context
    settings = {
        "OPENBLAS_NUM_THREADS": "1",  # numpy's, which starts threads when it is imported
        # The server looks for modules on a path of its own, where another avmix may be first.
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        "PYTHONSAFEPATH": "1",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        importlib.import_module("multiprocessing.forkserver").ensure_running()
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value
    return context


def work(
    reader: Reader,
    pipe: Connection,
    shared: SharedBatches,
    index: int,
    skip: dict[int, str],
    clip_seconds: float,
) -> None:
    """Read batches until the pipe closes. `index` is the number of the process in `shared`."""
    # Both are sent to whole groups of processes. The training process decides what they mean; here
    # they would look like the death of a decoder.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    by_default("SIGALRM")
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def begin(row: int, group: int = 0) -> None:
        # The kernel ends what the training process, when it is gone or busy, does not, and what
        # holds the interpreter's lock, so that no thread of ours can.
        alarm(0.0 if row == NOTHING else 2 * clip_seconds)
        shared.mark(index, row, time.monotonic(), group)

    with suppress(EOFError, OSError):  # the training process closed its end
        while True:
            task, news = pipe.recv()
            skip.update(news)
            try:
                groups = reader.groups(task.places)
                read: dict[int, list[Sample]] = {}
                for number in task.order(len(groups)):
                    group, mark = groups[number], partial(begin, group=number)
                    parts = reader.apart(group) if number in task.first else [group]
                    read[number] = [s for p in parts for s in reader.samples(p, skip, mark)]
                begin(NOTHING)
                batch, bad = reader.collate([s for i in sorted(read) for s in read[i]])
                stored = None if batch is None else shared.write(task.slot, batch)
                answer = Done(task.number, stored, bad)
            except Exception:  # the training process ends with it: `Pool` raises `LoaderError`
                answer = Done(task.number, None, (), traceback.format_exc())
            pipe.send(answer)


def _end_with_parent() -> None:
    """Do not outlive a training process that was killed: the fork server, which is our parent in
    the eyes of the system, lives as long as we do."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
