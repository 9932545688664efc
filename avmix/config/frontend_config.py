"""Configuration section `frontend`."""

from dataclasses import dataclass, replace
from typing import Literal

from avmix.config.checks import validate, validate_numbers

FrontEnd = Literal["log_mel", "kaldi"]


@dataclass(frozen=True, kw_only=True)
class FrontendConfig:
    """Device stage 1: normalises frames and computes log-mels."""

    kind: FrontEnd = "log_mel"
    """`log_mel`, or `kaldi`: Kaldi filterbanks with a Hann window, which encoders trained on
    AudioSet expect. `kaldi` needs numbers for mel_mean and mel_std, a n_fft of 25 ms and a
    hop_length of 10 ms: 400 and 160 at 16 kHz."""
    num_mels: int = 64
    """Mel bins, >= 1; every mel filter must cover a frequency of the spectrum, or the run does not
    start."""
    n_fft: int = 512
    """Window length of the Fourier transform, samples."""
    hop_length: int = 256
    """Hop between columns of the spectrogram, samples."""
    mel_mean: float | Literal["measured"] = "measured"
    """Mean of the dataset's log-mels (natural logarithm of power), subtracted. `measured`: the mean
    of the train split, which preparation writes to dataset.json; -0.3 where it is missing."""
    mel_std: float | Literal["measured"] = "measured"
    """Standard deviation of the dataset's log-mels, > 0, by which they are divided. `measured`: as
    mel_mean; 3.7 where it is missing."""
    kernel: Literal["auto", "torch", "fused", "triton"] = "auto"
    """Implementation that normalises and mixes frames: plain `torch` operations, the `fused` path
    for CPUs, or `triton` for CUDA; `auto`: fused or triton, by the device. They differ by rounding
    only."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for key in ("mel_mean", "mel_std"):
            validate(self.kind == "log_mel" or getattr(self, key) != "measured", f"frontend.{key}",
                     "must be a number for frontend.kind kaldi: what is measured is of log-mels",
                     getattr(self, key))  # fmt: skip
        validate(self.num_mels >= 1, "frontend.num_mels", "must be >= 1", self.num_mels)
        validate(self.n_fft >= 16, "frontend.n_fft", "must be >= 16", self.n_fft)
        validate(1 <= self.hop_length <= self.n_fft, "frontend.hop_length",
                 f"must be in [1, frontend.n_fft (={self.n_fft})]", self.hop_length)  # fmt: skip
        validate(self.mel_std == "measured" or self.mel_std > 0, "frontend.mel_std",
                 "must be > 0, or measured", self.mel_std)  # fmt: skip
        validate_numbers(self, "frontend.")

    def with_log_mel(self, mean: float, std: float) -> "FrontendConfig":
        """Copy with these numbers in place of `measured`."""
        return replace(
            self,
            mel_mean=mean if self.mel_mean == "measured" else self.mel_mean,
            mel_std=std if self.mel_std == "measured" else self.mel_std,
        )


MEL_MEAN, MEL_STD = -0.3, 3.7
"""Mean and deviation of log-mels where nothing was measured."""
