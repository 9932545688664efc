"""Audio onset times of one clip."""

from dataclasses import dataclass
from pathlib import Path

from avmix.decode import ClipError
from avmix.media.onsets import onset_times
from avmix.media.whole_clip import audio_of
from avmix.types import Entry

_LISTEN_HZ = 16_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipEvents:
    """Audio onset times of one clip."""

    clip_id: str
    path: str
    event_seconds: tuple[float, ...]
    """On the clock of the file, ascending; none where there is no audio."""
    problem: str = ""
    """Why the clip cannot be read; empty where it can."""


def events_of(root: Path, entry: Entry) -> ClipEvents:
    """Detect the onsets of one clip; an unreadable clip gives a `ClipEvents` with a problem."""
    try:
        wave = audio_of(root, entry, _LISTEN_HZ)
    except (ClipError, OSError) as error:
        what = error.problem if isinstance(error, ClipError) else error.strerror or str(error)
        problem = f"{type(error).__name__}: {' '.join(what.split())}"
        return ClipEvents(clip_id=entry.clip_id, path=entry.path, event_seconds=(), problem=problem)
    times = entry.start_seconds + onset_times(wave, _LISTEN_HZ)
    events = tuple(round(float(t), 4) for t in times if t < entry.end_seconds)
    return ClipEvents(clip_id=entry.clip_id, path=entry.path, event_seconds=events)
