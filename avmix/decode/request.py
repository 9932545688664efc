"""Decoding requests: file, windows and limits, checked before a file is opened."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64

from avmix.decode.errors import ClipRangeError, UnsupportedMediaError

MAX_SECONDS = 1e9
"""31 years: times beyond it no file has, and in ticks they may be more than 64 bits."""
MAX_FRAMES = 1_000_000
"""Frames of one window: their times alone are in memory before the size of a frame is known."""


Track = int | str | None
"""Audio track: its number, from 0, its language as the file has it (`eng`), or the one
that players take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits on the cost of a file, above which it is refused: files from the web are not
    trusted."""

    max_pixels: int = 8192 * 8192
    """Pixels of one frame."""
    max_streams: int = 64
    """In one file."""
    max_clip_bytes: int = 4 << 30
    """Bytes of the decoded frames and audio of one window, and of the audio at the file's rate."""
    max_source_bytes: int = 4 << 30
    """Bytes of a source other than a path, which is copied."""
    max_sample_rate: int = 6_144_000
    """Sample rate of the file, samples / second. Far above any recording; damaged headers say 2
    GHz, at which a second is 8 GB."""
    max_held_bytes: int = 512 << 20
    """Bytes of compressed data held in memory while one window is read."""
    seconds: float = 60.0
    """Time of one call, seconds. Checked between packets; what hangs inside a decoder has to be
    killed from outside, as the loader does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Windows of equal length in one file, and the format of their clips."""

    path: str
    starts_seconds: tuple[float, ...]
    duration_seconds: float
    num_frames: int | None
    fps: float | None
    sample_rate: int
    short_side: int | None
    audio: Literal["require", "silence", "skip"]
    origin: Literal["video", "container"]
    max_held: int | None
    min_audio_valid: float
    sha256: str | None
    limits: Limits
    channels: Literal[1, 2] = 1
    audio_shift_seconds: float = 0.0
    """By how much the audio of a window begins after its frames."""
    until_seconds: float = math.inf
    """Where the file is taken to end; what follows is not read."""
    audio_track: Track = None
    """Which of several audio tracks."""
    needs_video: bool = True
    """False: a file without frames will do, whose clock is that of the container."""

    @property
    def audio_bytes(self) -> int:
        """Bytes of the waveform of one window."""
        return np.dtype(np.float32).itemsize * self.channels * self.num_samples

    @property
    def num_samples(self) -> int:
        """Samples per channel of the waveform of one window."""
        return 0 if self.audio == "skip" else round(self.duration_seconds * self.sample_rate)

    @property
    def silence(self) -> Float32[np.ndarray, "*c s"]:
        """Waveform of a window without audio: (s), with two channels (2, s)."""
        num = self.num_samples
        return np.zeros(num if self.channels == 1 else (2, num), np.float32)

    def audio_start(self, start_seconds: float) -> float:
        """Start of the audio of the window at `start_seconds`; it may be before 0."""
        return start_seconds + self.audio_shift_seconds

    def times(self, start_seconds: float) -> Float64[np.ndarray, " t"]:
        """Wanted times of the window at `start_seconds`, on the clip clock, ascending."""
        if self.num_frames is not None:
            middles = (np.arange(self.num_frames) + 0.5) * self.duration_seconds / self.num_frames
            return start_seconds + middles
        assert self.fps is not None
        num_frames = max(round(self.duration_seconds * self.fps), 1)
        return start_seconds + np.arange(num_frames) / self.fps


