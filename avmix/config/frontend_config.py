"""Configuration section `frontend`."""

from dataclasses import dataclass, replace
from typing import Literal

from avmix.config.checks import validate, validate_numbers
from avmix.config.unset import unset

FrontEnd = Literal[
    "log_mel", "linear", "scipy", "kaldi", "kaldi_povey", "panns", "librosa", "waveform",
]  # fmt: skip
NO_MELS = ("linear", "scipy")
"""Kinds whose rows are the frequencies of the Fourier transform."""


@dataclass(frozen=True, kw_only=True)
class FrontendConfig:
    """Device stage 1: normalises frames and computes log-mels."""

    kind: FrontEnd = unset("log_mel")
    """Formula of the spectrogram (docs/models.md): `log_mel`; `linear`, the same without mel
    filters; `scipy`, its density of power; `kaldi`, filterbanks with a Hann window, of encoders
    trained on AudioSet; `kaldi_povey`, with Kaldi's own window and 16-bit amplitudes, of BEATs;
    `panns`, decibels of 50 Hz to 14 kHz, of PANNs and CLAP; `librosa`, its decibels. All but
    `log_mel` need values for mel_mean and mel_std. `waveform`: none, the samples themselves, for
    encoders that have a front end inside."""
    num_mels: int = unset(64)
    """Mel bins, >= 1; every mel filter must cover a frequency of the spectrum, or the run does not
    start."""
    n_fft: int = unset(512)
    """Window length of the Fourier transform, samples."""
    hop_length: int = unset(256)
    """Hop between columns of the spectrogram, samples."""
    window_length: int = 0
    """Window of `log_mel` and `linear`, samples, in [2, n_fft]: it is in the middle of n_fft
    samples, zeros are around it. 0: n_fft."""
    exponent: Literal[1, 2] = 2
    """Of `log_mel` and `linear`: magnitudes of the spectrum to the power of it. 2: power. With 1,
    audio cannot be mixed as power, and log-mels are not those that are measured."""
    log_offset: float = 1e-6
    """Added by `log_mel` and `linear` before the logarithm, > 0."""
    centred: bool = False
    """Of `log_mel` and `linear`: half of n_fft zeros before and after the waveform, so that column
    k is around sample k hop_length; otherwise it begins there."""
    mel_mean: float | Literal["measured", "clip"] = unset("measured")
    """Mean of the dataset's spectrograms, subtracted; those of log-mels are natural logarithms of
    power. `measured`: the mean of the train split, which preparation writes to dataset.json; -0.3
    where it is missing. `clip`: of each spectrogram, its own."""
    mel_std: float | Literal["measured", "clip"] = unset("measured")
    """Standard deviation of the dataset's spectrograms, > 0, by which they are divided. `measured`:
    as mel_mean; 3.7 where it is missing. `clip`: of each spectrogram, its own; both or none."""
    kernel: Literal["auto", "torch", "fused", "triton"] = "auto"
    """Implementation that normalises and mixes frames: plain `torch` operations, the `fused` path
    for CPUs, or `triton` for CUDA; `auto`: fused or triton, by the device. They differ by rounding
    only."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for key in ("mel_mean", "mel_std"):
            validate(self.kind in ("log_mel", "waveform") or getattr(self, key) != "measured",
                     f"frontend.{key}",
                     f"must be a number for frontend.kind {self.kind}: what is measured is of "
                     "log-mels (an encoder that expects this kind brings both, where "
                     "frontend.kind is left out)", getattr(self, key))  # fmt: skip
            validate((getattr(self, key) == "clip") == (self.mel_mean == "clip"), f"frontend.{key}",
                     "must be clip where frontend.mel_mean is, and only there",
                     getattr(self, key))  # fmt: skip
            validate(self.exponent == 2 or getattr(self, key) != "measured", f"frontend.{key}",
                     "must be a number, or clip, for frontend.exponent 1: what is measured is of "
                     "power", getattr(self, key))  # fmt: skip
        validate(self.num_mels >= 1, "frontend.num_mels", "must be >= 1", self.num_mels)
        validate(self.n_fft >= 16, "frontend.n_fft", "must be >= 16", self.n_fft)
        validate(1 <= self.hop_length <= self.n_fft, "frontend.hop_length",
                 f"must be in [1, frontend.n_fft (={self.n_fft})]", self.hop_length)  # fmt: skip
        validate(self.window_length == 0 or 2 <= self.window_length <= self.n_fft,
                 "frontend.window_length", f"must be 0, or in [2, frontend.n_fft (={self.n_fft})]",
                 self.window_length)  # fmt: skip
        validate(self.log_offset > 0, "frontend.log_offset", "must be > 0", self.log_offset)
        validate(isinstance(self.mel_std, str) or self.mel_std > 0, "frontend.mel_std",
                 "must be > 0, measured or clip", self.mel_std)  # fmt: skip
        validate_numbers(self, "frontend.")

    @property
    def drawn(self) -> "FrontendConfig":
        """As audio is drawn: of waveforms, log-mels are."""
        return replace(self, kind="log_mel") if self.kind == "waveform" else self

    @property
    def padding(self) -> int:
        """Samples added before and after the waveform: column k of `panns` and `librosa`, and of
        what is `centred`, is centred on sample k * hop_length."""
        return self.n_fft // 2 if self.kind in ("panns", "librosa") or self.centred else 0

    @property
    def num_bands(self) -> int:
        """Rows of the spectrogram: mel bins, or frequencies from 0 to half of the sample rate."""
        return self.n_fft // 2 + 1 if self.kind in NO_MELS else self.num_mels

    def columns_of(self, num_samples: int) -> int:
        """Columns of the spectrogram of a waveform."""
        return 1 + (num_samples + 2 * self.padding - self.n_fft) // self.hop_length

    def samples_of(self, num_columns: int) -> int:
        """Fewest samples of a waveform whose spectrogram has so many columns."""
        return (num_columns - 1) * self.hop_length + self.n_fft - 2 * self.padding

    @property
    def first_column(self) -> float:
        """Middle of column 0, samples from the start of the waveform."""
        return self.n_fft / 2 - self.padding

    def with_log_mel(self, mean: float, std: float) -> "FrontendConfig":
        """Copy with these numbers in place of `measured`; of waveforms there are none."""
        if self.kind == "waveform":
            return self
        return replace(
            self,
            mel_mean=mean if self.mel_mean == "measured" else self.mel_mean,
            mel_std=std if self.mel_std == "measured" else self.mel_std,
        )


MEL_MEAN, MEL_STD = -0.3, 3.7
"""Mean and deviation of log-mels where nothing was measured."""
