"""`decode_clip` and `decode_clips`: the public decoding functions, for every backend."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, assert_never

import numpy as np
from jaxtyping import Float32

from avmix.decode import pyav
from avmix.decode.errors import ClipError
from avmix.decode.file_hash import verify_hash
from avmix.decode.request import Limits, Request, Track, checked_request
from avmix.decode.source import Source, as_file, name_of, rename
from avmix.types import Clip

Backend = Literal["pyav", "decord", "torchcodec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedAudio:
    """Audio of one window of a file."""

    audio: Float32[np.ndarray, "*c s"]
    """As `Clip.audio`."""
    audio_valid: float
    """As `Clip.audio_valid`."""


def decode_clip(
    path: Source,
    *,
    start_seconds: float | int,
    duration_seconds: float | int,
    num_frames: int | None = None,
    fps: float | int | None = None,
    sample_rate: int = 16_000,
    channels: Literal[1, 2] = 1,
    audio_shift_seconds: float | int = 0.0,
    short_side: int | None = None,
    audio: Literal["require", "silence", "skip"] = "require",
    audio_track: Track = None,
    origin: Literal["video", "container"] = "video",
    max_held: int | None = None,
    min_audio_valid: float | int = 0.0,
    sha256: str | None = None,
    until_seconds: float | int | None = None,
    limits: Limits = Limits(),  # noqa: B008  frozen
    backend: Backend = "pyav",
) -> Clip:
    """Decode the window `[start_seconds, start_seconds + duration_seconds)` of one file.

    Time 0 is the first frame presented. The frame for time t is the one on the screen at t:
    the last that begins at or before t. There are always exactly as many frames as asked for
    and exactly `round(duration_seconds * sample_rate)` samples; where the file ends early the last
    frame is held and the audio is zero, and the `Clip` says how much of it.

    Args:
        path: The file; or the bytes of one, a file object that can be sought (read from its first
            byte), or a URL (a string, read by fsspec): a copy in memory is decoded, with the same
            result as from a path.
        start_seconds: Start of the window.
        duration_seconds: Length of the window.
        num_frames: N frames, at the middle of N equal parts of the window. Either this
        fps: or frames at `start_seconds + k / fps`; `round(duration_seconds * fps)` of them.
        sample_rate: Of the waveform, samples / second.
        channels: 1 for mono, an array (s); 2 for left and right, (2, s): each the mean of the
            channels of its side and of those of none, so that a mono file gives the same twice.
        audio_shift_seconds: Take the audio of the seconds `[start_seconds + shift, start_seconds +
            shift + duration_seconds)` instead, NOT in sync with the frames: for methods that rely
            on a common window only. What lies outside of the file's audio is zeros.
        short_side: Pixels of the shorter side after rotation, aspect kept and pixels made square;
            None for frames as they are stored.
        audio: What to do without an audio stream: "require" raises, "silence" returns zeros.
            "skip" decodes no audio at all and returns an array of length 0.
        audio_track: Which of several audio tracks: its number, from 0, or its language as the file
            has it ("eng"); None for the one that players take.
        origin: What time 0 is: the first frame, or the start of the "container", which is earlier
            where audio begins first (for annotations made in a player that counts so).
        max_held: Raise when more frames than this would be held after the end.
        min_audio_valid: Raise when a smaller share of the window, 0 to 1, has audio.
        sha256: Hash of the whole file, hexadecimal, as manifests hold it; raise when the file is
            another one. Some codecs (VP8, VP9) cannot notice damage by themselves.
        until_seconds: Read the file as if it ended here, on the clock of the window: frames are
            held, audio is zeros, and what follows is not looked at (backend "pyav" alone). For
            files that are usable in part, as manifests say it.
        limits: What the file may cost before it is refused.
        backend: Which decoder of frames; audio is always PyAV's. "decord" and "torchcodec" refuse
            what they would not do exactly as "pyav".

    Raises:
        ValueError: An argument is out of its range, or not a number where one is needed.
        TypeError: `path` is no path, no bytes and no file object that gives bytes.
        OSError: The file is missing, is a directory, may not be read.
        MediaOpenError: Not an accepted media file.
        NoVideoStreamError, NoAudioStreamError: What is required is not there; of an audio track
            the message lists those that are.
        ClipRangeError: The window does not begin within the file, or misses the limits above.
        TruncatedMediaError: It does by the file's header, but the data end before it.
        DecodeError: A frame asked for depends on damaged data.
        UnsupportedMediaError: No decoder for the codec, or the backend cannot do it right.
        ImportError: A URL, and fsspec or what it needs for it is missing.
    """
    (clip,) = decode_clips(
        path,
        starts_seconds=(start_seconds,),
        duration_seconds=duration_seconds,
        num_frames=num_frames,
        fps=fps,
        sample_rate=sample_rate,
        channels=channels,
        audio_shift_seconds=audio_shift_seconds,
        short_side=short_side,
        audio=audio,
        audio_track=audio_track,
        origin=origin,
        max_held=max_held,
        min_audio_valid=min_audio_valid,
        sha256=sha256,
        until_seconds=until_seconds,
        limits=limits,
        backend=backend,
    )
    if isinstance(clip, ClipError):
        raise clip
    return clip


def decode_clips(
    path: Source,
    *,
    starts_seconds: Sequence[float | int],
    duration_seconds: float | int,
    num_frames: int | None = None,
    fps: float | int | None = None,
    sample_rate: int = 16_000,
    channels: Literal[1, 2] = 1,
    audio_shift_seconds: float | int = 0.0,
    short_side: int | None = None,
    audio: Literal["require", "silence", "skip"] = "require",
    audio_track: Track = None,
    origin: Literal["video", "container"] = "video",
    max_held: int | None = None,
    min_audio_valid: float | int = 0.0,
    sha256: str | None = None,
    until_seconds: float | int | None = None,
    limits: Limits = Limits(),  # noqa: B008  frozen
    backend: Backend = "pyav",
) -> list[Clip | ClipError]:
    """Decode several windows of one file, opened once and decoded once where they overlap.

    One outcome per window, in the order of `starts_seconds`: the clip, or the error that
    `decode_clip` would raise for it. Raises only what concerns the file as a whole: OSError,
    `MediaOpenError`, `UnsupportedMediaError`, a stream that is missing, a wrong hash; and what is
    wrong with an argument whatever the file is: ValueError, `ClipRangeError`.
    """
    request = checked_request(
        name_of(path),
        starts_seconds=starts_seconds,
        duration_seconds=duration_seconds,
        num_frames=num_frames,
        fps=fps,
        sample_rate=sample_rate,
        channels=channels,
        audio_shift_seconds=audio_shift_seconds,
        short_side=short_side,
        audio=audio,
        audio_track=audio_track,
        origin=origin,
        max_held=max_held,
        min_audio_valid=min_audio_valid,
        sha256=sha256,
        limits=limits,
        until_seconds=until_seconds,
    )
    with as_file(path, limits) as file:
        outcomes = _decode(replace(request, path=file), backend)
    for outcome in outcomes:
        if isinstance(outcome, ClipError):
            rename(outcome, path)
    return outcomes


def _decode(request: Request, backend: Backend) -> list[Clip | ClipError]:
    if backend != "pyav" and request.until_seconds < math.inf:
        raise ValueError(f'until_seconds needs backend "pyav", not {backend!r}')
    match backend:
        case "pyav":
            return pyav.decode(request)
        case "decord":
            try:
                from avmix.decode import decord
            except ImportError:
                raise ImportError(
                    'backend "decord": decord is not installed; its wheels are for Linux on '
                    'x86-64 only. Use backend "pyav"'
                ) from None

            return decord.decode(request)
        case "torchcodec":
            from avmix.decode import torchcodec

            return torchcodec.decode(request)
    assert_never(backend)


def decode_audio(
    path: Source,
    *,
    start_seconds: float | int,
    duration_seconds: float | int,
    sample_rate: int = 16_000,
    channels: Literal[1, 2] = 1,
    audio_track: Track = None,
    sha256: str | None = None,
    until_seconds: float | int | None = None,
    limits: Limits = Limits(),  # noqa: B008  frozen
    needs_video: bool = True,
) -> DecodedAudio:
    """Decode only the audio of a window: equal to that of `decode_clip` to the bit, without
    decoding frames.

    The arguments, the clock (0 is the first frame) and the errors are those of `decode_clip`. But
    where frames end is not looked for: a window after the end of the file is zeros, of which
    `audio_valid`, 0, tells. With `needs_video` False a file without frames will do: 0 is then that
    of the container's clock.
    """
    (found,) = decode_audios(
        path,
        starts_seconds=(start_seconds,),
        duration_seconds=duration_seconds,
        sample_rate=sample_rate,
        channels=channels,
        audio_track=audio_track,
        sha256=sha256,
        until_seconds=until_seconds,
        limits=limits,
        needs_video=needs_video,
    )
    if isinstance(found, ClipError):
        raise found
    return found


def decode_audios(
    path: Source,
    *,
    starts_seconds: Sequence[float | int],
    duration_seconds: float | int,
    sample_rate: int = 16_000,
    channels: Literal[1, 2] = 1,
    audio_shift_seconds: float | int = 0.0,
    audio_track: Track = None,
    sha256: str | None = None,
    until_seconds: float | int | None = None,
    limits: Limits = Limits(),  # noqa: B008  frozen
    needs_video: bool = True,
) -> list[DecodedAudio | ClipError]:
    """Decode only the audio of several windows of one file, opened once, as `decode_audio` does.
    One outcome per window; raises only what concerns the file as a whole, as `decode_clips`."""
    request = checked_request(
        name_of(path),
        starts_seconds=starts_seconds,
        duration_seconds=duration_seconds,
        num_frames=1,
        fps=None,
        sample_rate=sample_rate,
        channels=channels,
        audio_shift_seconds=audio_shift_seconds,
        short_side=None,
        audio="require",
        audio_track=audio_track,
        origin="video",
        max_held=None,
        min_audio_valid=0.0,
        sha256=sha256,
        limits=limits,
        until_seconds=until_seconds,
    )
    with as_file(path, limits) as file:
        request = replace(request, path=file, needs_video=needs_video)
        if request.sha256 is not None:
            verify_hash(request.path, request.sha256, limits)
        outcomes = pyav.decode_audio_windows(request)
    for outcome in outcomes:
        if isinstance(outcome, ClipError):
            rename(outcome, path)
    return [
        one if isinstance(one, ClipError) else DecodedAudio(audio=one[0], audio_valid=one[1])
        for one in outcomes
    ]
