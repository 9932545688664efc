"""Pool of loader processes that survives crashing and hanging files and returns every batch in
order.

The training process hands out whole batches of places, watches what each loader process reads and
since when, and gives the results back in order. A decoder that crashes takes its process along, and
one that hangs is killed with it. Either way the process is replaced, and the batch read again from
what it was lost with on: alone in a new process. A clip that `avmix.isolate.process_pool.Blame`
holds to be at fault is named, and left out by the rule for unreadable clips. No other batch is read
twice.
"""

import logging
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import connection, util
from multiprocessing.process import BaseProcess

from avmix.data.loader_worker import Done, Reader, Task, fork_server, work
from avmix.data.sample import Loaded, Place
from avmix.data.shared_memory import MAX_LENT, NOTHING, Mark, SharedBatches
from avmix.isolate.process_pool import Blame, held_up, killed_from_outside
from avmix.system.portability import SIGALRM

_log = logging.getLogger(__name__)

_AHEAD = 3
"""Batches per process that are being read, or wait to be read or to be trained on."""
_MAX_DEATHS = 3
"""Processes in a row that may die without reading a clip."""
_GRACE_SECONDS = 5.0
"""How long a killed process may take to be gone; one that waits for a dead disk may take for ever,
and is not waited for."""


class LoaderError(RuntimeError):
    """Loading cannot continue, and no clip is the cause."""


@dataclass
class _Worker:
    index: int
    process: BaseProcess
    pipe: connection.Connection
    num_told: int
    """Clips to skip that it knows of."""
    tasks: deque[Task] = field(default_factory=deque)
    """In the order in which it does them."""
    is_fresh: bool = True
    """It has not finished a batch yet."""


