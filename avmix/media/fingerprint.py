"""Fingerprints of clips, compact perceptual hashes of frames and audio: all clips of a dataset can
be compared.

Frames, one a second, are hashed by the signs of their low frequencies in grey and in two colour
differences: 127 bits each, which scaling, other codecs and other bit rates hardly change. It is the
hash of Zauner, "Implementation and benchmarking of perceptual image hash functions" (2010, section
3.2.1), with colour. Audio is hashed by whether the difference of neighbouring bands grows or
shrinks from moment to moment: Haitsma and Kalker, "A highly robust audio fingerprinting system"
(ISMIR 2002). Both are pure functions of decoded data; `fingerprint_of` reads a file.
"""

import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, UInt8, UInt32, UInt64

from avmix.decode import ClipError, Limits, NoAudioStreamError, decode_audio, decode_clip
from avmix.decode.mono_track import channels_to_read, one_channel, track_of
from avmix.decode.source import as_file
from avmix.types import Entry

VERSION = 1
"""Version of the hashes: raised when a clip's hashes change, so that cached ones are dropped."""
FRAME_BITS = 127
"""Bits of one frame: 63 of grey, 32 of each colour difference."""
STEP_SECONDS = 1.0
"""From one hashed frame to the next."""
MAX_HASHED_FRAMES = 10
"""Frames per clip; of longer clips the first seconds count."""
AUDIO_HZ = 8000
"""Sample rate that `audio_hashes` needs."""
COLUMNS_HZ = 32
"""Hashes of audio per second."""

