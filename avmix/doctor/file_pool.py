"""Pool of child processes that examine files, each with a time limit."""

import importlib
import os
from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path

from avmix.doctor.examine import Task, examine
from avmix.doctor.report import FileReport, Finding
from avmix.isolate.process_pool import START_SECONDS, Failure, be_quiet, run_each
from avmix.system.portability import child_context

_PRELOAD = ("avmix.doctor.examine",)


def examine_all(
    tasks: Sequence[Task], *, workers: int, done: Callable[[FileReport], None]
) -> list[FileReport]:
    """Examine every file, `workers` at a time, `task.seconds` at most each.

    Reports are in the order of `tasks`; `done` is called with each as it comes. A crash or a hang
    is a finding. When this is interrupted, all processes are killed before it raises.
    """
    reports: dict[int, FileReport] = {}
    running = run_each(
        examine, tasks, workers=workers, seconds=attrgetter("seconds"), preload=_PRELOAD
    )
    try:
        for index, outcome in running:
            failed = isinstance(outcome, Failure)
            reports[index] = _failed(tasks[index], outcome) if failed else outcome
            done(reports[index])
    finally:
        running.close()
    return [reports[index] for index in range(len(tasks))]


def imports(module: str) -> bool:
    """Whether a module can be imported; tried in a process, for what it loads may crash."""
    process = child_context(_PRELOAD).Process(target=_import, args=(module,), daemon=True)
    process.start()
    process.join(START_SECONDS)
    good = process.exitcode == 0
    process.kill()
    process.join()
    return good


def _failed(task: Task, failure: Failure) -> FileReport:
    size = os.path.getsize(task.path) if Path(task.path).is_file() else None
    finding = Finding.of(failure.kind, failure.text)
    return FileReport(path=task.path, level=finding.level, findings=(finding,), bytes=size)


def _import(module: str) -> None:
    be_quiet()
    importlib.import_module(module)
    os._exit(0)
