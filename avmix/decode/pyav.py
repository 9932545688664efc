"""Decode windows of one file with PyAV: video and audio of the same seconds, to the sample.

Everything is addressed by presentation time, never by counting from the first frame of a stream:
streams start at different times, frame rates vary, and codecs begin with samples nobody hears.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import numpy as np

from avmix.decode.audio import AudioTrack
from avmix.decode.errors import (
    ClipError,
    DecodeError,
    MediaOpenError,
    NoAudioStreamError,
    NoVideoStreamError,
    UnsupportedMediaError,
)
from avmix.decode.file_hash import verify_hash
from avmix.decode.file_reader import FileReader, ReadingPlace
from avmix.decode.open_file import Media
from avmix.decode.packet_feed import feed_all
from avmix.decode.request import Request
from avmix.decode.selective import SelectiveFrames
from avmix.decode.sequential import SequentialFrames
from avmix.decode.video import Canvas, SeekMissed
from avmix.decode.window_outcomes import AudioResult, audio_outcome, range_error, window_outcome
from avmix.types import Clip

_NEAR_SECONDS = 5.0
"""Windows nearer to one another than this are read in one go."""
T = TypeVar("T")


def decode(request: Request) -> list[Clip | ClipError]:
    """One outcome per window; see `decode_clips`."""
    if request.sha256 is not None:
        verify_hash(request.path, request.sha256, request.limits)
    outcomes = _each_outcome(request, _read_group)
    unsupported = [e for e in outcomes.values() if isinstance(e, UnsupportedMediaError)]
    if unsupported and len(unsupported) == len(outcomes):
        raise unsupported[0]
    return [outcomes[start] for start in request.starts_seconds]


def decode_audio_windows(request: Request) -> list[AudioResult | ClipError]:
    """Only the audio of each window, or the error that is of this window alone.

    For other backends, which take the frames from elsewhere. Raises as `decode_clips` does.
    """
    if request.audio == "skip":
        return [(request.silence, 0.0) for _ in request.starts_seconds]
    outcomes = _each_outcome(request, _read_audio)
    return [outcomes[start] for start in request.starts_seconds]


_Outcomes = dict[float, T | ClipError]
"""By the start of each window."""


def _each_outcome(
    request: Request, read: Callable[["FileReader", Request, list[float]], _Outcomes[T]]
) -> _Outcomes[T]:
    """What `read` gives for every window: those that lie together at once, others by themselves.

    Raises only what is wrong with the file whatever the window.
    """

    def outcomes_of(starts: list[float]) -> _Outcomes[T]:
        try:
            return read(reader, request, starts)
        except (MediaOpenError, NoVideoStreamError, NoAudioStreamError):
            raise
        except ClipError as error:
            return dict.fromkeys(starts, error)

    outcomes: _Outcomes[T] = {}
    with FileReader(request) as reader:
        for starts in _groups(request):
            found = outcomes_of(starts)
            # What is wrong with one window is no matter of those that were read with it.
            for start in starts if len(starts) > 1 else ():
                if isinstance(found[start], ClipError) and not reader.is_late:
                    found |= outcomes_of([start])
            outcomes |= found
    return outcomes


def _read_audio(
    reader: "FileReader", request: Request, starts: list[float]
) -> _Outcomes[AudioResult]:
    for media, place in reader.attempts(request.audio_start(starts[0])):
        try:
            audio = _audio(media, request, starts, place)
            if audio is not None:
                feed_all(media, None, audio)
            return {start: audio_outcome(media, request, audio, start) for start in starts}
        except SeekMissed:
            continue
    raise AssertionError("attempts end with an error")


def _groups(request: Request) -> list[list[float]]:
    """Starts of the windows, ascending, those together that lie together."""
    groups: list[list[float]] = []
    for start in sorted(set(request.starts_seconds)):
        if groups and start - groups[-1][-1] <= request.duration_seconds + _NEAR_SECONDS:
            groups[-1].append(start)
        else:
            groups.append([start])
    return groups


def _read_group(
    reader: FileReader, request: Request, starts: list[float]
) -> dict[float, Clip | ClipError]:
    """Read once and cut out every window; one outcome for each of `starts`.

    Where damage is told of, the frames are decoded again from farther back, and if it was only in
    libav's log, without what describes them: a window is refused for what is decoded, not for what
    is said.
    """
    first = min(starts[0], request.audio_start(starts[0]))
    frames, outcomes = _first_success(request, starts, reader.attempts(first))
    damaged = [start for start in starts if isinstance(outcomes[start], DecodeError)]
    if not damaged or not frames.damage.found:
        return outcomes
    since = np.inf
    if frames.earlier_seconds is not None:
        since = frames.earlier_seconds
        frames, again = _again(reader, request, damaged, since, frames)
        outcomes |= again
    if frames.damage.found and frames.can_be_bared:
        damaged = [start for start in starts if isinstance(outcomes[start], DecodeError)]
        outcomes |= _again(reader, request, damaged, since, frames, bare=True)[1]
    return outcomes


def _again(
    reader: FileReader,
    request: Request,
    starts: list[float],
    since: float,
    before: SelectiveFrames | SequentialFrames,
    *,
    bare: bool = False,
) -> tuple[SelectiveFrames | SequentialFrames, dict[float, Clip | ClipError]]:
    """Those of the windows that can be read in another way; `before` is what found damage."""
    if not starts:
        return before, {}
    first = min(starts[0], request.audio_start(starts[0]), since)
    attempts = (
        (media, replace(place, since_seconds=since, bare=bare))
        for media, place in reader.attempts(first)
        if place.planned or isinstance(before, SequentialFrames)
    )
    try:
        frames, outcomes = _first_success(request, starts, attempts, before.canvas)
    except ClipError:
        return before, {}  # the damage that was found first is what counts
    return frames, {s: o for s, o in outcomes.items() if not isinstance(o, ClipError)}


def _first_success(
    request: Request,
    starts: list[float],
    attempts: Iterator[tuple[Media, ReadingPlace]],
    before: Canvas | None = None,
) -> tuple[SelectiveFrames | SequentialFrames, dict[float, Clip | ClipError]]:
    """The first of `attempts` that does not miss its place, and what it gives for each window."""
    times = np.concatenate([request.times(start) for start in starts])
    if not (np.diff(times) > 0).all():
        times = np.unique(times)
    for media, place in attempts:
        canvas = Canvas(media, times, request.short_side, len(starts) * request.audio_bytes)
        if before is not None:
            canvas.take_over(before)
        frames = place.frames(canvas)
        try:
            audio = _audio(media, request, starts, place)
            feed_all(media, frames, audio)
            if not frames.any_seen:
                if place.sought or place.planned:
                    raise SeekMissed  # landed behind the last frame, or no packet says it is a key
                raise DecodeError(media.path, "no frame could be decoded")
            begun = {start: range_error(media, frames, start) for start in starts}
            rows = {start: np.searchsorted(times, request.times(start)) for start in starts}
            needed = np.zeros(len(times), np.bool_)
            for start, error in begun.items():
                needed[rows[start]] |= error is None
            if isinstance(frames, SequentialFrames):
                frames.finish()
            elif needed.any():
                frames.paint(needed)
            return frames, {
                start: error or window_outcome(media, request, frames, audio, start, rows[start])
                for start, error in begun.items()
            }
        except SeekMissed:
            continue
    raise AssertionError("attempts end with an error")


def _audio(
    media: Media, request: Request, starts: list[float], place: ReadingPlace
) -> AudioTrack | None:
    if media.audio is None or request.audio == "skip":
        return None
    return AudioTrack(
        media,
        [request.audio_start(start) for start in starts],
        request.duration_seconds,
        request.sample_rate,
        skips=place.planned,
        sought=place.sought,
        num_channels=request.channels,
    )
