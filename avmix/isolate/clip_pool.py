"""Parallel map over the clips of a dataset in processes that a bad file may crash."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import TypeVar

from rich.progress import track

from avmix.isolate.process_pool import Failure, run_each

Task = TypeVar("Task")
Result = TypeVar("Result")

_PER_PROCESS = 200
"""Clips that a process reads before another takes its place: what decoders leak stays small."""
_PRELOAD = ("avmix.tools.leaks", "avmix.tools.transcode")


def for_each_clip(
    do: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    workers: int,
    seconds: float,
    what: str,
) -> Iterator[tuple[int, Result | Failure]]:
    """Run a function on every task; yields index and result as they come, with a progress bar
    labelled `what`.

    `workers` processes, each of which is killed after `seconds` at one task; 0: in this process,
    in order, without a limit.
    """
    if not workers:
        yield from track(((i, do(t)) for i, t in enumerate(tasks)), what, total=len(tasks))
        return
    running = run_each(
        do,
        tasks,
        workers=workers,
        seconds=lambda task: seconds,
        preload=_PRELOAD,
        per_process=_PER_PROCESS,
    )
    with closing(running):
        yield from track(running, what, total=len(tasks))


def failure_text(failure: Failure) -> str:
    """Reason for a missing result, in one line."""
    return f"{failure.kind}: {' '.join(failure.text.split())}"
