"""Spectrograms of the front end, by `frontend.kind`: formulas, parameters and sources are listed in
docs/models.md.

Each has two halves, mel power and its logarithm, between which clips may be mixed. All of them work
on whole batches, on the device, and have a gradient.
"""

import math
import warnings
from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchaudio.compliance.kaldi import get_mel_banks
from torchaudio.transforms import MelSpectrogram
from torchaudio.transforms import Spectrogram as Transform

from avmix.config import FrontendConfig

SCIPY_OFFSET = 1e-7
"""Added to the density of power of `scipy` before the logarithm."""

TUKEY_SHARE = 0.25
"""Of the window of `scipy` that is cosine."""

CLIP_OFFSET = 1e-9
"""Added to the deviation of a spectrogram, where each is normalised by its own."""

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
    """Waveforms (n s) to mel power (n m f), or power of other bands, and its logarithm."""

    @abstractmethod
    def forward(self, audio: Float[Tensor, "n s"]) -> Float[Tensor, "n m f"]:
        """Mel power, in the type of `audio`."""

    @abstractmethod
    def logarithm(self, power: Float[Tensor, "*n m f"]) -> Float[Tensor, "*n m f"]:
        """A new tensor, which the caller may overwrite."""


def spectrogram(config: FrontendConfig, sample_rate: int) -> Spectrogram:
    """The spectrogram of `config.kind`. Raises ValueError where a mel filter would be empty."""
    match config.kind:
        case "log_mel" | "linear":
            return Logarithmic(config, sample_rate)
        case "scipy":
            return Density(config, sample_rate)
        case "kaldi" | "kaldi_povey" as kind:
            return Kaldi(config, sample_rate, kind)
        case "panns" | "librosa" as kind:
            return Decibels(config, sample_rate, kind)
        case "waveform":
            raise ValueError("frontend.kind waveform: there is no spectrogram")


class Logarithmic(Spectrogram):
    """ln(P + `frontend.log_offset`): periodic Hann window; P is |X|^2, or |X| with
    `frontend.exponent` 1, after mel filters (HTK's scale, height 1), or of `linear` without.

    Column k covers samples [k * hop, k * hop + n_fft), nothing is invented beyond the borders of
    the waveform; or, `centred`, is around sample k * hop, with zeros beyond them.
    """

    def __init__(self, config: FrontendConfig, sample_rate: int) -> None:
        """Raises ValueError where a mel filter would be empty."""
        super().__init__()
        options: dict[str, Any] = {
            "win_length": config.window_length or config.n_fft, "power": float(config.exponent),
            "center": config.centred, "pad_mode": "constant",
        }  # fmt: skip
        if config.kind == "linear":
            self.power = Transform(n_fft=config.n_fft, hop_length=config.hop_length, **options)
        else:
            self.power = _power(config, sample_rate, **options)
        self._offset = config.log_offset

    def forward(self, audio: Float[Tensor, "n s"]) -> Float[Tensor, "n m f"]:
        """As `MelSpectrogram` of `torchaudio.transforms`, or its `Spectrogram`."""
        return self.power(audio)

    def logarithm(self, power: Float[Tensor, "*n m f"]) -> Float[Tensor, "*n m f"]:
        """Natural."""
        return (power + self._offset).log_()


class Density(Spectrogram):
    """ln(P + `SCIPY_OFFSET`) of the density of power per Hz, as `scipy.signal.spectrogram` has it
    where only the window and the overlap are named.

    Column k covers samples [k * hop, k * hop + n_fft): their mean is removed, and they are weighted
    by a periodic Tukey window. All frequencies but 0 and half of the sample rate count twice.
    """

    def __init__(self, config: FrontendConfig, sample_rate: int) -> None:
        """`n_fft` and `hop_length` of `config` are window and step, samples."""
        super().__init__()
        self._length, self._hop = config.n_fft, config.hop_length
        edge = TUKEY_SHARE * config.n_fft / 2
        place = torch.arange(config.n_fft, dtype=torch.float64)
        place = place.minimum(config.n_fft - place)  # of the nearer end
        window = 0.5 - 0.5 * (math.pi * (place / edge).clamp(max=1)).cos()
        scale = torch.ones(config.n_fft // 2 + 1, dtype=torch.float64)
        scale *= 2 / (sample_rate * window.square().sum())
        scale[0] /= 2
        if config.n_fft % 2 == 0:
            scale[-1] /= 2
        self.window: Tensor
        self.scale: Tensor
        self.register_buffer("window", window.float(), persistent=False)
        self.register_buffer("scale", scale.float()[:, None], persistent=False)

    def forward(self, audio: Float[Tensor, "n s"]) -> Float[Tensor, "n m f"]:
        """Density of power, in the type of `audio`."""
        frames = audio.unfold(-1, self._length, self._hop)
        frames = frames - frames.mean(-1, keepdim=True)
        spectrum = torch.fft.rfft(frames * self.window)
        power = spectrum.real.square() + spectrum.imag.square()
        return self.scale * power.transpose(-1, -2)

    def logarithm(self, power: Float[Tensor, "*n m f"]) -> Float[Tensor, "*n m f"]:
        """Natural."""
        return (power + SCIPY_OFFSET).log_()


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


def normalised(x: Float[Tensor, "*n m f"], config: FrontendConfig) -> Float[Tensor, "*n m f"]:
    """(x - mean) / deviation, in place, by the numbers of `config`; with `clip` those of each
    spectrogram. Raises ValueError for numbers that are still to be measured."""
    mean, std = config.mel_mean, config.mel_std
    if mean == "clip" or std == "clip":
        return x.sub_(x.mean((-2, -1), keepdim=True)).div_(
            x.std((-2, -1), keepdim=True, correction=0) + CLIP_OFFSET
        )
    if isinstance(mean, str) or isinstance(std, str):
        raise ValueError("frontend.mel_mean and frontend.mel_std are not measured yet")
    return x.sub_(mean).div_(std)
