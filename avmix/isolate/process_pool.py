"""Process pool with a time limit per item: survives decoders that crash or hang.

Every task is limited in time, from outside: a process that takes too long or dies is replaced, and
what it worked on is tried again, in a process of its own. `Blame` has the rule by which it is a
`Failure` in the end. Nothing else is lost.
"""

import os
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, TypeVar

from avmix.system.portability import SIGKILL, alarm, by_default, child_context

START_SECONDS = 120.0
"""For a process to begin; the limit of the task counts from then."""
_ORPHAN_SECONDS = 30.0
"""After its limit a process ends by itself, for its parent may have been killed."""
_BEGUN = "begun"

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Failure:
    """Reason for a missing result."""

    kind: Literal["crashed", "failed", "time_limit"]
    """`failed`: the function raised an error."""
    text: str
    """One line."""
    passing: bool = False
    """True where the machine is more likely to blame than the task: it had not begun, or was killed
    from outside, as for want of memory."""


class CannotStart(Exception):
    """No process could start: the cause is the installation, not the tasks."""


Verdict = Literal["again", "task", "machine"]
"""To be tried again, or given up: the task is to blame, or what it runs on."""

_ALONE = 2
"""Failures in a fresh process that a task must have to be blamed."""
_MOST = 10
"""Processes that may be lost with one task without blame."""


@dataclass(frozen=True, slots=True)
class Blame:
    """Rule that decides which task is at fault for lost processes, here and in
    `avmix.data.loader_pool`.

    A task is to blame when it fails twice in a fresh process in which nothing was done before: no
    file pays for what another left behind in a decoder. A process that was killed from outside, or
    that could not work (`held_up`), says nothing about its task, however often it happens.
    """

    _failed: Counter[Hashable] = field(default_factory=Counter)
    _lost: Counter[Hashable] = field(default_factory=Counter)

    def of(self, task: Hashable, *, alone: bool, passing: bool) -> Verdict:
        """After a process was lost with `task`. `alone`: it had done nothing else; `passing`: as in
        `Failure`."""
        if alone and not passing:
            self._failed[task] += 1
            return "task" if self._failed[task] >= _ALONE else "again"
        self._lost[task] += 1
        return "machine" if self._lost[task] >= _MOST else "again"


def killed_from_outside(exitcode: int | None) -> bool:
    """True for SIGKILL, as for lack of memory; no process sends it to itself."""
    return exitcode == -SIGKILL


