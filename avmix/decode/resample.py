"""Resampling of waveforms with torchaudio's filter, whose table is kept small."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torch.nn import functional
from torchaudio.transforms import Resample

_FILTER_WIDTH = 16
"""Zero crossings of the resampling filter on each side."""
_MAX_PHASES = 500_000
"""Size of the table of a filter, for rates that have little in common, above which libav's is used,
which interpolates between phases."""


def resample(
    wave: Float32[np.ndarray, " s"], rate: int, new_rate: int
) -> Float32[np.ndarray, " n"]:
    """`wave` at another rate, both in Hz; sample 0 stays where it is."""
    if rate == new_rate:
        return wave
    common = math.gcd(rate, new_rate)
    if rate // common * (new_rate // common) <= _MAX_PHASES:
        # Half of libav's time, or less. Sample 0 stays where it is.
        return _filtered(wave, rate // common, new_rate // common)
    resampler = AudioResampler(format="fltp", layout="mono", rate=new_rate)
    frame = AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
    frame.sample_rate = rate
    parts = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([part.to_ndarray()[0] for part in parts])


def _filtered(
    wave: Float32[np.ndarray, " s"], rate: int, new_rate: int
) -> Float32[np.ndarray, " n"]:
    """What torchaudio's `Resample` gives, to the bit; the rates have no common divisor."""
    kernel = _kernel(rate, new_rate)
    width = (kernel.shape[2] - rate) // 2
    padded = np.zeros((1, 1, width + len(wave) + width + rate), np.float32)
    padded[0, 0, width : width + len(wave)] = wave
    phases = functional.conv1d(torch.from_numpy(padded), kernel, stride=rate).numpy()
    length = math.ceil(new_rate * len(wave) / rate)
    return phases[0].T.reshape(-1)[:length]


@dataclass(frozen=True, slots=True)
class _Filter:
    """A resampling filter, kept in about an eighth of its size.

    Each phase is a short window somewhere in a long row; training with audio at many rates needs
    hundreds of them.
    """

    num_columns: int
    outside: float
    """Value of everything outside of the windows: nearly zero."""
    first: Int64[Tensor, " phases"]
    """Column where the window of each phase begins."""
    taps: Float[Tensor, "phases taps"]

    @classmethod
    def of(cls, kernel: Float[Tensor, "phases 1 columns"]) -> "_Filter":
        """The filter that `whole` gives back."""
        rows, outside = kernel[:, 0], kernel[0, 0, 0]
        inside = (rows != outside).long()
        first, last = inside.argmax(1), rows.shape[1] - 1 - inside.flip(1).argmax(1)
        num_taps = int((last - first).max()) + 1
        first = first.clamp(max=rows.shape[1] - num_taps)
        taps = rows.gather(1, first[:, None] + torch.arange(num_taps))
        return cls(rows.shape[1], float(outside), first, taps)

    def whole(self) -> Float[Tensor, "phases 1 columns"]:
        """As a convolution takes it."""
        rows = torch.full((len(self.first), self.num_columns), self.outside)
        places = self.first[:, None] + torch.arange(self.taps.shape[1])
        return rows.scatter_(1, places, self.taps)[:, None]

    @property
    def num_bytes(self) -> int:
        """What it takes up."""
        return self.taps.nbytes + self.first.nbytes


@lru_cache(maxsize=8)
def _kernel(rate: int, new_rate: int) -> Float[Tensor, "phases 1 columns"]:
    """The rates of most datasets are few: theirs are at hand. Up to 1.5 MB each, so not more."""
    return _filter(rate, new_rate).whole()


@lru_cache(maxsize=1024)
def _filter(rate: int, new_rate: int) -> _Filter:
    """Making one takes up to 20 ms; about 55 kB, for rates in steps of 50 Hz."""
    common = math.gcd(rate, new_rate)
    made = Resample(
        rate // common,
        new_rate // common,
        resampling_method="sinc_interp_kaiser",
        lowpass_filter_width=_FILTER_WIDTH,
    )
    assert isinstance(made.kernel, Tensor)
    return _Filter.of(made.kernel)
