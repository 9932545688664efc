"""Check of a transcoded clip against its source: frames, audio, and their times."""

import math
from pathlib import Path

import numpy as np

from avmix.decode import Limits, decode_audio, decode_clip
from avmix.decode.mono_track import channels_to_read, one_channel, track_of
from avmix.media.fingerprint import shrunk
from avmix.media.probe import probe
from avmix.media.whole_clip import fps_of
from avmix.types import Entry

MIN_PSNR_DB = 25.0
"""Of frames of 32 x 32, at the least: real clips have 30 to 46, by crf 20."""
MAX_SHIFT_SECONDS = 0.002
"""Of the audio against that of the source."""
_LOOK_PX = 64
"""Shorter side of what is decoded to compare."""
_LOOK_SECONDS = 1.0
_LISTEN_SECONDS = 4.0
_LISTEN_HZ = 16_000
_LOW_HZ = 60.0
_QUIET = 10 ** (-60 / 20)
LIMITS = Limits(seconds=600.0)
"""What a file may cost that is transcoded or checked."""


class TranscodeError(ValueError):
    """A clip, or the set, cannot be written; one line says why."""


def check(root: Path, stretch: Entry, path: Path, num: int) -> None:
    """Compare a new file with the stretch of the source that it was made of.

    Raises `TranscodeError` where frames are missing or too many, its first or last second does
    not look like the source's or looks like it at another time, or its audio is not where the
    source's is, to `MAX_SHIFT_SECONDS`.
    """
    video, audio = probe(path)
    if video is None or video.num_frames != num:
        raise TranscodeError(f"has {video.num_frames if video else 0} frames, not {num}")
    if abs(video.start_seconds) > 1e-3 or video.vfr:
        raise TranscodeError(f"frames begin at {video.start_seconds:.3f} s or at no steady rate")
    if (audio is None) != (stretch.audio is None):
        raise TranscodeError("has audio where the source has none, or the other way round")
    fps, seconds = float(fps_of(stretch)), num / float(fps_of(stretch))
    look = max(min(round(_LOOK_SECONDS * fps), num), 1)
    for first in dict.fromkeys((0, num - look)):
        _check_frames(root, stretch, path, first, look, fps)
    if audio is not None:
        listen = min(_LISTEN_SECONDS, seconds)
        for start in dict.fromkeys((0.0, seconds - listen)):
            _check_audio(root, stretch, path, start, listen)


def audio_shift(
    source: np.ndarray, result: np.ndarray, rate_hz: int, max_seconds: float = MAX_SHIFT_SECONDS
) -> float | None:
    """By how many seconds `result` (s) is later than `source` (s), by correlation.

    0 where it fits about as well within `max_seconds` as anywhere, as what repeats itself fits at
    many places, and where the source is quiet. What is too low to hear does not count: codecs leave
    it out. None where they have nothing in common.
    """
    size = 1 << (2 * len(source) - 1).bit_length()
    audible = np.fft.rfftfreq(size, 1 / rate_hz) >= _LOW_HZ
    mine = np.fft.rfft(source.astype(np.float64), size) * audible
    other = np.fft.rfft(result.astype(np.float64), size) * audible
    fit = np.fft.irfft(np.conj(mine) * other, size)
    energies = [float(np.sum(np.fft.irfft(spectrum, size) ** 2)) for spectrum in (mine, other)]
    if energies[0] < len(source) * _QUIET**2:
        return 0.0
    norm = math.sqrt(energies[0] * energies[1])
    best = int(np.argmax(fit))
    if norm <= 0 or fit[best] < 0.5 * norm:
        return None
    reach = math.floor(max_seconds * rate_hz)
    close = np.concatenate([fit[: reach + 1], fit[size - reach :]])
    if close.max() >= 0.98 * fit[best]:
        return 0.0
    return (best if best < size // 2 else best - size) / rate_hz


def _check_frames(root: Path, stretch: Entry, path: Path, first: int, num: int, fps: float) -> None:
    def small(file: Path, start: float, until: float | None = None) -> np.ndarray:
        clip = decode_clip(
            file,
            start_seconds=start + first / fps,
            duration_seconds=num / fps,
            num_frames=num,
            short_side=_LOOK_PX,
            audio="skip",
            until_seconds=until,
            limits=LIMITS,
        )
        return shrunk(clip.video)  # whose sizes may differ by a row or column

    source = small(root / stretch.path, stretch.start_seconds, stretch.usable_until_seconds)
    result = small(path, 0.0)
    error = float(np.mean((source - result) ** 2))
    psnr = 10 * math.log10(255**2 / max(error, 1e-6))
    at = f"at {first / fps:.2f} s"
    if psnr < MIN_PSNR_DB:
        raise TranscodeError(f"{at} frames are not the source's: {psnr:.1f} dB")
    if num > 2:
        own = float(np.mean((source[1:-1] - result[1:-1]) ** 2))
        beside = min(float(np.mean((source[1:-1] - other) ** 2))
                     for other in (result[:-2], result[2:]))  # fmt: skip
        if own > 1.1 * beside + 1.0:
            raise TranscodeError(f"{at} frames are the source's of another moment")


def _check_audio(root: Path, stretch: Entry, path: Path, start: float, seconds: float) -> None:
    def heard(file: Path, first: float, track: int | None, until: float | None) -> np.ndarray:
        wave = decode_audio(
            file,
            start_seconds=first + start,
            duration_seconds=seconds,
            sample_rate=_LISTEN_HZ,
            channels=channels_to_read(stretch.audio),
            audio_track=track,
            until_seconds=until,
            limits=LIMITS,
        ).audio
        return one_channel(stretch.audio, wave)

    source = heard(
        root / stretch.path,
        stretch.start_seconds,
        track_of(stretch.audio),
        stretch.usable_until_seconds,
    )
    result = heard(path, 0.0, None, None)
    shift = audio_shift(source, result, _LISTEN_HZ)
    if shift is None:
        raise TranscodeError(f"at {start:.2f} s the audio is not the source's")
    if abs(shift) > MAX_SHIFT_SECONDS:
        raise TranscodeError(f"at {start:.2f} s the audio is {1000 * shift:.1f} ms late")
