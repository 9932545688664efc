"""Comparison of a manifest with the files it describes."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from avmix.data.manifest import read_manifest, splits_of
from avmix.decode import ClipError
from avmix.decode.mono_track import track_of
from avmix.doctor.report import FileReport, Finding
from avmix.media.probe import survey
from avmix.types import AudioInfo, Entry, VideoInfo

_TOLERANCE = {"rms_dbfs": 0.5, "fps": 0.01, "log_mel_mean": 0.05, "log_mel_std": 0.05}
_SECONDS = 0.001
"""Tolerance of times. Another version of a decoder may round otherwise; generators of media may
write what they meant instead of what the codec made of it."""


def entries_of(path: Path) -> list[Entry]:
    """All rows of a dataset's folder, or of one split of it; raises `ManifestError`."""
    if path.is_dir():
        return [e for split in splits_of(path) for e in read_manifest(path, split).entries]
    return list(read_manifest(path.parent, path.stem).entries)


def row_findings(path: str, entries: Sequence[Entry], report: FileReport) -> tuple[Finding, ...]:
    """The findings of the file, and where it is not what its rows say.

    What the rows say themselves (no audio, silence) is known, so it is a note and no warning.
    """
    found = list(report.findings)
    row = entries[0]
    size = os.path.getsize(path)
    if size != row.bytes:
        found.append(Finding.of("changed", f"has {size} bytes, the manifest says {row.bytes}"))
    else:
        with open(path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 != row.sha256:
            found.append(Finding.of("changed", f"its hash {sha256[:12]}... is another one"))
    for text in _differences(path, entries):
        found.append(Finding.of("row_differs", text))
    longest = report.video or report.audio
    end = 0.0 if longest is None else longest.duration_seconds
    for entry in entries:
        if longest is not None and entry.end_seconds > end + 0.05:
            found.append(
                Finding.of(
                    "window_outside",
                    f"clip {entry.clip_id!r} ends at {entry.end_seconds:.3f} s, the file at "
                    f"{end:.3f} s",
                )
            )
    known = {"no_sound"} if row.audio is None else {"silent"} if row.audio.silent else set()
    return tuple(replace(f, level="note") if f.code in known else f for f in found)


def _differences(path: str, entries: Sequence[Entry]) -> list[str]:
    try:
        # The rows of one file speak of one track: a dataset is prepared with one choice.
        # Where reading stops early, the judgement says so.
        file = survey(path, audio_track=track_of(entries[0].audio))
    except ClipError as error:
        return [f"probing fails: {error.problem}"]
    found: list[str] = []
    for row in entries:
        found += _compare("video", row.video, file.video)
        found += _compare("audio", row.audio, file.audio)
    return list(dict.fromkeys(found))


def _compare(
    name: str, row: VideoInfo | AudioInfo | None, file: VideoInfo | AudioInfo | None
) -> list[str]:
    if row is None or file is None:
        said = ["no" if x is None else "a" for x in (row, file)]
        return [] if row is file else [f"{said[0]} {name} stream by the manifest, {said[1]} in it"]
    found = []
    for field in fields(row):
        a, b = getattr(row, field.name), getattr(file, field.name)
        if a is None:  # the manifest does not say: older ones have no log-mels
            continue
        close = _TOLERANCE.get(field.name, _SECONDS)
        if a != b and not (isinstance(a, float) and abs(a - b) <= close):
            said = [f"{x:.6g}" if isinstance(x, float) else str(x) for x in (b, a)]
            found.append(f"{name}.{field.name} is {said[0]} in the file, {said[1]} in the manifest")
    return found
