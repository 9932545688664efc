"""Temporal alignment of audio to video: the offset at which audio onsets fit the motion best, and
its score.

Both are turned into envelopes on one grid: the onset strength of the audio and the motion energy of
the frames, smoothed over some frames' time. For every shift of the audio that leaves it enough
of the frames to cover, the score is the Pearson correlation of the two envelopes where they
overlap,

    score(d) = sum_t (m(t) - mean m) (o(t - d) - mean o) / sqrt(sum_t (m(t) - mean m)^2
                                                                sum_t (o(t - d) - mean o)^2)

and the best shift is where it is highest. Being a highest value, it is above 0 for envelopes that
have nothing to do with each other too; `docs/synthesis.md` says how far.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from avmix.media.onsets import GRID_HZ as ONSET_HZ
from avmix.media.onsets import onset_strength

GRID_HZ = 50
"""Rate of both envelopes; a shift is exact to half a step, 10 ms."""
_SMOOTH_SECONDS = 0.03
"""Standard deviation: a frame lasts about that long, so an impact is seen that exactly."""
_STEPS = ONSET_HZ // GRID_HZ


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """The best offset of audio relative to frames."""

    score: float
    """Correlation of the envelopes there, -1 to 1."""
    shift_seconds: float
    """Begin of the audio, from the first frame; below 0: its begin is cut away."""
    cover: float
    """Share of the frames that then have audio, 0 to 1."""


def audio_envelope(wave: Float32[np.ndarray, " s"], rate_hz: int) -> Float64[np.ndarray, " n"]:
    """Smoothed onset strength, GRID_HZ values per second."""
    return _smooth(onset_strength(wave, rate_hz).astype(np.float64))


def motion_envelope(
    motion: Float64[np.ndarray, "n 2"], duration_seconds: float
) -> Float64[np.ndarray, " m"]:
    """Smoothed motion energy, GRID_HZ values per second, from (seconds, energy) of each frame."""
    times = np.arange(int(duration_seconds * ONSET_HZ) + 1) / ONSET_HZ
    return _smooth(np.interp(times, motion[:, 0], motion[:, 1]))


def align(
    motion: Float64[np.ndarray, " m"], audio: Float64[np.ndarray, " n"], min_cover: float
) -> Alignment | None:
    """Where `audio` goes best with `motion`; None where it is too short to cover `min_cover`.

    `min_cover` is a share of the frames, above 0, at most 1.
    """
    num, length = len(motion), len(audio)
    shifts = np.arange(-length + 1, num)
    overlap = np.minimum(num, shifts + length) - np.maximum(shifts, 0)
    # Half a step of tolerance: the lengths are rounded to the grid.
    enough = overlap >= max(min_cover * num - 0.5, 2)
    if not enough.any():
        return None
    cross = np.correlate(motion, audio, "full")
    low, high = np.maximum(shifts, 0), np.minimum(num, shifts + length)
    m_sum, m_square = _between(motion, low, high), _between(motion**2, low, high)
    s_sum = _between(audio, low - shifts, high - shifts)
    s_square = _between(audio**2, low - shifts, high - shifts)
    product = cross - m_sum * s_sum / overlap
    m_power, s_power = m_square - m_sum**2 / overlap, s_square - s_sum**2 / overlap
    flat = (m_power <= 1e-9 * m_square) | (s_power <= 1e-9 * s_square)
    power = np.sqrt(np.where(flat, 1.0, m_power * s_power))
    score = np.where(flat, 0.0, product / power)
    best = int(np.argmax(np.where(enough, score, -np.inf)))
    return Alignment(
        score=float(np.clip(score[best], -1, 1)),
        shift_seconds=float(shifts[best] / GRID_HZ),
        cover=float(min(overlap[best] / num, 1.0)),
    )


def _between(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    total = np.concatenate([np.zeros(1), np.cumsum(values)])
    return total[high] - total[low]


def _smooth(values: np.ndarray) -> np.ndarray:
    """Gaussian smoothing on the finer grid, then every so many values of it."""
    sigma = _SMOOTH_SECONDS * ONSET_HZ
    reach = round(4 * sigma)
    at = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (at / sigma) ** 2)
    padded = np.pad(values, reach, mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), "valid")[::_STEPS]
