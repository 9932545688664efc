"""Reading of a whole clip: its audio, its motion energy, or its frames one after another.

Training decodes windows; who makes clips of clips, or measures them, needs the whole. Everything
here raises as `decode_clip` does: OSError where there is no file, `ClipError` for what is in it.
"""

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av.error
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from avmix.decode import (
    Limits,
    NoAudioStreamError,
    TruncatedMediaError,
    decode_audio,
    decode_clip,
)
from avmix.decode.audio import AudioTrack
from avmix.decode.container import open_media
from avmix.decode.mono_track import channels_to_read, one_channel, track_of
from avmix.decode.source import as_file
from avmix.media.onsets import motion_energy
from avmix.media.probe import probe
from avmix.types import Entry

_PIECE_BYTES = 64 << 20
"""Bytes of decoded frames held at a time."""
_LONGEST_PIECE = 256
_LOOK_PX = 64
"""Shorter side of the frames that motion is measured in."""
_LIMITS = Limits(seconds=600.0)


def fps_of(entry: Entry) -> Fraction:
    """Frames per second, as a fraction that a container can hold; the mean where they vary."""
    assert entry.video is not None
    return Fraction(entry.video.fps).limit_denominator(1001)


def num_frames_of(entry: Entry) -> int:
    """Frames of the stretch at `fps_of`: those that end within it, at least one."""
    return max(1, math.floor(entry.duration_seconds * fps_of(entry) + 0.01))


def audio_of(root: Path, entry: Entry, rate_hz: int) -> Float32[np.ndarray, " s"]:
    """Audio of a clip, mono (`avmix.decode.mono_track`); zeros where the file has none. No frame is
    decoded."""
    if entry.audio is None:
        return np.zeros(round(entry.duration_seconds * rate_hz), np.float32)
    wave = decode_audio(
        root / entry.path,
        start_seconds=entry.start_seconds,
        duration_seconds=entry.duration_seconds,
        sample_rate=rate_hz,
        channels=channels_to_read(entry.audio),
        audio_track=track_of(entry.audio),
        sha256=entry.sha256 or None,
        until_seconds=entry.usable_until_seconds,
        limits=_LIMITS,
    ).audio
    return one_channel(entry.audio, wave)


def audio_of_file(path: Path, rate_hz: int, track: int | None = None) -> Float32[np.ndarray, " s"]:
    """All audio of a file, which needs no video, mono, from its first sample; `track` is as
    `AudioInfo.track`."""
    _, audio = probe(path, track)
    if audio is None:
        raise NoAudioStreamError(str(path), "has no audio stream")
    with as_file(path, _LIMITS) as copy, open_media(copy, _LIMITS, audio_track=track) as media:
        track_audio = AudioTrack(
            media,
            [audio.start_seconds - media.zero_seconds],
            audio.duration_seconds,
            rate_hz,
            skips=False,
            sought=False,
            num_channels=channels_to_read(audio),
        )
        try:
            for packet in media.packets(track_audio.stream):
                track_audio.feed(packet)
        except av.error.FFmpegError as error:
            raise TruncatedMediaError(
                media.path, f"reading stops early: {error.strerror}"
            ) from error
        return one_channel(audio, track_audio.waveform(track_audio.starts_seconds[0])[0])


def frames_of(
    root: Path, entry: Entry, *, short_side: int | None = None
) -> Iterator[UInt8[np.ndarray, "t h w c"]]:
    """Frames of a clip at `fps_of`, in pieces that fit into memory.

    They are as large as the file's, in square pixels; `short_side` scales them down.
    """
    assert entry.video is not None
    fps, total = fps_of(entry), num_frames_of(entry)
    side = min(entry.video.width, entry.video.height)
    side = side if short_side is None else min(side, short_side)
    scale = side / min(entry.video.width, entry.video.height)
    area = entry.video.width * entry.video.height * scale**2
    length = int(min(max(_PIECE_BYTES // (3 * area), 1), _LONGEST_PIECE))
    for first in range(0, total, length):
        num = min(length, total - first)
        # At the middle of each frame's time: rounding cannot take the one before.
        clip = decode_clip(
            root / entry.path,
            start_seconds=entry.start_seconds + float(first / fps),
            duration_seconds=float(num / fps),
            num_frames=num,
            short_side=side,
            audio="skip",
            sha256=entry.sha256 or None,
            until_seconds=entry.usable_until_seconds,
            limits=_LIMITS,
        )
        yield clip.video


def motion_of(root: Path, entry: Entry) -> Float64[np.ndarray, "n 2"]:
    """Motion energy between consecutive frames of a clip: its time, in seconds from the start of
    the stretch, and its value.

    What changed from one frame to the next happened between them, so it is of the moment in the
    middle. Frames that are only repeated, to reach the mean rate of a file whose rate varies, are
    left out: they would look like standing still. A stretch of one frame does not move.
    """
    assert entry.video is not None
    fps = float(fps_of(entry))
    energies: list[np.ndarray] = []
    last: np.ndarray | None = None
    for piece in frames_of(root, entry, short_side=_LOOK_PX):
        whole = piece if last is None else np.concatenate([last, piece])
        energies.append(motion_energy(whole)[0 if last is None else 1 :])
        last = piece[-1:]
    energy = np.concatenate(energies).astype(np.float64)
    shown = np.arange(len(energy)) / fps
    if entry.video.vfr:
        other = energy > 0
        other[0] = True
        shown, energy = shown[other], energy[other]
    if len(energy) == 1:
        return np.zeros((1, 2))
    return np.stack([(shown[1:] + shown[:-1]) / 2, energy[1:]], axis=1)
