"""Spectrograms of the front end, by `frontend.kind`: formulas, parameters and sources are listed in
docs/models.md.

Each has two halves, mel power and its logarithm, between which clips may be mixed. All of them work
on whole batches, on the device, and have a gradient.
"""

import math
import warnings
from abc import ABC, abstractmethod
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchaudio.compliance.kaldi import get_mel_banks
from torchaudio.transforms import MelSpectrogram

from avmix.config import FrontendConfig

LOG_FLOOR = 1e-6
"""Added to mel power before the logarithm of `log_mel`: far below any audible level, and far above
what half precision would flush to zero."""

KALDI_FLOOR = torch.finfo(torch.float32).eps
"""Least mel power of Kaldi's filterbanks before the logarithm."""

KALDI_AMPLITUDE = 2.0**15
"""Of a sample of 1.0 in `kaldi_povey`, as in files of 16 bits."""

DECIBEL_FLOOR = 1e-10
"""Least mel power of `panns` and `librosa` before the logarithm: -100 dB."""

LIBROSA_RANGE_DB = 80.0
"""`librosa`: what lies so far below the maximum of its spectrogram is raised to that level."""

PANNS_HZ = (50.0, 14_000.0)
"""Range of the mel filters of `panns`; the upper end is half of the sample rate, where that is
lower, as in the networks for 8 and 16 kHz."""


class Spectrogram(nn.Module, ABC):
    """Waveforms (n s) to mel power (n m f), and its logarithm."""

    @abstractmethod
    def forward(self, audio: Float[Tensor, "n s"]) -> Float[Tensor, "n m f"]:
        """Mel power, in the type of `audio`."""

    @abstractmethod
    def logarithm(self, power: Float[Tensor, "*n m f"]) -> Float[Tensor, "*n m f"]:
        """A new tensor, which the caller may overwrite."""


def spectrogram(config: FrontendConfig, sample_rate: int) -> Spectrogram:
    """The spectrogram of `config.kind`. Raises ValueError where a mel filter would be empty."""
    match config.kind:
        case "log_mel":
            return LogMel(config, sample_rate)
        case "kaldi" | "kaldi_povey" as kind:
            return Kaldi(config, sample_rate, kind)
        case "panns" | "librosa" as kind:
            return Decibels(config, sample_rate, kind)
        case "waveform":
            raise ValueError("frontend.kind waveform: there is no spectrogram")


class LogMel(Spectrogram):
    """ln(mel power + `LOG_FLOOR`): periodic Hann window, HTK's mel scale, filters of height 1."""

    def __init__(self, config: FrontendConfig, sample_rate: int) -> None:
        """Column k covers samples [k * hop, k * hop + n_fft): nothing is invented beyond the
        borders of the waveform."""
        super().__init__()
        self.power = _power(config, sample_rate, center=False)

    def forward(self, audio: Float[Tensor, "n s"]) -> Float[Tensor, "n m f"]:
        """As `torchaudio.transforms.MelSpectrogram(center=False)`."""
        return self.power(audio)

    def logarithm(self, power: Float[Tensor, "*n m f"]) -> Float[Tensor, "*n m f"]:
        """Natural."""
        return (power + LOG_FLOOR).log_()


class Kaldi(Spectrogram):
    """ln(max(mel power, `KALDI_FLOOR`)) of Kaldi's filterbanks.

    Column k covers samples [k * hop, k * hop + n_fft): their mean is removed, they are emphasised
    (x[t] - 0.97 x[t - 1]), weighted by a symmetric Hann window and padded to a power of two. Mel
    filters, triangles in mel, reach from 20 Hz to half of the sample rate. No dither. As
    `torchaudio.compliance.kaldi.fbank(window_type="hanning", dither=0)`. `kaldi_povey`: the window
    is Hann's to the power of 0.85, and samples are those of 16 bits (times `KALDI_AMPLITUDE`), as
    in `fbank(waveform * 2**15, dither=0)`.
    """

    def __init__(
        self, config: FrontendConfig, sample_rate: int, kind: Literal["kaldi", "kaldi_povey"]
    ) -> None:
        """`n_fft` and `hop_length` of `config` are window and step, samples."""
        super().__init__()
        self._length, self._hop = config.n_fft, config.hop_length
        self._size = 1 << (config.n_fft - 1).bit_length()
        banks, _ = get_mel_banks(config.num_mels, self._size, sample_rate, 20.0, 0.0, 100.0, -500.0,
                                 1.0)  # fmt: skip
        self.window: Tensor
        self.banks: Tensor
        window = torch.hann_window(config.n_fft, periodic=False)
        if kind == "kaldi_povey":
            # A power of two: as exact as if the samples themselves were multiplied.
            window = KALDI_AMPLITUDE * window.pow(0.85)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("banks", nn.functional.pad(banks, (0, 1)), persistent=False)

    def forward(self, audio: Float[Tensor, "n s"]) -> Float[Tensor, "n m f"]:
        """Mel power, in the type of `audio`."""
        frames = audio.unfold(-1, self._length, self._hop)
        frames = frames - frames.mean(-1, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], -1)
        spectrum = torch.fft.rfft((frames - 0.97 * before) * self.window, self._size)
        power = spectrum.real.square() + spectrum.imag.square()
        return self.banks @ power.transpose(-1, -2)

    def logarithm(self, power: Float[Tensor, "*n m f"]) -> Float[Tensor, "*n m f"]:
        """Natural."""
        return power.clamp(min=KALDI_FLOOR).log_()


