"""The audio of a stream that is kept for its next windows, on the clock of the stream."""

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32

from avmix.config import ClipConfig
from avmix.decode.mono_track import cancels
from avmix.decode.resample import resample

MARGIN_SECONDS = 0.02
"""Kept on both sides of a window for the resampler, as for files."""
TOLD_SECONDS = 0.2
"""Before a window: pieces whose times its place is averaged over, as for files."""
_JUMP_SECONDS = 0.015
"""A step of the times beyond which there is a gap, or an overlap."""
_SILENCE = 1e-4
"""-80 dBFS: audio that never was above it is digital silence."""


@dataclass(slots=True)
class _Piece:
    """Audio without a gap inside; pieces of one `run` follow each other without a gap."""

    run: int
    told: float
    """Time of its first sample, in samples after zero."""
    counted: int
    """Its first sample, counted from the start of the run."""
    mono: np.ndarray
    sides: np.ndarray | None


@dataclass(slots=True)
class StreamAudio:
    """Pieces of audio in the order in which they came."""

    clip: ClipConfig
    rate_hz: int = 0
    """0 until the first piece."""
    end_seconds: float = -math.inf
    """End of the last piece."""
    is_audible: bool = False
    """True once anything was above digital silence."""
    num_bytes: int = 0
    _pieces: deque[_Piece] = field(default_factory=deque)
    _run: int = 0

    def add(
        self, mono: Float32[np.ndarray, " s"], sides: Float32[np.ndarray, "2 s"] | None, at: float
    ) -> None:
        """Take a piece that begins at `at`, in seconds; of `rate_hz`."""
        told, counted = at * self.rate_hz, 0
        last = self._pieces[-1] if self._pieces else None
        if last is None or abs(told - last.told - len(last.mono)) > _JUMP_SECONDS * self.rate_hz:
            self._run += 1
        else:
            counted = last.counted + len(last.mono)
        piece = _Piece(self._run, told, counted, mono.astype(np.float32, copy=False), sides)
        self._pieces.append(piece)
        self.num_bytes += _bytes_of(piece)
        self.is_audible |= bool(len(mono)) and _loudest(piece) > _SILENCE
        self.end_seconds = (told + len(mono)) / self.rate_hz

    def clear(self) -> None:
        """Forget all pieces, not the rate."""
        self._pieces.clear()
        self.num_bytes, self.end_seconds = 0, -math.inf
        self._run += 1

    def drop_before(self, seconds: float, most_bytes: int) -> None:
        """Drop the pieces that end before a time, and then the oldest beyond so many bytes."""
        early = seconds * self.rate_hz if math.isfinite(seconds) else seconds
        while self._pieces and self._pieces[0].told + len(self._pieces[0].mono) < early:
            self.num_bytes -= _bytes_of(self._pieces.popleft())
        while self.num_bytes > most_bytes and self._pieces:
            self.num_bytes -= _bytes_of(self._pieces.popleft())

    def window(self, start: float) -> tuple[np.ndarray, float]:
        """The audio of a window and the share covered, as `AudioTrack.waveform` cuts it:
        (s), of two channels (2, s)."""
        clip, rate = self.clip, self.rate_hz
        num_samples = round(clip.duration_seconds * clip.sample_rate)
        silence = np.zeros((2, num_samples) if clip.stereo else num_samples, np.float32)
        if not rate:
            return silence, 0.0
        margin = math.ceil(MARGIN_SECONDS * clip.sample_rate)
        margin_seconds = margin / clip.sample_rate
        size = math.ceil((clip.duration_seconds + 2 * margin_seconds) * rate) + 1
        rows, covered = np.zeros((3, size), np.float32), np.zeros(size, np.bool_)
        origin = (start - margin_seconds) * rate
        for run in dict.fromkeys(piece.run for piece in self._pieces):
            pieces = [piece for piece in self._pieces if piece.run == run]
            begin = round(self._begin(pieces, start) - origin)
            for piece in pieces:
                at = begin + piece.counted
                low, high = max(at, 0), min(at + len(piece.mono), size)
                if low < high:
                    rows[0, low:high] = piece.mono[low - at : high - at]
                    sides = piece.mono[None] if piece.sides is None else piece.sides
                    rows[1:, low:high] = sides[:, low - at : high - at]
                    covered[low:high] = True
        energies = (rows.astype(np.float64) ** 2).mean(1)
        if clip.stereo:
            rows = rows[1:]
        else:  # of channels that cancel each other, the left one, as for files
            rows = (
                rows[1:2] if cancels(float(energies[0]), float(energies[1:].mean())) else rows[:1]
            )
        wave = np.zeros((len(rows), num_samples), np.float32)
        for out, whole in zip(wave, rows, strict=True):
            window = resample(whole, rate, clip.sample_rate)[margin:][:num_samples]
            out[: len(window)] = window
        inside = covered[round(margin_seconds * rate) :][
            : max(round(clip.duration_seconds * rate), 1)
        ]
        valid = int(np.count_nonzero(inside)) / len(inside)
        return (wave if clip.stereo else wave[0]), valid

    def _begin(self, pieces: list[_Piece], start: float) -> float:
        """Where the first counted sample of a run is, as `AudioRun.begin` has it."""
        told = np.array([piece.told for piece in pieces])
        offsets = told - np.array([piece.counted for piece in pieces])
        low = (start - TOLD_SECONDS) * self.rate_hz
        high = (start + self.clip.duration_seconds) * self.rate_hz
        inside = (told >= low) & (told <= high)
        if inside.any():
            return float(offsets[inside].mean())
        before = np.flatnonzero(told < low)
        return float(offsets[before[-1] if before.size else 0])


def _bytes_of(piece: _Piece) -> int:
    return piece.mono.nbytes + (0 if piece.sides is None else piece.sides.nbytes)


def _loudest(piece: _Piece) -> float:
    loudest = float(np.abs(piece.mono).max())
    return loudest if piece.sides is None else max(loudest, float(np.abs(piece.sides).max()))