def checked_request(
    path: str | os.PathLike[str],
    *,
    starts_seconds: Sequence[float | int],
    duration_seconds: float | int,
    num_frames: int | None,
    fps: float | int | None,
    sample_rate: int,
    short_side: int | None,
    audio: Literal["require", "silence", "skip"],
    origin: Literal["video", "container"],
    max_held: int | None,
    min_audio_valid: float | int,
    sha256: str | None,
    limits: Limits,
    channels: Literal[1, 2] = 1,
    audio_shift_seconds: float | int = 0.0,
    until_seconds: float | int | None = None,
    audio_track: Track = None,
) -> Request:
    """Validate the arguments of a request before any file is opened or memory is allocated.

    Nothing is allocated or opened before. Raises `ClipRangeError` for an impossible window,
    `UnsupportedMediaError` for one whose audio is larger than `limits` allow, ValueError for any
    other argument of the wrong kind or out of its range, which it names.
    """
    path = os.fspath(path)
    starts_seconds = tuple(starts_seconds)
    for start in starts_seconds:
        if not _is_between(start, 0, MAX_SECONDS):
            raise ClipRangeError(
                path,
                f"start_seconds is {start!r}; the first frame is at 0, the last before "
                f"{MAX_SECONDS:g}",
            )
    if not (_is_between(duration_seconds, 0, MAX_SECONDS) and duration_seconds > 0):
        raise ClipRangeError(
            path,
            f"duration_seconds is {duration_seconds!r}; it must be positive, and at most "
            f"{MAX_SECONDS:g}",
        )
    if (num_frames is None) == (fps is None):
        raise ValueError(f"give num_frames or fps, positive, not both: {num_frames=}, {fps=}")
    if num_frames is not None:
        _check_whole("num_frames", num_frames, 1, MAX_FRAMES)
    if fps is not None and not (
        _is_between(fps, 0, math.inf) and 0 < fps <= (MAX_FRAMES + 0.5) / duration_seconds
    ):
        raise ValueError(
            f"fps is {fps!r}; it must be positive, and give at most {MAX_FRAMES} frames in "
            f"{duration_seconds:g} s"
        )
    _check_whole("sample_rate", sample_rate, 1, limits.max_sample_rate)
    if short_side is not None:
        _check_whole("short_side", short_side, 1, math.isqrt(limits.max_pixels))
    if max_held is not None:
        _check_whole("max_held", max_held, 0, None)
    if not _is_between(min_audio_valid, 0, 1):
        raise ValueError(f"min_audio_valid is {min_audio_valid!r}; it must be a share, 0 to 1")
    if audio not in ("require", "silence", "skip"):
        raise ValueError(f'audio is {audio!r}; it must be "require", "silence" or "skip"')
    if not (_is_whole(channels) and channels in (1, 2)):
        raise ValueError(f"channels is {channels!r}; it must be 1 (mono) or 2 (left and right)")
    if not _is_between(audio_shift_seconds, -MAX_SECONDS, MAX_SECONDS):
        raise ValueError(
            f"audio_shift_seconds is {audio_shift_seconds!r}; it must be from {-MAX_SECONDS:g} to "
            f"{MAX_SECONDS:g}"
        )
    if until_seconds is not None and not (
        _is_between(until_seconds, 0, MAX_SECONDS) and until_seconds > 0
    ):
        raise ValueError(
            f"until_seconds is {until_seconds!r}; it must be positive, and at most {MAX_SECONDS:g}"
        )
    if isinstance(audio_track, str):
        if not audio_track.strip():
            raise ValueError(f"audio_track is {audio_track!r}; it must be a language, or a number")
    elif audio_track is not None:
        _check_whole("audio_track", audio_track, 0, limits.max_streams)
    if origin not in ("video", "container"):
        raise ValueError(f'origin is {origin!r}; it must be "video" or "container"')
    request = Request(
        path=path,
        starts_seconds=tuple(float(start) for start in starts_seconds),
        duration_seconds=float(duration_seconds),
        num_frames=None if num_frames is None else int(num_frames),
        fps=None if fps is None else float(fps),
        sample_rate=int(sample_rate),
        short_side=None if short_side is None else int(short_side),
        audio=audio,
        origin=origin,
        max_held=max_held,
        min_audio_valid=float(min_audio_valid),
        sha256=sha256,
        limits=limits,
        channels=channels,
        audio_shift_seconds=float(audio_shift_seconds),
        until_seconds=math.inf if until_seconds is None else float(until_seconds),
        audio_track=audio_track,
    )
    if request.audio_bytes > limits.max_clip_bytes:
        raise UnsupportedMediaError(
            path,
            f"{duration_seconds:g} s of audio at {sample_rate} Hz are {request.audio_bytes >> 20} "
            "MiB, more than the limit; ask for shorter windows",
        )
    return request


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_between(value: object, low: float | int, high: float | int) -> bool:
    """True for a finite number in [low, high]."""
    if not isinstance(value, float | int | np.floating | np.integer) or isinstance(value, bool):
        return False
    return bool(low <= value <= high) and value not in (math.inf, -math.inf)


def _check_whole(name: str, value: int, low: int, high: int | None) -> None:
    """Raise ValueError unless `value` is a whole number in [low, high]."""
    if not (_is_whole(value) and low <= value and (high is None or value <= high)):
        most = "" if high is None else f", at most {high}"
        raise ValueError(f"{name} is {value!r}; it must be a whole number, at least {low}{most}")
