"""Check of a downloaded file: whether it is readable media; cut to its seconds where asked."""

import tarfile
import zipfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from avmix.decode import ClipError
from avmix.isolate.process_pool import Failure, run_each
from avmix.media.folder_walk import ARCHIVES, NO_MEDIA
from avmix.tools.link_list import Item

_LOOK_SECONDS = 600.0
"""Limit for probing and cutting one file."""
_PRELOAD = ("avmix.tools.fetched_file", "avmix.media.probe", "avmix.tools.transcode_clip")
"""Imported once, not by the process of every file."""
_WHOLE_SIZE = 1 << 14
"""Pixels: cut files keep the size of their frames."""


def arrived(path: Path, item: Item) -> tuple[str, Path]:
    """Look at what was fetched, in a process that it cannot harm, and cut it where that is asked
    for: why it is no use, else nothing, and the file."""
    with path.open("rb") as file:
        head = file.read(512)
    name = path.name.lower()
    if not head:
        return "it is empty", path
    if head.lstrip()[:1] == b"<" and not name.endswith((".xml", ".html", ".svg")):
        return "it is a web page and no file; is a login needed?", path
    if name.endswith(ARCHIVES):
        whole = zipfile.is_zipfile(path) or tarfile.is_tarfile(path)
        return "" if whole else "it is no archive that can be read", path
    if path.suffix.lower() in NO_MEDIA:
        return "", path
    if head.startswith(b"\x1f\x8b"):
        return "it is compressed (gzip), and no media file", path
    with closing(run_each(_probe_and_cut, [(path, item.cut_seconds)], workers=1,
                          seconds=lambda task: _LOOK_SECONDS,
                          preload=_PRELOAD)) as running:  # fmt: skip
        _, outcome = next(iter(running))
    return (outcome.text, path) if isinstance(outcome, Failure) else outcome


def _probe_and_cut(task: tuple[Path, tuple[float, float] | None]) -> tuple[str, Path]:
    from avmix.media.judgement import entry_of  # only this process needs them
    from avmix.tools.transcode_clip import Job, TargetFormat, make_one

    path, cut = task
    try:
        entry = entry_of(path, path.parent, clip_id=path.name, labels=("",), source_id=path.name)
    except ClipError as error:
        return error.problem.splitlines()[0], path
    if cut is None or entry.duration_seconds <= 1.1 * (cut[1] - cut[0]) + 0.5:
        return "", path
    if entry.end_seconds < cut[1] - 0.5:
        return f"{entry.end_seconds:.2f} s long: it does not reach second {cut[1]:g}", path
    stretch = replace(entry, start_seconds=cut[0], end_seconds=min(cut[1], entry.end_seconds))
    target = path.with_suffix(".mp4")
    job = Job(entry=stretch, path=f"{path.stem}.cut.mp4")
    made = make_one(path.parent, path.parent, job, form=TargetFormat(short_side=_WHOLE_SIZE))
    if made.entry is None:
        return f"it cannot be cut: {made.reason}", path
    path.unlink()
    (path.parent / job.path).replace(target)
    return "", target
