"""PyAV backend: decodes windows of one file, video and audio of the same seconds, exact to the
sample.

Everything is addressed by presentation time, never by counting from the first frame of a stream:
streams start at different times, frame rates vary, and codecs begin with priming samples that are
not played.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar, runtime_checkable

import av.error
import numpy as np
from av.packet import Packet
from jaxtyping import Float32, Int64

from avmix.decode.audio import AudioTrack
from avmix.decode.avi_index import AviOrder
from avmix.decode.container import Media, open_media, verify_hash
from avmix.decode.errors import (
    ClipError,
    ClipRangeError,
    DecodeError,
    MediaOpenError,
    NoAudioStreamError,
    NoVideoStreamError,
    TruncatedMediaError,
    UnsupportedMediaError,
)
from avmix.decode.request import Request
from avmix.decode.selective import SelectiveFrames
from avmix.decode.sequential import SequentialFrames
from avmix.decode.timestamp_restarts import timestamps_restart
from avmix.decode.video import Canvas, SeekMissed
from avmix.types import Clip

_UNOPENED = "NULL"
"""libav's name, in its log, of a parser."""
_NEAR_SECONDS = 5.0
"""Windows nearer to one another than this are read in one go."""

AudioResult = tuple[Float32[np.ndarray, "*c s"], float]
"""The audio of a window, and the share of it that the file has."""
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
    """Decode only the audio of each window; one outcome or error per window.

    For other backends, which take the frames from elsewhere. Raises as `decode_clips` does.
    """
    if request.audio == "skip":
        return [(request.silence, 0.0) for _ in request.starts_seconds]
    outcomes = _each_outcome(request, _read_audio)
    return [outcomes[start] for start in request.starts_seconds]


_Outcomes = dict[float, T | ClipError]
"""By the start of each window."""


