"""Rows of a manifest: an `Entry` as a JSON line, and back, with every value checked."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, get_args

from avmix.data.dataset_header import ManifestError
from avmix.system import strict_json
from avmix.types import AudioInfo, Entry, Synthetic, VideoInfo

_LABELS = ("labels", "video_labels", "audio_labels", "unknown_labels", "subsets")
"""Fields of an `Entry` that are lists of names; rows need only have the first."""


def row_of(entry: Entry) -> str:
    """JSON line of one clip. Fields added in later versions are omitted where they are empty:
    manifests keep their bytes, and so their hashes."""
    row = asdict(entry)
    if entry.synthetic is None:
        del row["synthetic"]
    if entry.usable_until_seconds is None:
        del row["usable_until_seconds"]
    if entry.video_labels is None:
        del row["video_labels"], row["audio_labels"]
    if not entry.unknown_labels:
        del row["unknown_labels"]
    if not entry.subsets:
        del row["subsets"]
    if entry.audio is not None and entry.audio.log_mel_mean is None:
        del row["audio"]["log_mel_mean"], row["audio"]["log_mel_std"]
    if entry.audio is not None and not entry.audio.mono_cancels:
        del row["audio"]["mono_cancels"]
    if entry.audio is not None and entry.audio.track is None:
        del row["audio"]["track"]
    return strict_json.dumps(row)


def parse_row(line: str, where: str) -> Entry:
    """Clip of a JSON line. Raises `ManifestError` beginning with `where`."""
    try:
        row = json.loads(line)
        video, audio = row.pop("video"), row.pop("audio")
        synthetic = row.pop("synthetic", None)
        entry = Entry(
            **{**row, **_lists_of_labels(row)},
            video=VideoInfo(**video) if video is not None else None,
            audio=AudioInfo(**audio) if audio is not None else None,
            synthetic=_synthetic(synthetic) if synthetic is not None else None,
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ManifestError(f"{where}: not a manifest row: {error}") from None
    for value in (entry, entry.video, entry.audio, entry.synthetic):
        if value is not None:
            _check_types(value, where)
    if not 0 <= entry.start_seconds < entry.end_seconds:
        raise ManifestError(
            f"{where}: start_seconds {entry.start_seconds} and end_seconds {entry.end_seconds} "
            "must satisfy 0 <= start < end"
        )
    return entry


def _lists_of_labels(row: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Those that the row has; a TypeError where one is something else."""
    found = {name: row[name] for name in _LABELS if name in row}
    for name, names in found.items():
        if not isinstance(names, list):
            raise TypeError(f"{name} must be a list, got {names!r}")
    return {name: tuple(names) for name, names in found.items()}


def _synthetic(row: Mapping[str, Any]) -> Synthetic:
    return Synthetic(**{**row, "parents": tuple(row["parents"])})


def _check_types(value: Entry | VideoInfo | AudioInfo | Synthetic, where: str) -> None:
    for field in fields(value):
        found = getattr(value, field.name)
        if field.type is float:
            ok = isinstance(found, int | float) and not isinstance(found, bool)
            if ok and not abs(found) <= sys.float_info.max:  # nan is not; 10**400 is no float
                raise ManifestError(f"{where}: {field.name} is not finite: {found!r}")
        elif field.type in (int, str, bool):
            ok = type(found) is field.type
        elif field.name == "labels" and isinstance(value, Entry):
            some = bool(found or value.unknown_labels)
            ok = some and all(isinstance(label, str) for label in found)
        elif field.name in _LABELS:
            ok = found is None or all(isinstance(label, str) for label in found)
        elif field.name == "parents":
            ok = all(isinstance(parent, str) for parent in found)
        elif field.name == "method":
            ok = found in get_args(field.type)
        elif field.name in ("score", "usable_until_seconds"):
            ok = found is None or (
                type(found) in (int, float) and abs(found) <= sys.float_info.max  # nan is not
            )
        else:
            ok = isinstance(found, get_args(field.type))
        if not ok:
            raise ManifestError(f"{where}: {field.name} has the wrong type: {found!r}")
