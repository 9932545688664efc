"""Every file of a media folder probed once: here or on a cluster, each limited in time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from avmix.decode.request import Track
from avmix.media.folder_walk import File
from avmix.media.frame_scan import Check
from avmix.prepare.probe_journal import Journal, Probed
from avmix.prepare.probe_pool import ProbeTask, Results, probe_here
from avmix.system.printing import console_of


def probe_files(
    root: Path,
    files: Sequence[File],
    journal: Journal,
    *,
    workers: int,
    seconds: float,
    check: Check = "fast",
    ray: str | None = None,
    audio_track: Track = None,
) -> dict[File, Probed]:
    """What is found in each of `files`; those that the journal knows are not read again.

    `seconds` is the limit for one file, after which the process that reads it is killed. With
    `ray`, an address or `local`, the cluster reads them; the results are the same.
    """
    known = {file: journal.found[file] for file in files if _holds(journal, file, seconds)}
    tasks = [
        ProbeTask(str(root), file, seconds, check, audio_track)
        for file in files
        if file not in known
    ]
    with _bar(len(files), len(known)) as advance, closing(_running(tasks, workers, ray)) as running:
        for look, probed in running:
            journal.add(look.file, probed)
            known[look.file] = probed
            advance(bool(probed.problem))
    return known


def _holds(journal: Journal, file: File, seconds: float) -> bool:
    """Whether what the journal says of a file is what reading it again would give."""
    probed = journal.found.get(file)
    return probed is not None and probed.limit_seconds in (None, seconds)


def _running(tasks: Sequence[ProbeTask], workers: int, ray: str | None) -> Results:
    if ray is None:
        yield from probe_here(tasks, workers)
    elif tasks:
        from avmix.prepare.ray_cluster import probe_there  # an extra, asked for

        yield from probe_there(tasks, ray, workers)


@contextmanager
def _bar(total: int, done: int) -> Iterator[Callable[[bool], None]]:
    """A bar with the time left, on a terminal; `advance(bad)` counts one file more."""
    console = console_of(stderr=True, tables=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    num_bad, num_new = 0, 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        shown = bar.add_task("probing", total=total, completed=done, rate="")

        def advance(bad: bool) -> None:
            nonlocal num_bad, num_new
            num_bad, num_new = num_bad + bad, num_new + 1
            said = f"probing, {num_bad} unreadable" if num_bad else "probing"
            seconds = bar.tasks[0].elapsed or 0.0
            rate = f"{num_new / seconds:.1f} / s" if seconds > 1 else ""
            bar.update(shown, advance=1, description=said, rate=rate)

        yield advance
