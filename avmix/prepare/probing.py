"""Every file of a media folder probed once: here or on a cluster, each limited in time."""

import hashlib
import os
import stat
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from avmix.decode import ClipError
from avmix.decode.request import Track
from avmix.killable import Failure, run_each
from avmix.names import console_of
from avmix.prepare.journal import Journal, Probed
from avmix.prepare.probe import probe
from avmix.prepare.scan import File

_PER_PROCESS = 200
"""Files that a process reads before another takes its place: what decoders leak stays small."""


@dataclass(frozen=True, slots=True)
class Look:
    """One file to probe."""

    root: str
    file: File
    seconds: float
    """Limit for the whole file."""
    audio_track: Track = None
    """Which of several, as for `decode_clip`."""


def probe_files(
    root: Path,
    files: Sequence[File],
    journal: Journal,
    *,
    workers: int,
    seconds: float,
    ray: str | None = None,
    audio_track: Track = None,
) -> dict[File, Probed]:
    """What is found in each of `files`; those that the journal knows are not read again.

    `seconds` is the limit for one file, after which the process that reads it is killed. With
    `ray`, an address or `local`, the cluster reads them; the results are the same.
    """
    known = {file: journal.found[file] for file in files if _holds(journal, file, seconds)}
    tasks = [Look(str(root), file, seconds, audio_track) for file in files if file not in known]
    with _bar(len(files), len(known)) as advance, closing(_running(tasks, workers, ray)) as running:
        for look, probed in running:
            journal.add(look.file, probed)
            known[look.file] = probed
            advance(bool(probed.problem))
    return known


Results = Generator[tuple[Look, Probed], None, None]


def probe_here(tasks: Sequence[Look], workers: int) -> Results:
    """Probe in `workers` processes of this machine; results come as they are ready."""
    running = run_each(
        probe_one,
        tasks,
        workers=workers,
        seconds=attrgetter("seconds"),
        preload=("avmix.prepare.probing", "avmix.prepare.recipe"),
        per_process=_PER_PROCESS,
    )
    with closing(running):
        for index, outcome in running:
            look = tasks[index]
            yield look, _failed(outcome, look) if isinstance(outcome, Failure) else outcome


def probe_one(look: Look) -> Probed:
    """Read one file from beginning to end, and its hash; problems are results, not exceptions."""
    path = os.path.join(look.root, look.file.path)
    try:
        before = os.stat(path)
        if not stat.S_ISREG(before.st_mode):
            return Probed(problem="not a regular file")
        with open(path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        probed = _read(path, sha256, look.audio_track)
        after = os.stat(path)
    except OSError as error:
        return Probed(problem=error.strerror or type(error).__name__, passing=True)
    if {(s.st_size, s.st_mtime_ns) for s in (before, after)} != {
        (look.file.bytes, look.file.mtime_ns)
    }:
        return Probed(problem="it changed while it was read; run again", passing=True)
    return probed


def _read(path: str, sha256: str, audio_track: Track) -> Probed:
    try:
        video, audio = probe(path, audio_track)
    except ClipError as error:
        return Probed(sha256=sha256, problem=error.problem.splitlines()[0])
    return Probed(video=video, audio=audio, sha256=sha256)


def _failed(failure: Failure, look: Look) -> Probed:
    late = failure.kind == "time_limit" and not failure.passing
    limit = look.seconds if late else None
    hint = "; a long file needs a larger --seconds" if limit is not None else ""
    text = failure.text if failure.kind != "crashed" else f"the decoder crashed: {failure.text}"
    return Probed(problem=text + hint, limit_seconds=limit, passing=failure.passing)


def _holds(journal: Journal, file: File, seconds: float) -> bool:
    """Whether what the journal says of a file is what reading it again would give."""
    probed = journal.found.get(file)
    return probed is not None and probed.limit_seconds in (None, seconds)


def _running(tasks: Sequence[Look], workers: int, ray: str | None) -> Results:
    if ray is None:
        yield from probe_here(tasks, workers)
    elif tasks:
        from avmix.prepare.cluster import probe_there  # an extra, asked for

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
