"""`jobs.jsonl` of `avmix synth external`: one clip a line that another program is to make."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from avmix.data.clip_reader import is_audible
from avmix.rng import rng
from avmix.synth.synthetic_set import SynthError
from avmix.types import Entry

Kind = Literal["text-to-video", "audio-to-video", "video-to-audio", "text-to-speech"]
Makes = Literal["both", "video", "audio"]

USUALLY: Mapping[Kind, Makes] = {
    "text-to-video": "both",
    "audio-to-video": "video",
    "video-to-audio": "audio",
    "text-to-speech": "audio",
}
"""What a program of each kind writes, where nothing else is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedClip:
    """One clip that is asked for."""

    name: str
    """`id` in the file, unique there."""
    label: str
    """Name of its class."""
    text: str
    """What is put for {text}; may be empty."""
    parent: Entry | None
    """The real clip that gives what the program is told or does not write."""
    duration_seconds: float
    seed: int


def read_jobs(
    path: Path, *, kind: Kind, makes: Makes, places: set[str], parents: Mapping[str, Entry],
    classes: Sequence[str], seed: int,
) -> tuple[RequestedClip, ...]:  # fmt: skip
    """The clips that are asked for, each checked against what `kind` and the command need.

    A line is {"id", "label"} and, as needed, "text", "parent" (a clip_id of the train split),
    "duration_seconds" (that of the parent's stretch), "seed" (drawn). Raises `SynthError` naming
    the line.
    """
    try:
        lines = path.read_text().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SynthError(f"--jobs {path}: {reason}") from None
    wanted: list[RequestedClip] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        row = _checked(line, where)
        parent = None
        if (name := row.get("parent")) is not None:
            if name not in parents:
                raise SynthError(f"{where}: parent {name!r} is no clip of the train split")
            parent = parents[name]
        stretch = parent.duration_seconds if parent is not None else None
        seconds = row.get("duration_seconds", stretch)
        drawn = int(rng(seed, 0, "external", number).integers(2**31))
        if seconds is None:
            raise SynthError(f"{where}: needs duration_seconds, as it has no parent")
        wanted.append(
            RequestedClip(
                name=row["id"], label=row["label"], text=row.get("text", ""), parent=parent,
                duration_seconds=float(seconds), seed=row.get("seed", drawn),
            )
        )  # fmt: skip
        _check_needs(wanted[-1], where, kind, makes, places)
        if row["label"] not in classes:
            raise SynthError(f"{where}: label {row['label']!r} is not a class of the dataset")
    names = [w.name for w in wanted]
    if not wanted:
        raise SynthError(f"--jobs {path}: no line in it")
    if twice := [name for name in names if names.count(name) > 1]:
        raise SynthError(f"--jobs {path}: id {twice[0]!r} occurs more than once")
    return tuple(wanted)


def kinds() -> tuple[str, ...]:
    """All kinds of programs."""
    return get_args(Kind)


_TYPES: Mapping[str, tuple[type, ...]] = {
    "id": (str,), "label": (str,), "text": (str,), "parent": (str,),
    "duration_seconds": (int, float), "seed": (int,),
}  # fmt: skip


def _checked(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise SynthError(f"{where}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise SynthError(f"{where}: not an object")
    for key, value in row.items():
        if key not in _TYPES:
            raise SynthError(f"{where}: no key {key!r}; there are: {', '.join(_TYPES)}")
        if not isinstance(value, _TYPES[key]) or isinstance(value, bool):
            raise SynthError(f"{where}: {key} has the wrong type: {value!r}")
    if missing := [key for key in ("id", "label") if not row.get(key)]:
        raise SynthError(f"{where}: needs {missing[0]}")
    if "duration_seconds" in row and not 0 < row["duration_seconds"] < 3600:
        raise SynthError(f"{where}: duration_seconds must be in (0, 3600)")
    if "seed" in row and not 0 <= row["seed"] < 2**32:
        raise SynthError(f"{where}: seed must be in [0, 2**32)")
    return row


def _check_needs(
    job: RequestedClip, where: str, kind: Kind, makes: Makes, places: set[str]
) -> None:
    if (kind.startswith("text") or "text" in places) and not job.text:
        raise SynthError(f"{where}: needs text: the program is told what to make by it")
    by_kind = {"audio-to-video": "the program hears it", "video-to-audio": "the program sees it"}
    why = by_kind.get(kind, "")
    if not why and places & {"input_video", "input_audio"}:
        why = "the command is given its file"
    if not why and makes != "both":
        why = f"the program makes {makes} only"
    if job.parent is None:
        if why:
            raise SynthError(f"{where}: needs parent, a clip_id of the train split: {why}")
        return
    needs_audio = kind == "audio-to-video" or "input_audio" in places or makes == "video"
    if needs_audio and not is_audible(job.parent):
        raise SynthError(f"{where}: parent {job.parent.clip_id!r} has no audio")
    if makes != "both" and job.duration_seconds > job.parent.duration_seconds + 1e-6:
        raise SynthError(
            f"{where}: duration_seconds {job.duration_seconds:g} is more than its parent's "
            f"{job.parent.duration_seconds:g}"
        )
