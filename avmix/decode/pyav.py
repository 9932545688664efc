"""Decode one window of one file with PyAV: pictures and sound of the same seconds, to the sample.

Everything is addressed by presentation time, never by counting from the first frame of a stream:
streams start at different times, frame rates vary, and codecs begin with samples nobody hears.
"""

from dataclasses import dataclass
from typing import Literal

import av.error
import numpy as np
from jaxtyping import Float64

from avmix.decode.audio import Sound
from avmix.decode.container import Media, open_media
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
from avmix.decode.video import Pictures, SeekMissed
from avmix.types import Clip

_SEEK_BACK_SECONDS = (0.3, 3.0, 10.0, None)
"""How far before the window to aim; where that is not enough, farther; None is from the start."""


@dataclass(frozen=True, slots=True)
class _Request:
    path: str
    start_seconds: float
    duration_seconds: float
    times: Float64[np.ndarray, " t"]
    sample_rate: int
    short_side: int | None
    audio: Literal["require", "silence", "skip"]
    max_held: int | None
    min_audio_valid: float

    @classmethod
    def of(cls, request: Request, start: float) -> "_Request":
        return cls(
            request.path,
            start,
            request.duration_seconds,
            request.times(start),
            request.sample_rate,
            request.short_side,
            request.audio,
            request.max_held,
            request.min_audio_valid,
        )


def decode(request: Request) -> list[Clip | ClipError]:
    """One outcome per window; see `decode_clips`."""
    outcomes: list[Clip | ClipError] = []
    for start in request.starts_seconds:
        try:
            outcomes.append(_window(_Request.of(request, start)))
        except (MediaOpenError, NoVideoStreamError, NoAudioStreamError, UnsupportedMediaError):
            raise
        except ClipError as error:
            outcomes.append(error)
    return outcomes


def _window(request: _Request) -> Clip:
    for back_seconds in _SEEK_BACK_SECONDS:
        try:
            return _decode(request, back_seconds)
        except SeekMissed:
            continue
    raise DecodeError(request.path, "its times are not consistent; transcode the file")


def _decode(request: _Request, back_seconds: float | None) -> Clip:
    """One attempt; raises `SeekMissed` when reading must begin farther back."""
    with open_media(request.path) as media:
        _check_streams(media, request)
        indexed = media.indexed and back_seconds is not None
        sought = back_seconds is not None and indexed and _seek(media, request, back_seconds)
        pictures = Pictures(media, request.times, request.short_side, indexed)
        sound = None
        if media.audio is not None and request.audio != "skip":
            sound = Sound(
                media,
                request.start_seconds,
                request.duration_seconds,
                request.sample_rate,
                indexed,
                sought,
            )
        _read(media, pictures, sound)
        return _clip(media, request, pictures, sound)


def _check_streams(media: Media, request: _Request) -> None:
    if media.video is None:
        raise NoVideoStreamError(media.path, "has no video stream")
    if media.audio is None and (
        request.audio == "require" or (request.audio == "silence" and request.min_audio_valid > 0)
    ):
        raise NoAudioStreamError(
            media.path, 'has no audio stream; audio="silence" gives zeros instead'
        )


def _seek(media: Media, request: _Request, back_seconds: float) -> bool:
    """Move to a key picture before the window; False when reading begins at the start anyway."""
    assert media.video is not None
    assert media.video.time_base is not None
    target = request.start_seconds - back_seconds
    if target <= 0:
        return False
    ticks = int((target + media.zero_seconds) / media.video.time_base)
    try:
        media.container.seek(ticks, backward=True, stream=media.video)
    except av.error.FFmpegError as error:
        raise SeekMissed from error
    return True


def _read(media: Media, pictures: Pictures, sound: Sound | None) -> None:
    """Feed packets until both have all they need, or the file ends."""
    assert media.video is not None
    streams = [media.video] if sound is None else [media.video, sound.stream]
    try:
        for packet in media.container.demux(*streams):
            if packet.stream_index == media.video.index:
                if not pictures.done:
                    pictures.feed(packet)
            elif sound is not None:
                sound.feed(packet)
            if pictures.done and (sound is None or sound.done):
                return
    except av.error.FFmpegError as error:
        raise TruncatedMediaError(media.path, f"reading stops early: {error.strerror}") from error


def _clip(media: Media, request: _Request, pictures: Pictures, sound: Sound | None) -> Clip:
    num_held = 0
    if not pictures.done:
        _check_range(media, request, pictures)
        num_held = pictures.finish()
    pictures.check_damage()
    assert pictures.out is not None
    if request.max_held is not None and num_held > request.max_held:
        raise ClipRangeError(
            media.path,
            f"{num_held} of {len(request.times)} pictures lie after the end at "
            f"{pictures.end_seconds:.3f} s, max_held is {request.max_held}",
        )
    num_samples = 0 if request.audio == "skip" else _num_samples(request)
    waveform, valid = np.zeros(num_samples, np.float32), 0.0
    if sound is not None:
        waveform, valid = sound.waveform()
        if valid < request.min_audio_valid:
            raise ClipRangeError(
                media.path,
                f"only {valid:.3f} of the window at {request.start_seconds:.3f} s has sound, "
                f"min_audio_valid is {request.min_audio_valid}",
            )
    return Clip(
        video=pictures.out,
        audio=waveform,
        pts_seconds=np.array(pictures.seconds),
        start_seconds=request.start_seconds,
        duration_seconds=request.duration_seconds,
        sample_rate=request.sample_rate,
        audio_valid=valid,
        num_held=num_held,
    )


def _num_samples(request: _Request) -> int:
    return round(request.duration_seconds * request.sample_rate)


def _check_range(media: Media, request: _Request, pictures: Pictures) -> None:
    """Raise unless the window begins before the end of the video, now known."""
    if not pictures.any_seen:
        if pictures.indexed:
            raise SeekMissed  # landed behind the last picture
        raise DecodeError(media.path, "no picture could be decoded")
    end = pictures.end_seconds
    if request.start_seconds < end:
        return
    assert media.video is not None
    declared = media.video.duration
    if declared is not None and media.video.time_base is not None:
        declared_seconds = float(declared * media.video.time_base)
        if request.start_seconds < declared_seconds and end < declared_seconds - 0.5:
            raise TruncatedMediaError(
                media.path,
                f"the header declares {declared_seconds:.3f} s of video, the data end at "
                f"{end:.3f} s; get the file again",
            )
    raise ClipRangeError(
        media.path,
        f"the window begins at {request.start_seconds:.3f} s, the video ends at {end:.3f} s",
    )