def held_up(pid: int | None, seconds: float) -> bool:
    """True when a process that exceeded its `seconds` could not work: it is stopped, waits for a
    disk, or had a processor for less than half of them. False off Linux."""
    try:
        whole = _stat(Path(f"/proc/{pid}/stat"))
        states = {_stat(path)[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")}
    except OSError:
        return False
    used = (int(whole[11]) + int(whole[12])) / os.sysconf("SC_CLK_TCK")  # user and system
    return bool(states & {"T", "t", "D"}) or ("R" in states and used < seconds / 2)


def _stat(path: Path) -> list[str]:
    """The fields of proc(5) from the state on."""
    return path.read_text().rpartition(")")[2].split()


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    pipe: Connection
    index: int = -1
    """Index of its task; -1 without one."""
    num_given: int = 0
    has_begun: bool = False
    deadline: float = 0.0


def run_each(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    workers: int,
    seconds: Callable[[Task], float],
    preload: Sequence[str],
    per_process: int = 1,
) -> Generator[tuple[int, Result | Failure], None, None]:
    """Run `function` on every task; yields index and result as they come; `seconds` limits each
    task.

    `function` is one of a module, and what it takes and returns can be pickled; `preload` names
    modules that it needs. A process does `per_process` tasks at most. A task that was lost with its
    process is tried again in a new one until `Blame` has a verdict. When the iterator is closed or
    this is interrupted, all processes are killed. Raises `CannotStart` when processes are lost
    before any of them began.
    """
    # From a server, children begin at once, and inherit neither threads nor open files.
    context = child_context(preload)
    waiting = deque(range(len(tasks)))
    blame = Blame()
    fresh: set[int] = set()
    """Tasks that need a new process."""
    idle: list[_Worker] = []
    running: list[_Worker] = []
    num_lost = 0
    """Processes, before the first began."""
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                index = waiting.popleft()
                worker = idle.pop() if idle and index not in fresh else _start(context, function)
                running.append(worker)
                _give(worker, index, tasks[index], seconds(tasks[index]))
            until = min(w.deadline for w in running)
            wait([w.pipe for w in running], max(until - time.monotonic(), 0))
            for worker in list(running):
                outcome = _look(worker, seconds(tasks[worker.index]))
                if outcome is None:
                    continue
                running.remove(worker)
                if num_lost >= 0:
                    num_lost = -1 if worker.has_begun else num_lost + 1
                if num_lost > workers + 1:
                    _end(worker)
                    assert isinstance(outcome, Failure)
                    raise CannotStart(
                        f"no process can start, the last because {outcome.text}: not caused by the "
                        "files; run `avmix doctor` without files to check the installation"
                    )
                verdict = _verdict(blame, worker, outcome)
                if verdict is None and worker.num_given < per_process:
                    idle.append(worker)
                else:
                    _end(worker)
                if verdict == "again":
                    fresh.add(worker.index)
                    waiting.appendleft(worker.index)
                else:
                    yield worker.index, outcome
    finally:
        for worker in (*running, *idle):
            _end(worker)


def be_quiet() -> None:
    """Set up a child process: only the parent ends it, and decoders print nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _start(context: Any, function: Callable[..., Any]) -> _Worker:
    pipe, theirs = context.Pipe()
    process = context.Process(target=_child, args=(theirs, function), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, pipe)


def _verdict(blame: Blame, worker: _Worker, outcome: Any) -> Verdict | None:
    """None where the process was not lost, which a task that raised an error does not do."""
    if not isinstance(outcome, Failure) or outcome.kind == "failed":
        return None
    if outcome.kind == "time_limit" and not worker.has_begun:
        return "machine"  # it waited for minutes
    return blame.of(worker.index, alone=worker.num_given == 1, passing=outcome.passing)


def _give(worker: _Worker, index: int, task: Any, seconds: float) -> None:
    worker.index = index
    worker.num_given += 1
    worker.has_begun = False
    worker.deadline = time.monotonic() + START_SECONDS
    with suppress(OSError):  # where it has died, `_look` finds it
        worker.pipe.send((task, seconds))


def _look(worker: _Worker, seconds: float) -> Any:
    """The result of a process, or `Failure`, if it has come to either."""
    if worker.pipe.poll():
        try:
            message = worker.pipe.recv()
        except (EOFError, ConnectionError):
            worker.process.join()
            code = worker.process.exitcode
            passing = not worker.has_begun or killed_from_outside(code)
            return Failure("crashed", _how(code, worker.has_begun), passing=passing)
        if message != _BEGUN:
            return message
        worker.has_begun = True
        worker.deadline = time.monotonic() + seconds
    if time.monotonic() >= worker.deadline:
        if not worker.has_begun:
            return Failure("time_limit", f"not begun within {START_SECONDS:g} s", passing=True)
        stalled = held_up(worker.process.pid, seconds)
        hint = ": it was stopped, or waited for a disk or a processor" if stalled else ""
        return Failure("time_limit", f"not finished within {seconds:g} s{hint}", passing=stalled)
    return None


def _end(worker: _Worker) -> None:
    worker.process.kill()
    worker.process.join()
    worker.process.close()
    worker.pipe.close()


def _how(exitcode: int | None, has_begun: bool) -> str:
    when = "while it was read" if has_begun else "before it was read"
    if exitcode is not None and exitcode < 0:
        return f"killed by {signal.Signals(-exitcode).name} {when}"
    return f"the process ended with code {exitcode}{'' if has_begun else ' ' + when}"


def _child(pipe: Connection, function: Callable[[Any], Any]) -> None:
    be_quiet()
    by_default("SIGALRM")
    while True:
        try:
            task, seconds = pipe.recv()
        except EOFError:
            os._exit(0)  # what damaged files left behind in a decoder may crash while it is freed
        alarm(seconds + _ORPHAN_SECONDS)
        pipe.send(_BEGUN)
        try:
            result = function(task)
        except Exception as error:
            result = Failure("failed", f"{type(error).__name__}: {error}")
        alarm(0.0)
        pipe.send(result)
