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
from torchaudio.transforms import Spectrogram as Transform

from avmix.config import FrontendConfig
from avmix.models.spectrograms import Decibels, Density, Kaldi, Logarithmic, spectrogram


class DftSpectrogram(nn.Module):
    """Waveforms (n s) to the logarithm of mel power (n m f), as that of
    `avmix.models.spectrograms`."""

    def __init__(self, config: FrontendConfig, sample_rate: int) -> None:
        """The spectrogram of `config.kind`. Raises ValueError where it has no form here."""
        super().__init__()
        self._hop = config.hop_length
        self._padding, self._pad_mode, self._root = 0, "constant", config.exponent == 1
        scale, of = None, spectrogram(config, sample_rate)
        match of:
            case Kaldi():
                analysis, mels = _kaldi(of), of.banks
            case Density():
                length = len(of.window)
                centred = torch.eye(length, dtype=torch.float64) - 1 / length
                analysis, mels = _fourier(length) @ (of.window.double()[:, None] * centred), None
                scale = of.scale.clone()
            case Logarithmic() | Decibels():
                whole = of.power
                transform = whole if isinstance(whole, Transform) else whole.spectrogram
                analysis = _fourier(transform.n_fft) * _window(transform)
                if transform.center:
                    self._padding, self._pad_mode = transform.n_fft // 2, transform.pad_mode
                mels = None
                if not isinstance(whole, Transform):
                    mels = whole.mel_scale.get_buffer("fb").T
            case _:
                raise ValueError(f"{type(of).__name__} has no form that can be exported")
        self._logarithm = of.logarithm
        self.analysis: Tensor
        self.mels: Tensor | None
        self.scale: Tensor | None
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("analysis", analysis.float().unsqueeze(1), persistent=False)
        mels = mels.contiguous().clone() if mels is not None else None
        self.register_buffer("mels", mels, persistent=False)

    def forward(self, audio: Float[Tensor, "n s"]) -> Float[Tensor, "n m f"]:
        """Before normalisation."""
        audio = audio.unsqueeze(1)
        if self._padding:
            audio = pad(audio, (self._padding, self._padding), mode=self._pad_mode)
        parts = conv1d(audio, self.analysis, stride=self._hop)
        real, imaginary = parts.chunk(2, 1)
        power = real.square() + imaginary.square()
        power = power.sqrt() if self._root else power
        power = self.mels @ power if self.mels is not None else power
        return self._logarithm(power if self.scale is None else self.scale * power)


def _window(transform: Transform) -> Float64[Tensor, " length"]:
    """In the middle of n_fft samples, as torch.stft has it."""
    window = transform.get_buffer("window").double()
    before = (transform.n_fft - len(window)) // 2
    return pad(window, (before, transform.n_fft - len(window) - before))


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
