"""One process per file, killed when it takes too long: decoders hang and crash on bad files."""

import importlib
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from avmix.doctor.examine import Task, examine
from avmix.doctor.report import Code, FileReport, Finding

_START_SECONDS = 120.0
"""For a process to begin; the limit of the file counts from then."""


@dataclass(slots=True)
class _Running:
    task: Task
    process: BaseProcess
    pipe: Connection
    deadline: float


def examine_all(
    tasks: Sequence[Task], *, workers: int, done: Callable[[FileReport], None]
) -> list[FileReport]:
    """Examine every file, `workers` at a time, `task.seconds` at most each.

    Reports are in the order of `tasks`; `done` is called with each as it comes. A crash or a hang
    is a finding. When this is interrupted, all processes are killed before it raises.
    """
    context = _context()
    waiting = deque(enumerate(tasks))
    running: dict[int, _Running] = {}
    reports: dict[int, FileReport] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                index, task = waiting.popleft()
                pipe, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_child, args=(theirs, task), daemon=True)
                process.start()
                theirs.close()
                deadline = time.monotonic() + _START_SECONDS
                running[index] = _Running(task, process, pipe, deadline)
            until = min(r.deadline for r in running.values())
            wait([r.pipe for r in running.values()], max(until - time.monotonic(), 0))
            for index, run in list(running.items()):
                report = _look(run)
                if report is not None:
                    _end(running.pop(index))
                    reports[index] = report
                    done(report)
    finally:
        for run in running.values():
            _end(run)
    return [reports[index] for index in range(len(tasks))]


def imports(module: str) -> bool:
    """Whether a module can be imported; tried in a process, for what it loads may crash."""
    process = _context().Process(target=_import, args=(module,), daemon=True)
    process.start()
    process.join(_START_SECONDS)
    good = process.exitcode == 0
    process.kill()
    process.join()
    return good


def _context() -> ForkServerContext:
    """Children fork from a server that has imported everything.

    So they begin at once, and inherit neither threads nor open files of this process.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["avmix.doctor.examine"])
    return context


def _look(run: _Running) -> FileReport | None:
    """The report of a process, if it has come to an end in one way or another."""
    if run.pipe.poll():
        try:
            message = run.pipe.recv()
        except EOFError:
            run.process.join()
            return _failed(run.task, "crashed", _how(run.process.exitcode))
        if isinstance(message, FileReport):
            return message
        if message is not None:
            return _failed(run.task, "failed", str(message))
        run.deadline = time.monotonic() + run.task.seconds
    if time.monotonic() >= run.deadline:
        return _failed(run.task, "time_limit", f"not finished within {run.task.seconds:g} s")
    return None


def _end(run: _Running) -> None:
    run.process.kill()
    run.process.join()
    run.process.close()
    run.pipe.close()


def _how(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"killed by {signal.Signals(-exitcode).name} while it was read"
    return f"the process ended with code {exitcode}"


def _failed(task: Task, code: Code, text: str) -> FileReport:
    size = os.path.getsize(task.path) if Path(task.path).is_file() else None
    finding = Finding.of(code, text)
    return FileReport(path=task.path, level=finding.level, findings=(finding,), bytes=size)


def _be_quiet() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this one
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # decoders print; the output belongs to the report
    os.dup2(nowhere, 2)


def _import(module: str) -> None:
    _be_quiet()
    importlib.import_module(module)
    os._exit(0)


def _child(pipe: Connection, task: Task) -> None:
    _be_quiet()
    pipe.send(None)
    try:
        report = examine(task)
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")
    else:
        pipe.send(report)
    pipe.close()
    os._exit(0)  # what a damaged file left behind in a decoder may crash while it is freed
