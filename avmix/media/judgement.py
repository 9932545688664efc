"""What a file is worth: all of it, some stretches of it, or nothing; and why.

One judgement, for whoever takes files (prepare, transcode, synth, download) or speaks of them
(doctor): what it keeps can be read by training, and what it leaves out it gives the reason for.
"""

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from avmix.decode import ClipError, DecodeError, Limits, decode_clips
from avmix.decode.mono_track import track_of
from avmix.decode.request import Track
from avmix.media.frame_scan import Bad, Check
from avmix.media.probe import Survey, survey
from avmix.types import AudioInfo, Entry, VideoInfo

Stretch = tuple[float, float]
"""Begin and end, seconds; 0 is the first presented frame."""
Worth = Literal["whole", "part", "nothing"]

_LIMITS = Limits(seconds=600.0)
_LEAST_SECONDS = 0.2
"""The shortest stretch that is worth anything."""
_WINDOW_SECONDS, _STEP_SECONDS = 1.0, 0.5
"""Of the windows by which stretches beside damage are tried, at most `_MOST_WINDOWS` each."""
_MOST_WINDOWS = 48
_FEW_WINDOWS = 3
"""Of a file without a sign of damage: its beginning, middle and end."""
_FEW_FRAMES = 4
_MOST_FPS = 60.0
_SIDE_PX = 16
_OVER_SECONDS = 0.3
"""How far before the end of a stretch a window begins that goes on behind it."""
_SHRINK_SECONDS = 0.25
"""What a stretch loses at an end where windows fail, before it is tried again."""
_MOST_TRIES = 16
"""Stretches that are tried; what has not been by then is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What one file is worth."""

    good: tuple[Stretch, ...]
    """Stretches that can be read, ascending; () where nothing can be."""
    reasons: tuple[str, ...]
    """Why it is not whole, one line each; () where it is."""
    looked: Literal["packets", "frames"]
    """What was looked at: packets and audio, or every frame as well."""
    video: VideoInfo | None = None
    audio: AudioInfo | None = None
    damaged_audio: str = ""
    """Which audio is zeros because it is damaged; empty where none is."""
    error: ClipError | None = None
    """Why nothing of it can be read, where that is known as an error."""

    @property
    def worth(self) -> Worth:
        """In one word."""
        return "nothing" if not self.good else "part" if self.reasons else "whole"

    @property
    def end_seconds(self) -> float:
        """Of what is there, whether it can be read or not."""
        return _end(self.video, self.audio)

    @property
    def best(self) -> Stretch:
        """The longest good stretch, of several the first. IndexError where there is none."""
        return max(self.good, key=lambda s: (round(s[1] - s[0], 3), -s[0]))

    def usable_until(self, stretch: Stretch) -> float | None:
        """As `Entry.usable_until_seconds`, for a clip of this good stretch."""
        return stretch[1] if stretch[1] < self.end_seconds else None

    def said(self) -> str:
        """Why it is not whole, and what of it is good, in one line; empty where it is whole."""
        why = "; ".join(self.reasons)
        if self.worth != "part":
            return why
        good = ", ".join(f"{begin:.2f} to {end:.2f} s" for begin, end in self.good)
        return f"usable from {good} of {self.end_seconds:.2f} s: {why}"


def judge_file(
    path: str | os.PathLike[str],
    check: Check = "fast",
    *,
    audio_track: Track = None,
    limits: Limits = _LIMITS,
) -> Judgement:
    """What `path` is worth; all that is wrong with its content is in what is returned.

    "fast" looks at packets and audio, and decodes every frame only where these show signs of
    damage; "full" decodes every frame of any file. `audio_track` is as for `decode_clip`. Raises
    OSError as the system does.
    """
    look = partial(survey, audio_track=audio_track, limits=limits)
    path = os.fspath(path)
    looked: Literal["packets", "frames"] = "frames" if check == "full" else "packets"
    try:
        found = look(path, check)
        if found.doubts and check == "fast":
            looked, found = "frames", look(path, "full")
        if found.can_be_bared:
            bared = look(path, "full", bare=True)
            found = min(found, bared, key=lambda s: _seconds_of(s.bad))
    except ClipError as error:
        problem = error.problem.splitlines()[0]
        return Judgement(good=(), reasons=(problem,), looked=looked, error=error)
    return _tried(path, found, looked, limits)


def entry_of(
    path: str | os.PathLike[str],
    root: str | os.PathLike[str],
    *,
    clip_id: str,
    labels: Sequence[str],
    source_id: str,
    check: Check = "fast",
    in_part: bool = False,
) -> Entry:
    """The manifest row of a file: from its first frame to the end of its last.

    With `in_part` of a file that is usable in part the longest good stretch. A file without frames
    is as long as its audio. `path` must lie below `root`, else ValueError; otherwise raises as
    `avmix.media.probe.probe`, and `DecodeError` where the file is usable in part or not at all.
    """
    relative = Path(path).relative_to(root).as_posix()
    judged = judge_file(path, check)
    if judged.error is not None:
        raise judged.error
    if judged.worth == "nothing" or (judged.worth == "part" and not in_part):
        raise DecodeError(path, judged.said())
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    start, end = judged.best
    return Entry(
        clip_id=clip_id,
        path=relative,
        start_seconds=start,
        end_seconds=end,
        labels=tuple(labels),
        source_id=source_id,
        video=judged.video,
        audio=judged.audio,
        bytes=os.path.getsize(path),
        sha256=sha256,
        usable_until_seconds=judged.usable_until(judged.best),
    )