def _each_outcome(
    request: Request, read: Callable[["_Reader", Request, list[float]], _Outcomes[T]]
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
    with _Reader(request) as reader:
        for starts in _groups(request):
            found = outcomes_of(starts)
            # What is wrong with one window is no matter of those that were read with it.
            for start in starts if len(starts) > 1 else ():
                if isinstance(found[start], ClipError) and not reader.is_late:
                    found |= outcomes_of([start])
            outcomes |= found
    return outcomes


def _read_audio(reader: "_Reader", request: Request, starts: list[float]) -> _Outcomes[AudioResult]:
    for media, place in reader.attempts(request.audio_start(starts[0])):
        try:
            audio = _audio(media, request, starts, place)
            if audio is not None:
                feed_all(media, None, audio)
            return {start: _audio_result(media, request, audio, start) for start in starts}
        except SeekMissed:
            continue
    raise AssertionError("attempts end with an error")


def _audio_result(
    media: Media, request: Request, audio: AudioTrack | None, start: float
) -> AudioResult | ClipError:
    try:
        return _waveform(media, request, audio, start)
    except ClipError as error:
        return error


def _groups(request: Request) -> list[list[float]]:
    """Starts of the windows, ascending, those together that lie together."""
    groups: list[list[float]] = []
    for start in sorted(set(request.starts_seconds)):
        if groups and start - groups[-1][-1] <= request.duration_seconds + _NEAR_SECONDS:
            groups[-1].append(start)
        else:
            groups.append([start])
    return groups


@dataclass(frozen=True, slots=True)
class _Place:
    """Where reading begins, and what may be relied on there."""

    planned: bool
    """True when packets are to tell the times of their frames."""
    sought: bool
    """True when it is in the middle of the file."""
    first: Packet | None = None
    """The first packet of the video, where reading begins farther on."""
    since_seconds: float = np.inf
    """As `SelectiveFrames.since_seconds`."""
    bare: bool = False
    """As `SelectiveFrames.bare`."""

    def frames(self, canvas: Canvas) -> SelectiveFrames | SequentialFrames:
        """What fills `canvas` from here."""
        if not self.planned:
            return SequentialFrames(canvas, bare=self.bare)
        return SelectiveFrames(
            canvas,
            from_start=not self.sought,
            first=self.first,
            since_seconds=self.since_seconds,
            bare=self.bare,
        )


@dataclass(slots=True)
class _Reader:
    """The open file, opened again where reading has to begin at its start once more."""

    request: Request
    _stack: ExitStack = field(default_factory=ExitStack)
    _media: Media | None = None
    _untouched: bool = False
    _began_at: float = field(default_factory=time.monotonic)
    _first: Packet | None = None
    """The first packet of the video: what it sets for all others is lost by seeking."""

    def __enter__(self) -> "_Reader":
        """Nothing is opened before it is needed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._stack.close()

    @property
    def is_late(self) -> bool:
        """True when the limit of time is reached."""
        return time.monotonic() - self._began_at > self.request.limits.seconds

    def attempts(self, start_seconds: float) -> Iterator[tuple[Media, _Place]]:
        """The file, placed before `start_seconds`: the fast ways first, the safe one last."""
        media = self._at_start()
        seeks = media.seek_back_seconds
        if seeks and start_seconds > seeks[0]:
            name = media.container.format.name
            seeks = () if timestamps_restart(media.path, name, media.check_time) else seeks
        for back_seconds in seeks:
            if start_seconds > back_seconds and self._seek(start_seconds - back_seconds):
                yield media, _Place(planned=True, sought=True, first=self._first)
        for planned in (False,) if media.in_output_order else (True, False):
            media = self._at_start()
            self._untouched = False
            yield media, _Place(planned=planned, sought=False)
        raise DecodeError(media.path, "its times are not consistent; transcode the file")

    def _at_start(self) -> Media:
        if self._media is None or not self._untouched:
            self._stack.close()
            self._media = self._stack.enter_context(
                open_media(
                    self.request.path,
                    self.request.limits,
                    self.request.origin,
                    began_at=self._began_at,
                    until_seconds=self.request.until_seconds,
                    audio_track=self.request.audio_track,
                )
            )
            check_streams(self._media, self.request)
            self._untouched = True
        return self._media

    def _seek(self, seconds: float) -> bool:
        media = self._media
        assert media is not None
        assert media.video is not None
        assert media.video.time_base is not None
        if self._untouched:
            self._first = next(iter(media.packets(media.video)), None)
        self._untouched = False
        ticks = int((seconds + media.zero_seconds) / media.video.time_base)
        try:
            media.seek(ticks, media.video)
        except av.error.FFmpegError:
            return False
        return True


def check_streams(media: Media, request: Request) -> None:
    """Raise when the file lacks a stream that `request` cannot do without."""
    if media.video is None:
        raise NoVideoStreamError(media.path, "has no video stream")
    if media.is_audio_unknown and request.audio != "skip":
        raise UnsupportedMediaError(
            media.path,
            "no decoder for its audio stream in this build of libav; transcode it, or leave the "
            'audio out (audio="skip")',
        )
    if media.audio is None and (
        request.audio == "require" or (request.audio == "silence" and request.min_audio_valid > 0)
    ):
        raise NoAudioStreamError(
            media.path, 'has no audio stream; audio="silence" gives zeros instead'
        )


def _read_group(
    reader: _Reader, request: Request, starts: list[float]
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
    reader: _Reader,
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
    attempts: Iterator[tuple[Media, _Place]],
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
            begun = {start: _range_error(media, frames, start) for start in starts}
            rows = {start: np.searchsorted(times, request.times(start)) for start in starts}
            needed = np.zeros(len(times), np.bool_)
            for start, error in begun.items():
                needed[rows[start]] |= error is None
            if isinstance(frames, SequentialFrames):
                frames.finish()
            elif needed.any():
                frames.paint(needed)
            return frames, {
                start: error or _outcome(media, request, frames, audio, start, rows[start])
                for start, error in begun.items()
            }
        except SeekMissed:
            continue
    raise AssertionError("attempts end with an error")


def _audio(media: Media, request: Request, starts: list[float], place: _Place) -> AudioTrack | None:
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


@runtime_checkable
class Taker(Protocol):
    """Consumer of packets."""

    def feed(self, packet: Packet) -> None:
        """Take the next packet of the stream; the empty one at the end."""
        ...

    def note_break(self) -> None:
        """Something between the last packet and the next could not be read, or was lost."""
        ...


@runtime_checkable
class TakesFrames(Taker, Protocol):
    """Consumer of video packets."""

    @property
    def gathered(self) -> bool:
        """True when it needs no more packets."""
        ...


@runtime_checkable
class TakesAudio(Taker, Protocol):
    """Consumer of audio packets."""

    @property
    def done(self) -> bool:
        """True when it needs no more packets."""
        ...


def feed_all(media: Media, frames: TakesFrames | None, audio: TakesAudio | None) -> None:
    """Feed packets until both have all they need, or the file ends.

    Raises as `Media.packets`, and `TruncatedMediaError` where reading fails.
    """
    taken = ((media.video, frames), (media.audio, audio))
    streams = [stream for stream, taker in taken if stream is not None and taker is not None]
    video = -1 if media.video is None else media.video.index
    lost = media.damaged_at_start
    order = AviOrder(media.path) if media.in_output_order else None
    # What parsers find in the coding of a packet, its decoder will find as well.
    codings = {_UNOPENED, *(stream.codec_context.name for stream in streams)}
    libav_log = media.libav_log
    libav_log.fresh()
    try:
        for packet in media.packets(*streams):
            lost |= order is not None and packet.dts is not None and not order.is_next(packet)
            if libav_log.fresh(but_of=codings) or lost:
                lost = False
                for reader in (frames, audio):
                    if reader is not None:
                        reader.note_break()
            if packet.stream.index == video:  # the flushing packet has no other number
                if frames is not None:
                    frames.feed(packet)
            elif audio is not None:
                audio.feed(packet)
            if (frames is None or frames.gathered) and (audio is None or audio.done):
                return
    except av.error.FFmpegError as error:
        raise TruncatedMediaError(media.path, f"reading stops early: {error.strerror}") from error


def _outcome(
    media: Media,
    request: Request,
    frames: SelectiveFrames | SequentialFrames,
    audio: AudioTrack | None,
    start: float,
    rows: Int64[np.ndarray, " t"],
) -> Clip | ClipError:
    try:
        return _clip(media, request, frames, audio, start, rows)
    except ClipError as error:
        return error


def _clip(
    media: Media,
    request: Request,
    frames: SelectiveFrames | SequentialFrames,
    audio: AudioTrack | None,
    start: float,
    rows: Int64[np.ndarray, " t"],
) -> Clip:
    canvas = frames.canvas
    times, seconds = canvas.times[rows], canvas.seconds[rows]
    end = frames.end()
    for suspect in (seconds, times[times < end]):
        bad = frames.damage.touches(suspect)
        if bad is not None or np.isnan(seconds).any():
            raise _damaged(media, request, frames, start, start if bad is None else bad)
    num_held = int(np.sum(times >= end - frames.epsilon_seconds))
    if request.max_held is not None and num_held > request.max_held:
        raise ClipRangeError(
            media.path,
            f"{num_held} of {len(times)} frames lie after the end at {end:.3f} s, max_held is "
            f"{request.max_held}",
        )
    assert canvas.out is not None
    waveform, valid = _waveform(media, request, audio, start, len(rows) * canvas.out[0].nbytes)
    whole = len(rows) == len(canvas.out)
    return Clip(
        video=canvas.out if whole else canvas.out[rows],
        audio=waveform,
        pts_seconds=seconds,
        start_seconds=start,
        duration_seconds=request.duration_seconds,
        sample_rate=request.sample_rate,
        audio_valid=valid,
        num_held=num_held,
        interlaced=canvas.interlaced,
    )


def _damaged(
    media: Media,
    request: Request,
    frames: SelectiveFrames | SequentialFrames,
    start: float,
    bad_seconds: float,
) -> DecodeError:
    """Why a window cannot be read of whose frames the one at `bad_seconds` is damaged."""
    gap = None
    if isinstance(frames, SelectiveFrames):
        gap = frames.gap(start, start + request.duration_seconds)
    if gap is not None:
        return DecodeError(
            media.path,
            f"there are no frames between {gap[0]:.3f} and {gap[1]:.3f} s, and data are missing "
            "there: it is joined from several recordings, or a part of it was lost; leave this "
            "window out",
        )
    return DecodeError(
        media.path,
        f"the frame at {bad_seconds:.3f} s depends on damaged data; leave this window out, or "
        "get the file again",
    )


def _waveform(
    media: Media, request: Request, audio: AudioTrack | None, start: float, frame_bytes: int = 0
) -> AudioResult:
    if audio is None:
        return request.silence, 0.0
    waveform, valid = audio.waveform(request.audio_start(start), frame_bytes)
    if valid < request.min_audio_valid:
        raise ClipRangeError(
            media.path,
            f"only {valid:.3f} of the window at {start:.3f} s has audio, min_audio_valid is "
            f"{request.min_audio_valid}",
        )
    return waveform, valid


def _range_error(
    media: Media, frames: SelectiveFrames | SequentialFrames, start: float
) -> ClipRangeError | TruncatedMediaError | None:
    """Why a window does not begin before the end of the video, if it does not."""
    end = frames.end()
    if start < end - frames.epsilon_seconds:  # else every frame of it would be held
        return None
    assert media.video is not None
    declared = media.video.duration
    if declared is not None and media.video.time_base is not None:
        declared_seconds = float(declared * media.video.time_base)
        if media.video_presented is not None:  # what an edit list cuts away is not missing
            cut_seconds = media.video_presented.end_seconds - media.zero_seconds
            declared_seconds = min(declared_seconds, cut_seconds)
        if start < declared_seconds and end < declared_seconds - 0.5:
            return TruncatedMediaError(
                media.path,
                f"the header declares {declared_seconds:.3f} s of video, the data end at "
                f"{end:.3f} s; get the file again",
            )
    return ClipRangeError(
        media.path, f"the window begins at {start:.3f} s, the video ends at {end:.3f} s"
    )
