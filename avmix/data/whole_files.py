"""Whole files that no manifest describes: found, judged in processes that they may kill, and as
entries without a label."""

import math
import os
import stat
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from avmix.decode import ClipError, DecodeError, Limits, MediaOpenError
from avmix.isolate.process_pool import Failure, run_each
from avmix.media.folder_walk import walk
from avmix.media.judgement import judge_file
from avmix.types import Entry

_PER_PROCESS = 200
"""Files that a process reads before another takes its place: what decoders leak stays small."""
_WITHOUT_LIMIT = 10
"""Times the limit of a file, within which its process is killed: one clock decides."""
_MOST_WINDOWS = 100_000
"""Along one file: what timestamps claim must not fill the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What is known of a file before its windows are read."""

    path: str
    """As it was named."""
    entry: Entry | None = None
    """The whole file, or its longest readable stretch, without labels; None: it cannot be read."""
    reason: str = ""
    """Why not."""
    note: str = ""
    """What of it is left out, or is damaged."""


@dataclass(slots=True)
class FoundFiles:
    """Files that are named, each once, in the order of the names."""

    paths: list[str] = field(default_factory=list)
    problems: list[Looked] = field(default_factory=list)
    """What is named and is no media file: missing, a folder without any, a name that is not
    UTF-8."""
    num_others: int = 0
    """Files in folders that are no media files."""


def find_files(names: Sequence[str]) -> FoundFiles:
    """The media files that are named, and those below the folders that are named."""
    found, seen = FoundFiles(), set[str]()

    def add(path: str) -> None:
        real = os.path.realpath(path)
        if real not in seen:
            seen.add(real)
            found.paths.append(path)

    for name in names:
        if not os.path.isdir(name):
            add(name)  # what is missing is said when it is read
            continue
        below = walk(name)
        found.num_others += sum(below.others.values())
        for file in below.files:
            if file.path not in below.links_again:
                add(os.path.join(name, file.path))
        found.problems += [
            Looked(path=os.path.join(name, path), reason=why) for path, why in below.unusable
        ]
        if not below.files and not below.unusable:
            found.problems.append(Looked(path=name, reason="no media file in this folder"))
    return found


def entry_of_file(path: str, limits: Limits) -> tuple[Entry, str]:
    """A file as an entry without labels, from its first frame to the end of its last, and a note.

    Of a file that is readable in part it is the longest such stretch, and the note says why; the
    note is empty for a whole one. Raises OSError and `ClipError`.
    """
    about = os.stat(path)
    if not stat.S_ISREG(about.st_mode):
        raise MediaOpenError(path, "not a regular file")
    judged = judge_file(path, limits=limits)
    if judged.error is not None:
        raise judged.error
    if judged.worth == "nothing":
        raise DecodeError(path, judged.said())
    start, end = judged.best
    entry = Entry(
        clip_id=path,
        path=os.path.abspath(path),
        start_seconds=start,
        end_seconds=end,
        labels=(),
        source_id=path,
        video=judged.video,
        audio=judged.audio,
        bytes=about.st_size,
        sha256="",
        usable_until_seconds=judged.usable_until(judged.best),
    )
    return entry, "; ".join(filter(None, (judged.said(), judged.damaged_audio)))


def look_at_all(
    paths: Sequence[str], *, workers: int, seconds: float, tick: Callable[[], None]
) -> list[Looked]:
    """What is known of each file, in their order; `tick` is called after each.

    `workers` processes, each of which is killed after `seconds` at one file; 0: in this process,
    where a file that crashes the decoder takes the program along. Raises `CannotStart`.
    """
    found: dict[int, Looked] = {}
    tasks = [(path, seconds, workers > 0) for path in paths]
    with closing(_looking(tasks, workers, seconds)) as looking:
        for index, outcome in looking:
            found[index] = outcome
            tick()
    return [found[index] for index in range(len(paths))]


def sliding(entry: Entry, window_seconds: float, step_seconds: float) -> list[Entry]:
    """Windows along a file, each as an entry of its own: one every `step_seconds`, and one that
    ends with the file where none does. A shorter file is one window.

    Raises ValueError where they are more than anyone can look at.
    """
    slack = max(0.0, entry.duration_seconds - window_seconds)
    if slack / step_seconds > _MOST_WINDOWS:
        raise ValueError(
            f"{slack / step_seconds:.0f} windows in {entry.duration_seconds:.0f} s, more than "
            f"{_MOST_WINDOWS}; use a larger step"
        )
    count = math.floor(slack / step_seconds + 1e-9) + 1
    starts = [number * step_seconds for number in range(count)]
    if slack - starts[-1] > 1e-3:
        starts.append(slack)
    return [
        replace(
            entry, clip_id=f"{entry.clip_id}#{number}", start_seconds=entry.start_seconds + start,
            end_seconds=min(entry.start_seconds + start + window_seconds, entry.end_seconds),
        )
        for number, start in enumerate(starts)
    ]  # fmt: skip


_Task = tuple[str, float, bool]
"""Path, limit in seconds, and whether that is kept from outside."""


def _looking(
    tasks: Sequence[_Task], workers: int, seconds: float
) -> Generator[tuple[int, Looked], None, None]:
    if not workers:
        for index, task in enumerate(tasks):
            yield index, look_at(task)
        return
    running = run_each(
        look_at, tasks, workers=workers, seconds=lambda task: seconds,
        preload=("avmix.data.whole_files",), per_process=_PER_PROCESS,
    )  # fmt: skip
    with closing(running):
        for index, outcome in running:
            if isinstance(outcome, Failure):
                outcome = Looked(path=tasks[index][0], reason=_said(outcome))
            yield index, outcome


def look_at(task: _Task) -> Looked:
    """One file; problems are results, not exceptions."""
    path, seconds, is_limited = task
    try:
        path.encode()
        entry, note = entry_of_file(
            path, Limits(seconds=_WITHOUT_LIMIT * seconds if is_limited else seconds)
        )
    except UnicodeEncodeError:
        return Looked(path=path, reason="its name is not UTF-8: rename it")
    except ClipError as error:
        return Looked(path=path, reason=" ".join(error.problem.split()))
    except (OSError, ValueError) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        return Looked(path=path, reason=text or type(error).__name__)
    return Looked(path=path, entry=entry, note=note)


def _said(failure: Failure) -> str:
    match failure.kind:
        case "crashed":
            return f"the decoder crashed: {failure.text}"
        case "time_limit":
            return f"{failure.text}; a long file needs a larger --seconds"
    return " ".join(failure.text.split())