class Pool:
    """Pool of `num_workers` loader processes, which it starts, watches and ends."""

    _shared: SharedBatches  # of the processes that run now

    def __init__(
        self,
        reader: Reader,
        *,
        num_workers: int,
        batch_size: int,
        clip_seconds: float,
        pin: bool = False,
    ) -> None:
        """`batch_size`: most places in a batch. `clip_seconds`: longest time for one clip. `pin`:
        batches go to a CUDA device, and are put where it can fetch them.

        With `num_workers` 0 everything is read in this process: the same batches, but a decoder
        that crashes or hangs takes the program along.
        """
        self._reader = reader
        self._num_workers = num_workers
        self._slot_bytes = batch_size * reader.bytes_per_clip
        self._clip_seconds = clip_seconds
        self._pin = pin
        self._skip: dict[int, str] = {}
        self._lost: Callable[[int, str], str] = _as_it_is
        self._workers: list[_Worker] = []
        self._num_deaths = 0
        self._blame = Blame()
        """Blame of rows in outstanding tasks."""
        self._reading = False
        # Also at exit, before multiprocessing waits for processes that ignore its SIGTERM.
        util.Finalize(self, _end, (self._workers,), exitpriority=100)

    def read(
        self,
        batches: Iterable[Sequence[Place]],
        skip: Mapping[int, str],
        lost: Callable[[int, str], str],
    ) -> Generator[Loaded, None, None]:
        """The batches in order. One iteration at a time; ended early it ends the processes.

        `skip`: rows that are not read, and why; the pool never forgets one. `lost(row, reason)` is
        called when a clip is to blame for processes that were lost; it returns the reason as
        reports give it. Raises `LoaderError` when processes die before they read anything, fail, or
        are lost again and again with a clip that is not to blame.
        """
        if self._reading:
            raise RuntimeError("the batches of one pool are read by one loop at a time")
        self._skip.update(skip)
        self._lost = lost
        self._blame = Blame()
        self._reading = True
        completed = False
        try:
            yield from self._read_here(batches) if not self._num_workers else self._read(batches)
            completed = True
        finally:
            self._reading = False
            self._lost = _as_it_is
            if not completed:
                self.close()

    def close(self) -> None:
        """End the processes; the next `read` starts others."""
        _end(self._workers)

    def _read_here(self, batches: Iterable[Sequence[Place]]) -> Iterator[Loaded]:
        for places in batches:
            samples = self._reader.samples(places, self._skip, lambda _: None)
            batch, bad = self._reader.collate(samples)
            yield Loaded(batch.pin_memory() if batch and self._pin else batch, bad)

    def _read(self, batches: Iterable[Sequence[Place]]) -> Iterator[Loaded]:
        if not self._workers:
            self._start()
        waiting = enumerate(batches)
        most = _AHEAD * self._num_workers
        outstanding: dict[int, Task] = {}  # in order: handed out, not yet given to the loop
        done: dict[int, Done] = {}
        while True:
            for number, places in waiting:
                task = Task(number, list(places), self._shared.free.pop())
                outstanding[number] = task
                self._give(min(self._workers, key=lambda w: len(w.tasks)), task)
                if len(outstanding) == most:
                    break
            if not outstanding:
                return
            number = next(iter(outstanding))
            while number not in done:
                self._supervise(done)
            answer, slot = done.pop(number), outstanding.pop(number).slot
            if answer.stored is None:
                self._shared.free.append(slot)
                yield Loaded(None, answer.bad)
            else:
                yield Loaded(self._shared.take(slot, answer.stored, pin=self._pin), answer.bad)

    def _start(self) -> None:
        num_slots = _AHEAD * self._num_workers + MAX_LENT
        try:
            self._shared = SharedBatches(self._num_workers, num_slots, self._slot_bytes)
        except OSError as error:
            raise LoaderError(
                f"no memory for {num_slots} batches of {self._slot_bytes / 1e6:.0f} MB "
                f"({error.strerror}); use fewer loader processes (num_workers) or smaller batches"
            ) from None
        self._num_deaths = 0
        for index in range(self._num_workers):
            self._workers.append(self._worker(index))  # one by one: all are ended if one fails

    def _worker(self, index: int) -> _Worker:
        self._shared.mark(index, NOTHING)
        context = fork_server()
        ours, theirs = context.Pipe()
        process = context.Process(
            target=work,
            args=(self._reader, theirs, self._shared, index, dict(self._skip), self._clip_seconds),
            daemon=True,
        )
        process.start()
        theirs.close()  # so that the process is the only one that holds it: its death ends the pipe
        return _Worker(index, process, ours, len(self._skip))

    def _give(self, worker: _Worker, task: Task) -> None:
        worker.tasks.append(task)
        news = dict(list(self._skip.items())[worker.num_told :])
        worker.num_told = len(self._skip)
        with suppress(OSError):  # it just died: `_supervise` sees all deaths, by the end of a pipe
            worker.pipe.send((task, news))

    def _supervise(self, done: dict[int, Done]) -> None:
        """Wait until a process answers, dies or is overdue, and act on it."""
        now, limit = time.monotonic(), self._clip_seconds
        marks = [self._shared.mark_of(worker.index) for worker in self._workers]
        ends = [mark.since_seconds + limit for mark in marks if mark.row != NOTHING]
        # One that begins a clip while we wait has at least `limit` from now.
        timeout = min([*ends, now + limit]) - now
        ready = connection.wait([worker.pipe for worker in self._workers], max(0.0, timeout))
        for worker in list(self._workers):
            if worker.pipe in ready:
                try:
                    self._note(worker, worker.pipe.recv(), done)
                except (EOFError, OSError):
                    self._replace(worker, None, done)
                    continue
            mark = self._shared.mark_of(worker.index)
            if mark.row != NOTHING and time.monotonic() - mark.since_seconds > limit:
                self._replace(worker, mark, done)

    def _note(self, worker: _Worker, answer: Done, done: dict[int, Done]) -> None:
        if answer.failure:
            raise LoaderError(f"a loader process failed:\n{answer.failure}")
        task = worker.tasks.popleft()
        assert task.number == answer.number
        done[task.number] = answer
        worker.is_fresh = False
        self._num_deaths = 0

    def _replace(self, worker: _Worker, overdue: Mark | None, done: dict[int, Done]) -> None:
        """Put a new process in place of one that is dead, or takes too long with `overdue`."""
        stalled = False
        if overdue is not None:
            stalled = held_up(worker.process.pid, self._clip_seconds)
            worker.process.kill()
            with suppress(EOFError, OSError):  # what it finished before it was killed counts
                while worker.pipe.poll(_GRACE_SECONDS):
                    self._note(worker, worker.pipe.recv(), done)
        last = self._shared.mark_of(worker.index)
        exitcode = _end([worker])[0]
        if overdue not in (None, last):
            pass  # it was done with that clip at the last moment
        elif last.row != NOTHING:
            if last.row not in self._skip:
                late = overdue is not None or exitcode == -SIGALRM
                passing = stalled if overdue is not None else killed_from_outside(exitcode)
                self._judge(worker, last, self._reason(exitcode, late, passing), passing)
            self._num_deaths = 0
        else:
            self._num_deaths += 1
            if self._num_deaths == _MAX_DEATHS:
                raise LoaderError(
                    f"{_MAX_DEATHS} loader processes in a row died before they read a clip, the "
                    f"last with {_status(exitcode)}: they may lack memory, or cannot import what "
                    "they need (see above)"
                )
        successor = self._worker(worker.index)
        self._workers[worker.index] = successor
        for task in worker.tasks:
            self._give(successor, task)

    def _judge(self, worker: _Worker, last: Mark, reason: str, passing: bool) -> None:
        """A process was lost with `last`: read it again, first of all, or never."""
        task = worker.tasks[0]
        alone = worker.is_fresh and last.group == (*task.first, 0)[0]
        if alone and last.group not in task.first:  # several clips at once: it may be any of them
            group = self._reader.groups(task.places)[last.group]
            alone = len(self._reader.apart(group)) == 1
        verdict = self._blame.of((task.number, last.row), alone=alone, passing=passing)
        if verdict == "task":
            self._skip[last.row] = self._lost(last.row, reason)
        elif verdict == "machine":
            raise LoaderError(
                f"loader processes were lost again and again while they read "
                f"{self._reader.name(last.row)}, the last because {reason}; "
                "the file does not seem to be the cause: check memory and disk"
            )
        else:
            _log.warning("%s: %s; reading it again", self._reader.name(last.row), reason)
        first = (last.group, *(group for group in task.first if group != last.group))
        worker.tasks[0] = replace(task, first=first)

    def _reason(self, exitcode: int | None, late: bool, passing: bool) -> str:
        if late:
            cause = "was stopped, or waited for a disk or a processor, for" if passing else "took"
            return f"{cause} longer than {self._clip_seconds:g} s and was killed"
        if passing:
            return "its loader process was killed (signal 9, SIGKILL); out of memory?"
        return f"the decoder crashed ({_status(exitcode)})"


def _as_it_is(row: int, reason: str) -> str:
    return reason


def _status(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return f"exit code {exitcode}"
    return f"signal {-exitcode}, {signal.Signals(-exitcode).name}"


def _end(workers: list[_Worker]) -> list[int | None]:
    """Kill what still runs and empty the list; returns the exit codes."""
    ending = list(workers)
    workers.clear()
    for worker in ending:
        worker.pipe.close()
        if worker.process.is_alive():
            worker.process.kill()
    for worker in ending:
        worker.process.join(_GRACE_SECONDS)
    return [worker.process.exitcode for worker in ending]