_SIDE = 32
_FLAT = 3.0
"""Standard deviation of grey, of 255: what varies less (black, a fade) looks like anything."""
_FRAME_SECONDS = 0.37
_NUM_BANDS = 33
_BANDS_HZ = (300.0, 2000.0)
_FFT = 4096
_QUIET = 1e-5
"""Mean power (full scale: 1) of the bands below which a moment is silent: -50 dBFS."""
_LIMITS = Limits(seconds=600.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """Fingerprint of one clip."""

    clip_id: str
    frames: UInt64[np.ndarray, "n 2"]
    """As `frame_hashes`; none where there are no video, or nothing is to be seen on them."""
    audio: UInt32[np.ndarray, " m"]
    """As `audio_hashes`; none where there is no audio."""
    problem: str = ""
    """Why the clip cannot be read; empty where it can."""


def frame_hashes(video: UInt8[np.ndarray, "t h w c"]) -> UInt64[np.ndarray, "n 2"]:
    """Hashes of RGB frames, 127 bits in two words: grey, colour. Flat frames are left out."""
    small = shrunk(video)
    grey = small @ np.array([0.299, 0.587, 0.114], np.float32)
    seen = grey.std(axis=(1, 2)) >= _FLAT
    small, grey = small[seen], grey[seen]
    waves = _cosines()
    words = np.zeros((len(grey), 2), np.uint64)
    planes = ((grey, 0, 0, 63), (small[..., 0] - grey, 1, 0, 32), (small[..., 2] - grey, 1, 32, 32))
    for plane, word, first, num in planes:
        parts = (waves @ plane @ waves.T)[:, *_lowest(num)]
        bits = parts > np.median(parts, axis=1, keepdims=True)
        shifts = np.arange(first, first + num, dtype=np.uint64)
        words[:, word] |= (bits.astype(np.uint64) << shifts).sum(1, dtype=np.uint64)
    return words


def audio_hashes(audio: Float32[np.ndarray, " s"]) -> UInt32[np.ndarray, " m"]:
    """Hashes of a mono waveform of `AUDIO_HZ`, 32 bits for each 1 / `COLUMNS_HZ` s; 0 where it is
    silent.

    Hash k is of the `_FRAME_SECONDS` (0.37 s) after k / `COLUMNS_HZ` s, against those one step
    later. Bit m says whether the energy of band m over that of band m + 1 has become more.
    """
    size, step = round(_FRAME_SECONDS * AUDIO_HZ), AUDIO_HZ // COLUMNS_HZ
    num = (len(audio) - size) // step + 1
    if num < 2:
        return np.zeros(0, np.uint32)
    frames = np.lib.stride_tricks.sliding_window_view(audio, size)[::step]
    window = np.hanning(size).astype(np.float32)
    sums = _bands()
    energy = np.concatenate([
        (np.abs(np.fft.rfft(frames[at : at + 256] * window, _FFT)) ** 2).astype(np.float32) @ sums
        for at in range(0, num, 256)
    ])  # fmt: skip
    power = energy.sum(1) * 2 / (_FFT * float((window**2).sum()))
    # Next to nothing is the same noise in every clip, as of a codec.
    audible = (power[1:] >= _QUIET) & (power[:-1] >= _QUIET)
    level = energy[:, :-1] - energy[:, 1:]
    bits = np.diff(level, axis=0) > 0
    words = (bits.astype(np.uint32) << np.arange(32, dtype=np.uint32)).sum(1, dtype=np.uint32)
    return np.where(audible, words, np.uint32(0))


def frame_hash_distance(a: UInt64[np.ndarray, "n 2"], b: UInt64[np.ndarray, "m 2"]) -> int:
    """Smallest number of differing bits between two frames; `FRAME_BITS` without any frame."""
    if not len(a) or not len(b):
        return FRAME_BITS
    return int(np.bitwise_count(a[:, None] ^ b[None]).sum(2, dtype=np.int64).min())


def audio_hash_distance(
    a: UInt32[np.ndarray, " n"],
    b: UInt32[np.ndarray, " m"],
    lags: Int64[np.ndarray, " k"],
    min_columns: int = 1,
) -> tuple[float, int]:
    """Share of bits that differ where both are audible, and the number of such columns.

    Column i + lag of `a` goes with column i of `b`; the best of `lags` counts, of those with at
    least `min_columns` that are audible in both. (1, 0) where there is none. Unrelated audio
    differs in half of the bits.
    """
    best, columns = 1.0, 0
    for lag in lags.tolist():
        low, high = max(0, -lag), min(len(b), len(a) - lag)
        if high <= low:
            continue
        mine, other = a[low + lag : high + lag], b[low:high]
        both = (mine != 0) & (other != 0)
        num = int(both.sum())
        if num >= max(min_columns, 1):
            share = float(np.bitwise_count(mine[both] ^ other[both]).mean()) / 32
            best, columns = min((best, columns), (share, num))
    return best, columns


def fingerprint_of(root: Path, entry: Entry) -> Fingerprint:
    """Compute the fingerprint of one clip: one frame per second, all of its audio.

    What cannot be read is a fingerprint with a problem; a file of another size than the manifest's
    is one too.
    """
    frames, audio = empty_fingerprint(entry).frames, empty_fingerprint(entry).audio
    path = root / entry.path
    try:
        with as_file(path, _LIMITS) as copy:
            if (found := os.path.getsize(copy)) != entry.bytes:
                raise OSError(f"has {found} bytes, the manifest says {entry.bytes}: another file")
        if entry.video is not None:
            num = min(max(math.floor(entry.duration_seconds / STEP_SECONDS), 1), MAX_HASHED_FRAMES)
            clip = decode_clip(
                path,
                start_seconds=entry.start_seconds,
                duration_seconds=min(num * STEP_SECONDS, entry.duration_seconds),
                num_frames=num,
                short_side=2 * _SIDE,
                audio="skip",
                until_seconds=entry.usable_until_seconds,
                limits=_LIMITS,
            )
            frames = frame_hashes(clip.video)
        if entry.audio is not None:
            audio = audio_hashes(_listen(path, entry))
    except (ClipError, OSError, ImportError) as error:
        what = getattr(error, "problem", None) or getattr(error, "strerror", None) or str(error)
        problem = f"{type(error).__name__}: {' '.join(what.split())}"
        return empty_fingerprint(entry, problem)
    return Fingerprint(clip_id=entry.clip_id, frames=frames, audio=audio)


def shrunk(video: UInt8[np.ndarray, "t h w c"]) -> Float32[np.ndarray, "t 32 32 c"]:
    """Means of the cells of a 32 x 32 grid, whatever the size and shape of the frames."""
    rows, columns = (_areas(size) for size in video.shape[1:3])
    # Not through BLAS: where its threads share their cores with others a clip took minutes.
    narrow = np.einsum("jw,thwc->thjc", columns, video.astype(np.float32))
    return np.einsum("ih,thjc->tijc", rows, narrow).astype(np.float32)


def empty_fingerprint(entry: Entry, problem: str = "") -> Fingerprint:
    """The fingerprint of a clip without visible frames and audible audio."""
    return Fingerprint(
        clip_id=entry.clip_id,
        frames=np.zeros((0, 2), np.uint64),
        audio=np.zeros(0, np.uint32),
        problem=problem,
    )


def _listen(path: Path, entry: Entry) -> Float32[np.ndarray, " s"]:
    if entry.video is None:
        from avmix.media.whole_clip import (
            audio_of_file,  # imports what prepares, which imports this
        )

        wave = audio_of_file(path, AUDIO_HZ, track_of(entry.audio))
        first = round(entry.start_seconds * AUDIO_HZ)
        return wave[first : first + round(entry.duration_seconds * AUDIO_HZ)]
    try:
        wave = decode_audio(
            path,
            start_seconds=entry.start_seconds,
            duration_seconds=entry.duration_seconds,
            sample_rate=AUDIO_HZ,
            channels=channels_to_read(entry.audio),
            audio_track=track_of(entry.audio),
            until_seconds=entry.usable_until_seconds,
            limits=_LIMITS,
        ).audio
        return one_channel(entry.audio, wave)
    except NoAudioStreamError:
        return np.zeros(0, np.float32)


@lru_cache(maxsize=64)
def _areas(size: int) -> Float32[np.ndarray, "n size"]:
    edges = np.linspace(0, size, _SIDE + 1)
    pixels = np.arange(size)
    cover = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.clip(cover, 0, None) * _SIDE / size).astype(np.float32)


@lru_cache(maxsize=1)
def _cosines() -> Float32[np.ndarray, "f n"]:
    """Rows of the discrete cosine transform of the second kind, the lowest eight."""
    middle = (np.arange(_SIDE) + 0.5) / _SIDE
    return np.cos(np.pi * np.arange(8)[:, None] * middle).astype(np.float32)


@lru_cache(maxsize=4)
def _lowest(num: int) -> tuple[Int64[np.ndarray, " num"], Int64[np.ndarray, " num"]]:
    """Rows and columns of the `num` lowest frequencies, without the mean."""
    rows, columns = np.divmod(np.arange(1, 64), 8)
    order = np.argsort(np.maximum(rows, columns), kind="stable")[:num]
    return rows[order], columns[order]


@lru_cache(maxsize=1)
def _bands() -> Float32[np.ndarray, "bins bands"]:
    """Sums over bands that are as wide, in octaves, as each other."""
    edges = np.geomspace(*_BANDS_HZ, _NUM_BANDS + 1)
    hz = np.arange(_FFT // 2 + 1) * AUDIO_HZ / _FFT
    return ((hz[:, None] >= edges[:-1]) & (hz[:, None] < edges[1:])).astype(np.float32)
