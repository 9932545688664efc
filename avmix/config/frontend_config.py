"""Configuration section `frontend`."""

from dataclasses import dataclass, replace
from typing import Literal

from avmix.config.checks import validate, validate_numbers
from avmix.config.unset import unset

FrontEnd = Literal["log_mel", "kaldi", "kaldi_povey", "panns", "librosa", "waveform"]


@dataclass(frozen=True, kw_only=True)
class FrontendConfig:
    """Device stage 1: normalises frames and computes log-mels."""

    kind: FrontEnd = unset("log_mel")
    """Formula of the spectrogram (docs/models.md): `log_mel`; `kaldi`, filterbanks with a Hann
    window, of encoders trained on AudioSet; `kaldi_povey`, with Kaldi's own window and 16-bit
    amplitudes, of BEATs; `panns`, decibels of 50 Hz to 14 kHz, of PANNs and CLAP; `librosa`, its
    decibels. These four need numbers for mel_mean and mel_std. `waveform`: none, the samples
    themselves, for encoders that have a front end inside."""
    num_mels: int = unset(64)
    """Mel bins, >= 1; every mel filter must cover a frequency of the spectrum, or the run does not
    start."""
    n_fft: int = unset(512)
    """Window length of the Fourier transform, samples."""
    hop_length: int = unset(256)
    """Hop between columns of the spectrogram, samples."""
    mel_mean: float | Literal["measured"] = unset("measured")
    """Mean of the dataset's log-mels (natural logarithm of power), subtracted. `measured`: the mean
    of the train split, which preparation writes to dataset.json; -0.3 where it is missing."""
    mel_std: float | Literal["measured"] = unset("measured")
    """Standard deviation of the dataset's log-mels, > 0, by which they are divided. `measured`: as
    mel_mean; 3.7 where it is missing."""
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
        validate(self.num_mels >= 1, "frontend.num_mels", "must be >= 1", self.num_mels)
        validate(self.n_fft >= 16, "frontend.n_fft", "must be >= 16", self.n_fft)
        validate(1 <= self.hop_length <= self.n_fft, "frontend.hop_length",
                 f"must be in [1, frontend.n_fft (={self.n_fft})]", self.hop_length)  # fmt: skip
        validate(self.mel_std == "measured" or self.mel_std > 0, "frontend.mel_std",
                 "must be > 0, or measured", self.mel_std)  # fmt: skip
        validate_numbers(self, "frontend.")

    @property
    def drawn(self) -> "FrontendConfig":
        """As audio is drawn: of waveforms, log-mels are."""
        return replace(self, kind="log_mel") if self.kind == "waveform" else self

    @property
    def padding(self) -> int:
        """Samples added before and after the waveform: column k of `panns` and `librosa` is
        centred on sample k * hop_length."""
        return self.n_fft // 2 if self.kind in ("panns", "librosa") else 0

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
