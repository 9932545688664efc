"""`avmix events`: writes the audio onset times of a dataset's clips beside its manifest.

The file, `events.jsonl`, has one line a clip, `{"clip_id": ..., "event_seconds": [...]}`, the times
on the clock of the clip's file (0 is the first frame presented) and within its labelled stretch.
The toy set writes what it knows of its own events in the same format.
"""

import argparse
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from rich.progress import track

from avmix.data.manifest import ManifestError, read_manifest, splits_of
from avmix.events.clip_events import ClipEvents, events_of
from avmix.system import strict_json
from avmix.system.atomic_files import replace_text
from avmix.system.paths import unwritable
from avmix.system.printing import counted, echo
from avmix.types import Entry

_MAX_LISTED = 20

EPILOG = """\
exit:   0 every clip was read   1 some cannot be read (they are named and have no line), or the
        file is there already   2 wrong usage   130 interrupted
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--root", "--media", type=Path, required=True, help="media folder")
    parser.add_argument("--manifest", type=Path, help="folder with dataset.json (--root)")
    parser.add_argument(
        "--splits", nargs="+", default=["train"], help="splits to search for onsets (train)"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes (1)")
    parser.add_argument("--overwrite", action="store_true", help="replace events.jsonl")


def run(args: argparse.Namespace) -> int:
    """Detect onsets in all clips, write events.jsonl, report unreadable clips; returns the exit
    code."""
    folder = args.manifest or args.root
    path = folder / "events.jsonl"
    try:
        if args.workers < 1:
            raise ManifestError(f"--workers must be at least 1, got {args.workers}")
        if path.exists() and not args.overwrite:
            raise ManifestError(f"{path} exists already; replace it with --overwrite")
        if why := unwritable(path):
            raise ManifestError(f"{path} {why}")
        known = splits_of(folder)
        for split in args.splits:
            if split not in known:
                raise ManifestError(f"{folder}: no split {split!r}; it has: {', '.join(known)}")
        entries = [e for split in args.splits for e in read_manifest(folder, split).entries]
        results = list(_detect_all(args.root, entries, args.workers))
        good = [h for h in results if not h.problem]
        rows = ({"clip_id": h.clip_id, "event_seconds": h.event_seconds} for h in good)
        replace_text(path, strict_json.lines(rows))
    except (ManifestError, OSError) as error:
        echo(f"error: {error}", error=True)
        return 1
    except KeyboardInterrupt:
        echo("stopped; nothing was written", error=True)
        return 130
    num_events = sum(len(h.event_seconds) for h in good)
    none = sum(not h.event_seconds for h in good)
    found = f"{counted(num_events, 'event')} in {counted(len(good), 'clip')}"
    echo(f"{path}: {found}, {none} of them without any")
    bad = [h for h in results if h.problem]
    if bad:
        echo(f"{len(bad)} of {len(results)} clips cannot be read and have no line:", error=True)
        for h in bad[:_MAX_LISTED]:
            echo(f"  {h.path}: {h.problem}", error=True)
        if len(bad) > _MAX_LISTED:
            echo(f"  and {len(bad) - _MAX_LISTED} more", error=True)
    return int(bool(bad))


def _detect_all(root: Path, entries: Sequence[Entry], workers: int) -> Iterator[ClipEvents]:
    listen = partial(events_of, root)
    if workers == 1:
        yield from track(map(listen, entries), "listening", total=len(entries))
        return
    try:
        # spawn: a fork would copy the state of the parent's threads.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            found = pool.map(listen, entries, chunksize=8)
            yield from track(found, "listening", total=len(entries))
    except BrokenProcessPool:
        raise ManifestError(
            "a process died, perhaps of a file that crashes the decoder; find it with "
            "`avmix doctor`"
        ) from None