class Decibels(Spectrogram):
    """10 log10(max(mel power, `DECIBEL_FLOOR`)): periodic Hann window, Slaney's mel scale, filters
    of area 1.

    Column k is centred on sample k * hop; the waveform is padded by half a window. `panns`: by
    reflection; filters of `PANNS_HZ`. As torchlibrosa's `Spectrogram` and `LogmelFilterBank`, and
    CLAP's feature extractor. `librosa`: with zeros; filters of all frequencies, and at most
    `LIBROSA_RANGE_DB` below the maximum of each spectrogram. As
    `librosa.power_to_db(librosa.feature.melspectrogram(...))`.
    """

    def __init__(
        self, config: FrontendConfig, sample_rate: int, kind: Literal["panns", "librosa"]
    ) -> None:
        """Raises ValueError where a mel filter would be empty."""
        super().__init__()
        low, high = PANNS_HZ if kind == "panns" else (0.0, math.inf)
        high = min(high, sample_rate / 2)
        self.power = _power(
            config, sample_rate, center=True, pad_mode="reflect" if kind == "panns" else "constant",
            f_min=low, f_max=high, norm="slaney", mel_scale="slaney", window_fn=_hann,
        )  # fmt: skip
        # torchaudio's own are computed in float32, which rounds by up to 3e-4 dB.
        filters = slaney_filters(config.num_mels, config.n_fft, sample_rate, low, high)
        self.power.mel_scale.get_buffer("fb").copy_(filters)
        self._range_db = LIBROSA_RANGE_DB if kind == "librosa" else math.inf

    def forward(self, audio: Float[Tensor, "n s"]) -> Float[Tensor, "n m f"]:
        """Mel power, in the type of `audio`."""
        return self.power(audio)

    def logarithm(self, power: Float[Tensor, "*n m f"]) -> Float[Tensor, "*n m f"]:
        """In decibels."""
        decibels = power.clamp(min=DECIBEL_FLOOR).log10_().mul_(10)
        if math.isinf(self._range_db):
            return decibels
        return decibels.maximum(decibels.amax((-2, -1), keepdim=True) - self._range_db)


def slaney_filters(
    num_mels: int, n_fft: int, sample_rate: int, low: float, high: float
) -> Float[Tensor, "frequencies m"]:
    """Triangles of area 1 between `low` and `high` Hz, at equal distances on Slaney's mel scale
    (Auditory Toolbox, 1998): linear below 1 kHz, logarithmic above; float64."""
    corner, linear, ratio = 1000.0, 3 / 200, 27 / math.log(6.4)  # Hz, mel / Hz, mel / octave of e

    def mel(hz: float) -> float:
        return hz * linear if hz < corner else corner * linear + ratio * math.log(hz / corner)

    mels = torch.linspace(mel(low), mel(high), num_mels + 2, dtype=torch.float64)
    above = corner * ((mels - corner * linear) / ratio).exp()
    hz = torch.where(mels < corner * linear, mels / linear, above)
    frequencies = torch.arange(n_fft // 2 + 1, dtype=torch.float64)[:, None] * sample_rate / n_fft
    rising = (frequencies - hz[:-2]) / (hz[1:-1] - hz[:-2])
    falling = (hz[2:] - frequencies) / (hz[2:] - hz[1:-1])
    return rising.minimum(falling).clamp(min=0) * 2 / (hz[2:] - hz[:-2])


def _hann(length: int) -> Float[Tensor, " n"]:
    return torch.hann_window(length, dtype=torch.float64).float()


def _power(config: FrontendConfig, sample_rate: int, **options: object) -> MelSpectrogram:
    """Waveforms to mel power. Raises ValueError where a mel filter would be empty: its bin could
    never change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty filters: an error here, see below
        mel = MelSpectrogram(
            sample_rate=sample_rate,
            n_fft=config.n_fft,
            hop_length=config.hop_length,
            n_mels=config.num_mels,
            **options,  # pyright: ignore[reportArgumentType]
        )
    empty = int((mel.mel_scale.get_buffer("fb").sum(0) <= 0).sum())
    if empty:
        raise ValueError(
            f"frontend.num_mels (={config.num_mels}): {empty} mel filters are empty with "
            f"frontend.n_fft (={config.n_fft}) at {sample_rate} Hz; fewer mels or a longer "
            "n_fft are needed"
        )
    return mel
