"""Mean and standard deviation of the log-mels of one file, measured while it is probed; numpy only.

The measure is of the default spectrogram (16 kHz, 64 mels, windows of 512 samples every 256), so
that the numbers of all datasets can be compared. Other spectrograms of the same audio differ by
little beside its deviation: a window of twice the length adds about ln 2 to the mean.
"""

from collections.abc import Iterable
from functools import cache

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from jaxtyping import Float, Float32

from avmix.media.log_mel import HOP, N_FFT, NUM_MELS, SAMPLE_RATE

LOG_FLOOR = 1e-6
"""As in `avmix.models.spectrograms`, which is not imported: it brings torch."""
_BLOCK_SECONDS = 2.0
"""Audio that is resampled and transformed at once: calls cost more than what they do."""


class MelTally:
    """Running sums over the log-mel of a waveform that arrives in parts."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._resampler: AudioResampler | None = None
        self._rate = 0
        self._waiting: list[np.ndarray] = []
        self._num_waiting = 0
        self._rest = np.zeros(0, np.float32)
        self._count, self._sum, self._squares = 0, 0.0, 0.0

    def feed(self, wave: Float32[np.ndarray, " s"], rate_hz: int) -> None:
        """Add the next samples, mono; the rate may change between calls."""
        if rate_hz != self._rate:
            self._resample(last=True)
            self._rate = rate_hz
        self._waiting.append(wave)
        self._num_waiting += len(wave)
        if self._num_waiting >= _BLOCK_SECONDS * rate_hz:
            self._resample(last=False)

    def result(self) -> tuple[float, float] | None:
        """Mean and standard deviation over all mels and columns; None where the audio is shorter
        than one window, or not finite."""
        self._resample(last=True)
        if not self._count or not np.isfinite(self._squares):
            return None
        mean = self._sum / self._count
        return mean, float(np.sqrt(max(self._squares / self._count - mean**2, 0.0)))

    def _resample(self, *, last: bool) -> None:
        if self._waiting:
            wave = np.concatenate(self._waiting)
            self._waiting, self._num_waiting = [], 0
            frame = AudioFrame.from_ndarray(wave[None], format="flt", layout="mono")
            frame.sample_rate = self._rate
            self._resampler = self._resampler or AudioResampler("flt", "mono", SAMPLE_RATE)
            self._transform(self._resampler.resample(frame))
        if last and self._resampler is not None:
            self._transform(self._resampler.resample(None))
            self._resampler = None

    def _transform(self, frames: Iterable[AudioFrame]) -> None:
        wave = np.concatenate([self._rest, *(frame.to_ndarray()[0] for frame in frames)])
        columns = max(0, (len(wave) - N_FFT) // HOP + 1)
        self._rest = wave[columns * HOP :]
        if columns:
            log_mel = log_mel_of(wave[: (columns - 1) * HOP + N_FFT])
            self._count += log_mel.size
            self._sum += float(log_mel.sum())
            self._squares += float((log_mel**2).sum())


def log_mel_of(wave: Float32[np.ndarray, " s"]) -> Float[np.ndarray, "f m"]:
    """ln(mel power + LOG_FLOOR) at `SAMPLE_RATE`, as `avmix.models.frontend.Frontend` with mean 0
    and deviation 1 gives it, in float64."""
    windows = np.lib.stride_tricks.sliding_window_view(wave.astype(np.float64), N_FFT)[::HOP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
    power = np.abs(np.fft.rfft(windows * hann)) ** 2
    return np.log(power @ _filters() + LOG_FLOOR)


@cache
def _filters() -> Float[np.ndarray, "bins m"]:
    """Triangles of equal width on the mel scale of HTK, each with a peak of 1."""
    top = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, NUM_MELS + 2) / 2595) - 1)
    hertz = np.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1)[:, None]
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (hertz - low) / (middle - low), (high - hertz) / (high - middle)
    return np.maximum(0, np.minimum(rising, falling))
