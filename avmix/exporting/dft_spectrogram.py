"""Spectrograms by convolution: the discrete Fourier transform as a fixed linear map, of operations
that every format can hold.

A column of a spectrogram is the energy of a windowed stretch of the waveform at each frequency. All
that is done to the stretch before squaring is linear (mean removal and pre-emphasis of Kaldi, the
window, the transform), so one convolution with a step of `hop_length` does it.
"""

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn.functional import conv1d, pad

from avmix.config import FrontendConfig
from avmix.models.spectrograms import Decibels, Kaldi, LogMel, spectrogram


class DftSpectrogram(nn.Module):
    """Waveforms (n s) to the logarithm of mel power (n m f), as that of
    `avmix.models.spectrograms`."""

    def __init__(self, config: FrontendConfig, sample_rate: int) -> None:
        """The spectrogram of `config.kind`. Raises ValueError where it has no form here."""
        super().__init__()
        self._hop = config.hop_length
        self._padding, self._pad_mode = 0, "constant"
        of = spectrogram(config, sample_rate)
        match of:
            case Kaldi():
                analysis, mels = _kaldi(of), of.banks
            case LogMel() | Decibels():
                transform = of.power.spectrogram
                analysis = _fourier(transform.n_fft) * transform.get_buffer("window").double()
                if transform.center:
                    self._padding, self._pad_mode = transform.n_fft // 2, transform.pad_mode
                mels = of.power.mel_scale.get_buffer("fb").T
            case _:
                raise ValueError(f"{type(of).__name__} has no form that can be exported")
        self._logarithm = of.logarithm
        self.analysis: Tensor
        self.mels: Tensor
        self.register_buffer("analysis", analysis.float().unsqueeze(1), persistent=False)
        self.register_buffer("mels", mels.contiguous().clone(), persistent=False)

    def forward(self, audio: Float[Tensor, "n s"]) -> Float[Tensor, "n m f"]:
        """Before normalisation."""
        audio = audio.unsqueeze(1)
        if self._padding:
            audio = pad(audio, (self._padding, self._padding), mode=self._pad_mode)
        parts = conv1d(audio, self.analysis, stride=self._hop)
        real, imaginary = parts.chunk(2, 1)
        return self._logarithm(self.mels @ (real.square() + imaginary.square()))


def _fourier(length: int, size: int | None = None) -> Float64[Tensor, "rows length"]:
    """Real parts of all frequencies from 0 to half of the sample rate, then imaginary ones, of
    `length` samples that zeros follow up to `size`."""
    size = size or length
    # The angle of a whole number of turns: exact for any frequency and sample.
    turns = torch.arange(size // 2 + 1)[:, None] * torch.arange(length) % size
    angles = turns.double() * (2 * math.pi / size)
    return torch.cat([angles.cos(), -angles.sin()])


def _kaldi(of: Kaldi) -> Float64[Tensor, "rows length"]:
    length, size = len(of.window), 2 * (of.banks.shape[1] - 1)
    centred = torch.eye(length, dtype=torch.float64) - 1 / length
    before = torch.cat([centred[:1], centred[:-1]])
    prepared = of.window.double()[:, None] * (centred - 0.97 * before)
    return _fourier(length, size) @ prepared
