"""Onset detection: when audio events begin, and when motion begins.

`onset_strength` is spectral flux: how much more there is in the mel bands than a moment ago. Bello
et al., "A tutorial on onset detection in music signals" (IEEE TSAP 2005) compares such functions;
the comparison with the largest neighbouring band, which keeps tones that glide from looking like
new ones, is that of Boeck and Widmer, "Maximum filter vibrato suppression for onset detection"
(DAFx 2013).
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Float64, UInt8

GRID_HZ = 200
"""Values of `onset_strength` per second."""

_WINDOW_SECONDS = 0.032
_NUM_MELS = 40
_LOW_HZ = 40.0
_BACK = 2
"""Columns between those compared: 10 ms, less than the window and more than its flat top."""
_FLOOR_DB = 60.0
"""What is so far below the loudest band of the clip counts as nothing."""

_NOISE = 4.0
"""Times the median of a band."""

_LOCAL_SECONDS = 0.25
_RATIO = 8.0
_SHARE = 0.2
_APART_SECONDS = 0.06
_REACH_SECONDS = 0.025
_EDGE_SECONDS = 0.003


def onset_strength(audio: Float32[np.ndarray, " s"], sample_rate: int) -> Float32[np.ndarray, " n"]:
    """Spectral flux of a mono waveform, in nepers summed over mel bands; never negative.

    Value k is of the moment k / GRID_HZ seconds after the first sample. The first values are zero:
    audio that is there from the start did not begin in the clip.
    """
    size = round(_WINDOW_SECONDS * sample_rate)
    num = int(len(audio) / sample_rate * GRID_HZ) + 1
    if not len(audio):
        return np.zeros(num, np.float32)
    padded = np.pad(audio, size // 2 + 1, mode="reflect" if len(audio) > size else "edge")
    starts = np.rint(np.arange(num) * sample_rate / GRID_HZ).astype(int)
    starts = np.minimum(starts, len(padded) - size)
    window = np.hanning(size).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[starts] * window
    power = np.abs(np.fft.rfft(frames, axis=1)).astype(np.float32) ** 2
    mel = power @ _filters(size, sample_rate)
    loudest = float(mel.max())
    if loudest <= 1e-9:
        return np.zeros(num, np.float32)
    # What a band holds half of the time is its noise. Only what rises above it counts, else the
    # flicker of hiss would look like an onset in every band.
    noise = _NOISE * np.median(mel, axis=0)
    level = np.log(mel + noise + loudest * 10 ** (-_FLOOR_DB / 10))
    before = np.maximum(level[:-_BACK], np.roll(level, 1, 1)[:-_BACK])
    before = np.maximum(before, np.roll(level, -1, 1)[:-_BACK])
    flux = np.zeros(num, np.float32)
    # A rise seen between two columns is of the moment between them.
    middle = _BACK // 2
    flux[middle : middle + num - _BACK] = np.maximum(level[_BACK:] - before, 0).sum(1)
    return flux


def onset_times(audio: Float32[np.ndarray, " s"], sample_rate: int) -> Float64[np.ndarray, " n"]:
    """Onset times of audio events, seconds from the first sample, ascending, at least 60 ms apart.

    Peaks of the onset strength that stand out of their surroundings, each then moved to where the
    waveform rises: a few milliseconds exact for what begins sharply.
    """
    flux = onset_strength(audio, sample_rate).astype(np.float64)
    if not flux.any():
        return np.zeros(0)
    reach = round(_LOCAL_SECONDS * GRID_HZ)
    around = np.lib.stride_tricks.sliding_window_view(
        np.pad(flux, reach, mode="reflect" if len(flux) > reach else "edge"), 2 * reach + 1
    )
    # Around a peak, the usual is the median; a share of the clip's strongest keeps hiss out.
    usual = np.median(around, axis=1)
    spread = np.median(np.abs(around - usual[:, None]), axis=1)
    strongest = np.quantile(flux, 0.995)
    threshold = np.maximum(usual + _RATIO * (spread + 0.25 * usual), _SHARE * strongest)
    apart = round(_APART_SECONDS * GRID_HZ)
    highest = np.lib.stride_tricks.sliding_window_view(
        np.pad(flux, apart // 2, constant_values=-1.0), 2 * (apart // 2) + 1
    ).max(1)
    peaks = np.flatnonzero((flux == highest) & (flux > threshold) & (flux > 0))
    found: list[float] = []
    for peak in peaks:
        time = _edge(audio, sample_rate, peak / GRID_HZ)
        if not found or time - found[-1] >= _APART_SECONDS:
            found.append(time)
    return np.array(found, np.float64)


def motion_energy(video: UInt8[np.ndarray, "t h w c"]) -> Float32[np.ndarray, " t"]:
    """Mean absolute difference of each frame to the one before it, in grey, 0 to 1.

    That of the first frame is 0. Small frames (some 64 pixels high) are enough, and keep the
    noise of the camera out.
    """
    energy = np.zeros(len(video), np.float32)
    if len(video) > 1:
        grey = video.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32) / 255
        energy[1:] = np.abs(np.diff(grey, axis=0)).mean(axis=(1, 2))
    return energy


def _edge(audio: np.ndarray, sample_rate: int, near_seconds: float) -> float:
    """Where the waveform rises most, within some milliseconds of a peak of the onset strength."""
    reach, edge = round(_REACH_SECONDS * sample_rate), round(_EDGE_SECONDS * sample_rate)
    centre = round(near_seconds * sample_rate)
    low, high = max(centre - reach, 0), min(centre + reach, len(audio))
    part = np.pad(audio[max(low - edge, 0) : high + edge].astype(np.float64) ** 2, 0)
    total = np.concatenate([np.zeros(1), np.cumsum(part)])
    at = np.arange(low, high) - max(low - edge, 0)
    before = total[at] - total[np.maximum(at - edge, 0)]
    after = total[np.minimum(at + edge, len(part))] - total[at]
    # The quiet before an onset is never quite zero, or where nothing is would decide.
    quiet = 1e-3 * max(float(after.max()), 1e-12)
    rise = np.log((after + quiet) / (before + quiet))
    return float(low + int(np.argmax(rise))) / sample_rate


@lru_cache(maxsize=8)
def _filters(size: int, sample_rate: int) -> Float32[np.ndarray, "bins m"]:
    """Mel filters for spectra of `size` samples; those that no bin feeds are left out."""
    from torchaudio.functional import melscale_fbanks  # takes long to load, and only this needs it

    filters = melscale_fbanks(
        size // 2 + 1, _LOW_HZ, sample_rate / 2, _NUM_MELS, sample_rate, mel_scale="slaney"
    )
    return filters[:, filters.sum(0) > 0].numpy()