def _judgement(
    found: Survey,
    good: Sequence[Stretch],
    reasons: Sequence[str],
    looked: Literal["packets", "frames"],
) -> Judgement:
    why = [found.is_cut, *reasons]
    return Judgement(
        good=tuple(good),
        reasons=tuple(dict.fromkeys(filter(None, why))),
        looked=looked,
        video=found.video,
        audio=found.audio,
        damaged_audio=found.damaged_audio,
    )


def _tried(
    path: str, found: Survey, looked: Literal["packets", "frames"], limits: Limits
) -> Judgement:
    """The judgement of a file: stretches without anything bad, of which frames can be read."""
    end = _end(found.video, found.audio)
    # Without frames the clock is the container's, and what is kept begins with the audio.
    zero = found.audio.start_seconds if found.video is None and found.audio else 0.0
    bad = [Bad(b.begin_seconds - zero, b.end_seconds - zero, b.reason) for b in found.bad]
    bad = [b for b in bad if b.begin_seconds < end and b.end_seconds > 0]
    reasons = [b.reason for b in sorted(bad, key=lambda b: b.begin_seconds)]
    if found.stop is not None:
        reasons.append(found.stop.problem)
    if looked == "packets":
        return _judgement(found, [(0.0, end)], reasons, looked)
    waiting = _without([(0.0, end)], bad) if bad else [(0.0, end)]  # however short
    if found.video is None:
        return _judgement(found, waiting, _some(reasons), looked)
    trial, good = _Trial(path, found, end, limits), list[Stretch]()
    for _ in range(_MOST_TRIES):
        if not waiting:
            break
        stretch = waiting.pop(0)
        failed = trial.failures(stretch, is_dense=bool(found.doubts or reasons))
        reasons += [why for _, why in failed]
        if failed:
            waiting += _smaller(stretch, [window for window, _ in failed])
        else:
            good.append(stretch)
    return _judgement(found, sorted(good), _some(reasons), looked)


@dataclass(frozen=True, slots=True)
class _Trial:
    """Windows of a file, read as training reads them."""

    path: str
    found: Survey
    end_seconds: float
    limits: Limits

    def failures(self, stretch: Stretch, *, is_dense: bool) -> list[tuple[Stretch, str]]:
        """The windows of a stretch that cannot be read, and why. Each opens the file again."""
        begin, end = stretch
        length = min(_WINDOW_SECONDS, end - begin)
        steps = math.ceil((end - begin - length) / _STEP_SECONDS) if is_dense else _FEW_WINDOWS - 1
        num = min(steps + 1, _MOST_WINDOWS) if end - begin > length else 1
        failed: list[tuple[Stretch, str]] = []
        for k in range(num):
            start = begin + (end - begin - length) * k / max(num - 1, 1)
            if why := self._failure(start, length, None, is_dense=is_dense):
                failed.append(((start, start + length), why))
        if not failed and end < self.end_seconds:
            start = max(begin, end - _OVER_SECONDS)
            if why := self._failure(start, 2 * _WINDOW_SECONDS, end, is_dense=is_dense):
                failed.append(((end - _SHRINK_SECONDS, end), why))
        return failed

    def _failure(self, start: float, length: float, until: float | None, *, is_dense: bool) -> str:
        assert self.found.video is not None
        num = round(length * min(self.found.video.fps, _MOST_FPS)) if is_dense else _FEW_FRAMES
        try:
            (outcome,) = decode_clips(
                self.path,
                starts_seconds=(start,),
                duration_seconds=length,
                num_frames=max(num, 1),
                short_side=_SIDE_PX,
                audio="silence" if self.found.audio is None else "require",
                audio_track=track_of(self.found.audio),
                until_seconds=until,
                limits=self.limits,
            )
        except ClipError as error:
            return error.problem
        return outcome.problem if isinstance(outcome, ClipError) else ""


def _smaller(stretch: Stretch, failed: Sequence[Stretch]) -> list[Stretch]:
    """What is left to be tried of a stretch of which some windows fail."""
    begin, end = stretch
    at_begin = all(window[0] <= begin for window in failed)
    at_end = all(window[1] >= end - 1e-6 for window in failed)
    if at_begin != at_end:
        begin, end = begin + _SHRINK_SECONDS * at_begin, end - _SHRINK_SECONDS * at_end
        return _long_enough([(begin, end)])
    return _without([stretch], [Bad(low, high, "") for low, high in failed])


def _without(stretches: Sequence[Stretch], bad: Sequence[Bad]) -> list[Stretch]:
    """What is left of stretches without what is bad."""
    left = list(stretches)
    for one in bad:
        parts: list[Stretch] = []
        for begin, end in left:
            parts.append((begin, min(end, one.begin_seconds)))
            parts.append((max(begin, one.end_seconds), end))
        left = [(begin, end) for begin, end in parts if begin < end]
    return _long_enough(left)


def _long_enough(stretches: Sequence[Stretch]) -> list[Stretch]:
    return [(begin, end) for begin, end in stretches if end - begin >= _LEAST_SECONDS]


def _some(reasons: Sequence[str], most: int = 3) -> list[str]:
    """The first reasons, and how many more there are."""
    each = list(dict.fromkeys(reason.splitlines()[0] for reason in reasons))
    more = [f"and {len(each) - most} more such places"] if len(each) > most else []
    return [*each[:most], *more]


def _seconds_of(bad: Sequence[Bad]) -> float:
    return sum(min(b.end_seconds, 1e9) - max(b.begin_seconds, 0.0) for b in bad)


def _end(video: VideoInfo | None, audio: AudioInfo | None) -> float:
    longest = video or audio
    assert longest is not None
    return longest.duration_seconds
