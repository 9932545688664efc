"""Configuration section `balance`."""

from dataclasses import dataclass
from typing import Literal

from avmix.config.checks import validate, validate_numbers

BalanceMethod = Literal["none", "ogm_ge", "mmpareto", "opm", "umt", "g_blend"]


@dataclass(frozen=True, kw_only=True)
class BalanceConfig:
    """Training rule that keeps one modality from being learned at the cost of the other."""

    method: BalanceMethod = "none"
    """`none`: the losses of the heads alone; `ogm_ge`: smaller updates of the encoder that is
    ahead; `mmpareto`: gradients of the fused and the modality loss combined; `opm`: the modality
    that is ahead is left out of some clips; `umt`: distillation from networks of one modality;
    `g_blend`: weights of the heads' losses by how they generalise (docs/balance.md)."""
    alpha: float = 0.3
    """Of ogm_ge: the change of the encoder that is ahead by the ratio rho of confidences is scaled
    by 1 - tanh(alpha * rho); > 0."""
    noise: float = 0.0
    """Of ogm_ge: normal noise on the change of each weight matrix of both encoders, in standard
    deviations of that change before it is scaled, >= 0; 1 in the original."""
    gamma: float = 1.5
    """Of mmpareto: factor of the gradient of both encoders, > 0."""
    drop: float = 0.5
    """Of opm: share of the clips that lose the modality that is hardly ahead, in (0, 1]."""
    drop_rise: float = 0.5
    """Of opm: the share rises by this part of itself where the modality is far ahead, >= 0; at most
    `drop * (1 + drop_rise)` = 1."""
    drop_batches: float = 0.7
    """Of opm: share of the batches in which clips lose a modality, in (0, 1]."""
    video_teacher: str = ""
    """Of umt: checkpoint, or folder of a run, of a network of the video alone
    (`model.modalities video`) with the same encoder."""
    audio_teacher: str = ""
    """Of umt: likewise of the audio alone."""
    distill: float = 10.0
    """Of umt: weight of the squared distance to the features of the teachers, > 0."""
    super_epoch: int = 5
    """Of g_blend: epochs after which the weights of the losses are computed again, >= 1."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for key in ("alpha", "gamma", "distill"):
            validate(getattr(self, key) > 0, f"balance.{key}", "must be > 0", getattr(self, key))
        for key in ("noise", "drop_rise"):
            validate(getattr(self, key) >= 0, f"balance.{key}", "must be >= 0", getattr(self, key))
        for key in ("drop", "drop_batches"):
            validate(0 < getattr(self, key) <= 1, f"balance.{key}", "must be in (0, 1]",
                     getattr(self, key))  # fmt: skip
        validate(self.drop * (1 + self.drop_rise) <= 1, "balance.drop_rise",
                 f"must leave balance.drop (={self.drop}) * (1 + drop_rise) <= 1",
                 self.drop_rise)  # fmt: skip
        validate(self.super_epoch >= 1, "balance.super_epoch", "must be >= 1", self.super_epoch)
        if self.method == "umt":
            for key in ("video_teacher", "audio_teacher"):
                validate(getattr(self, key) != "", f"balance.{key}",
                         "must name a checkpoint for balance.method umt",
                         getattr(self, key))  # fmt: skip
        validate_numbers(self, "balance.")
