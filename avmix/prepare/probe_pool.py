"""Probing in processes on this machine, each file with a time limit."""

import hashlib
import os
import stat
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from operator import attrgetter

from avmix.decode import ClipError, Limits
from avmix.decode.parquet_cells import Cells, cells_of
from avmix.decode.request import Track
from avmix.decode.source import as_file, media_in_parquet
from avmix.isolate.process_pool import Failure, run_each
from avmix.media.folder_walk import File
from avmix.media.frame_scan import Check
from avmix.media.judgement import judge_file
from avmix.prepare.probe_journal import Probed

_PER_PROCESS = 200
"""Files that a process reads before another takes its place: what decoders leak stays small."""


_WITHOUT_LIMIT = 10
"""Times the limit of a file, within which it is killed."""


@dataclass(frozen=True, slots=True)
class ProbeTask:
    """One file to probe."""

    root: str
    file: File
    seconds: float
    """Limit for the whole file."""
    check: Check = "fast"
    audio_track: Track = None
    """Which of several, as for `decode_clip`."""


Results = Generator[tuple[ProbeTask, Probed], None, None]


def probe_here(tasks: Sequence[ProbeTask], workers: int) -> Results:
    """Probe in `workers` processes of this machine; results come as they are ready."""
    running = run_each(
        probe_one,
        tasks,
        workers=workers,
        seconds=attrgetter("seconds"),
        preload=("avmix.prepare.probe_files", "avmix.prepare.command"),
        per_process=_PER_PROCESS,
    )
    with closing(running):
        for index, outcome in running:
            task = tasks[index]
            yield task, _failed(outcome, task) if isinstance(outcome, Failure) else outcome


def probe_one(task: ProbeTask) -> Probed:
    """Read one file from beginning to end, and its hash; problems are results, not exceptions."""
    began = time.process_time()
    path = os.path.join(task.root, task.file.path)
    cells = cells_of(path)
    on_disk = path if cells is None else cells.file
    try:
        before = os.stat(on_disk)
        if not stat.S_ISREG(before.st_mode):
            return Probed(problem="not a regular file")
        probed = _hashed_and_read(path, task) if cells is None else _of_cells(cells, task)
        after = os.stat(on_disk)
    except ClipError as error:
        return Probed(problem=error.problem)
    except OSError as error:
        return Probed(problem=error.strerror or type(error).__name__, passing=True)
    if {(s.st_size, s.st_mtime_ns) for s in (before, after)} != {
        (task.file.bytes, task.file.mtime_ns)
    }:
        return Probed(problem="it changed while it was read; run again", passing=True)
    return replace(probed, cpu_seconds=round(time.process_time() - began, 4))


def _of_cells(cells: Cells, task: ProbeTask) -> Probed:
    """As `_hashed_and_read`, of what a Parquet file holds."""
    found = media_in_parquet(cells, Limits())
    said = f"its audio is of column {cells.audio}" if found.is_joined else ""
    with as_file(found.data, Limits()) as path:
        probed = _hashed_and_read(path, task)
    return replace(probed, media_bytes=len(found.data), separate_audio=said)


def _hashed_and_read(path: str, task: ProbeTask) -> Probed:
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return _read(path, sha256, task)


def _read(path: str, sha256: str, task: ProbeTask) -> Probed:
    # The limit of time is kept from outside, where it is known which one it was.
    limits = Limits(seconds=_WITHOUT_LIMIT * task.seconds)
    judged = judge_file(path, task.check, audio_track=task.audio_track, limits=limits)
    is_part, is_none = judged.worth == "part", judged.worth == "nothing"
    return Probed(
        video=None if is_none else judged.video,
        audio=None if is_none else judged.audio,
        sha256=sha256,
        problem=judged.said() if is_none else "",
        good=judged.good if is_part else (),
        in_part=judged.said() if is_part else "",
        damaged_audio=judged.damaged_audio,
        looked="" if is_none else judged.looked,
    )


def _failed(failure: Failure, task: ProbeTask) -> Probed:
    late = failure.kind == "time_limit" and not failure.passing
    limit = task.seconds if late else None
    hint = "; a long file needs a larger --seconds" if limit is not None else ""
    text = failure.text if failure.kind != "crashed" else f"the decoder crashed: {failure.text}"
    return Probed(problem=text + hint, limit_seconds=limit, passing=failure.passing)
