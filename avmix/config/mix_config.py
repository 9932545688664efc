"""Configuration section `mix`."""

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from avmix.config.checks import validate, validate_numbers
from avmix.config.mix_method import BLENDS, parse_mix_method

Law = Literal["beta", "uniform", "fixed"]


Per = Literal["sample", "batch"]


Pairing = Literal[
    "involution",
    "permutation",
    "roll",
    "derangement",
    "second_batch",
    "different_class",
    "same_class",
    "different_source",
    "nearest",
]


AudioDomain = Literal["log_mel", "power", "waveform"]


Labels = Literal["sum", "max"]


AudioLabel = Literal["area", "energy"]

MOST_PARTNERS = 7
"""Of a clip: seven and itself are the batch of a small run."""


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """Device stage 2: mixing of clips (avmix/mix/methods.py describes every method)."""

    method: str = "mixup"
    """METHOD[@LEVEL][+dropout]. METHOD: `mixup` (Cross-Modal Mixup, one lambda for video, audio
    and label), `independent` (a lambda for each modality), `by_share` (the modality that is ahead
    is mixed more), `video`, `audio` (one of them only),
    `cutmix_temporal`, `cutmix_spatial`, `cutmix_spatiotemporal`, `cutmix_frequency`, `energy`
    (audio by loudness), `cross` (features of video and audio with each other) or `none`. LEVEL:
    `input`, `layer` or `feature`. `+dropout`: then clips lose a modality; `dropout`: only that."""
    switch: dict[str, float] = field(default_factory=dict)
    """Several methods with their probabilities (which add up to 1) in place of `method`; one is
    drawn for every batch, the same for all processes. {mixup: 0.5, cutmix_spatial: 0.3, none:
    0.2}"""
    probability: float = 1.0
    """Share of the batches that are mixed, 0 to 1; the others have no modality dropout either."""
    ramp_epochs: int = 0
    """Number of first epochs in which the share of mixed batches rises from 0 to `probability`:
    epoch e, counted from 0, mixes probability * e / ramp_epochs of them. 0: mixed from the
    start."""
    off_epochs: int = 0
    """Number of last epochs that train on unmixed clips."""
    law: Law = "beta"
    """Distribution of lambda, the weight of a clip's own signal."""
    alpha: float = 0.2
    """Law `beta`: lambda ~ Beta(alpha, alpha), > 0; with a small alpha most lambdas are near 0 or
    1."""
    lam: float = 0.5
    """Law `fixed`: value of lambda, 0 to 1."""
    dominant: bool = False
    """Use max(lambda, 1 - lambda), so that the own label never has the smaller weight."""
    per: Per = "sample"
    """Draw one lambda (and one box) per clip, or one per batch of a process."""
    pairing: Pairing = "involution"
    """How partners are chosen. `involution`: random pairs, each the other's partner; `permutation`:
    any order, a clip may be its own partner; `roll`: the next clip of the batch; `derangement`: any
    order, never its own partner; `second_batch`: twice batch_size clips are read, and each of the
    first half gets one of the second; `different_class`, `same_class`, `different_source`: any clip
    that shares no class, a class, no source with it; `nearest`: one of the `neighbours` clips of
    other sources whose kept features are most like its own. Clips of one source are never mixed
    with each other, whatever the pairing."""
    neighbours: int = 5
    """Pairing `nearest`: number of clips of the batch among which a partner is drawn, >= 1."""
    partners: int = 1
    """Number of partners of each clip, 1 to 7. With more than one, features are mixed with weights
    ~ Dirichlet(alpha, ..., alpha), of which Beta(alpha, alpha) is the case of one partner."""
    share_power: float = 1.0
    """Method `by_share`: exponent of the ratio of what both modalities have learned, > 0."""
    audio_domain: AudioDomain = "log_mel"
    """Representation of the audio that is mixed at input level. `log_mel`: a geometric mean of
    powers. `power`: mel power, before the logarithm. `waveform`: the samples, as two recordings
    played at once."""
    layers: list[int] = field(default_factory=lambda: [0, 1, 2])
    """Level `layer`: number of encoder stages before the mix, drawn from these for every batch, the
    same for both encoders and all processes; 0 is the input of the first stage."""
    energy_limit_db: float = 20.0
    """Method `energy`: largest difference in loudness that is compensated, dB, >= 0."""
    drop_video: float = 0.1
    """`+dropout`: share of the clips whose video is removed, if they have audio."""
    drop_audio: float = 0.1
    """`+dropout`: share of the clips whose audio is removed, if they have video."""
    cross_with: Literal["own", "partner"] = "own"
    """Method `cross`: mix in the other modality's feature of the own clip, or of the partner."""
    cross_path: Literal["linear", "sphere"] = "sphere"
    """Method `cross`: interpolate along a line, or along the great circle between both
    directions."""
    labels: Labels = "sum"
    """Mixed targets. `sum`: lambda * own + (1 - lambda) * partner. `max`: the larger of both for
    each class, so that every class of either clip counts (for loss.kind binary)."""
    audio_label: AudioLabel = "area"
    """Own share of cut audio in the labels, of methods cutmix_temporal and cutmix_frequency: of the
    `area`, the seconds or mel bins; or of the `energy` in them, an experiment."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for key in self.switch or [self.method]:
            where = "mix.switch" if self.switch else "mix.method"
            try:
                mix_method = parse_mix_method(key)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
            if mix_method.method == "energy":
                validate(
                    self.audio_domain != "log_mel",
                    "mix.audio_domain",
                    f"must be power or waveform for {where} energy",
                    self.audio_domain,
                )
            if mix_method.method == "cutmix_frequency":
                validate(
                    self.audio_domain != "waveform",
                    "mix.audio_domain",
                    f"must be log_mel or power for {where} cutmix_frequency",
                    self.audio_domain,
                )
        total = sum(self.switch.values())
        validate(all(p >= 0 for p in self.switch.values()) and
                 (not self.switch or abs(total - 1) < 1e-6), "mix.switch",
                 "needs probabilities >= 0 that add up to 1", self.switch)  # fmt: skip
        for key, most in (("neighbours", inf), ("partners", MOST_PARTNERS)):
            validate(1 <= getattr(self, key) <= most, f"mix.{key}", f"must be in [1, {most}]",
                     getattr(self, key))  # fmt: skip
        validate(0 < self.share_power < inf, "mix.share_power", "must be > 0 and finite",
                 self.share_power)  # fmt: skip
        if self.partners > 1:
            validate(self.law != "fixed", "mix.law", "must be beta or uniform for mix.partners > 1,"
                     " whose weights are drawn", self.law)  # fmt: skip
            for key in self.mix_methods:
                one = parse_mix_method(key)
                validate(one.method == "none" or (one.method in BLENDS and one.level == "feature"),
                         "mix.partners", f"must be 1 for {key}: only features are mixed of several "
                         "clips (mixup@feature)", self.partners)  # fmt: skip
        validate(0 < self.alpha < inf, "mix.alpha", "must be > 0 and finite", self.alpha)
        for key in ("probability", "lam", "drop_video", "drop_audio"):
            validate(0 <= getattr(self, key) <= 1, f"mix.{key}", "must be in [0, 1]",
                     getattr(self, key))  # fmt: skip
        validate(self.drop_video <= 1 - self.drop_audio, "mix.drop_video",
                 f"must be <= 1 - mix.drop_audio (={self.drop_audio})",
                 self.drop_video)  # fmt: skip
        for key in ("ramp_epochs", "off_epochs"):
            validate(getattr(self, key) >= 0, f"mix.{key}", "must be >= 0", getattr(self, key))
        validate(bool(self.layers) and min(self.layers) >= 0, "mix.layers",
                 "needs at least one number >= 0", self.layers)  # fmt: skip
        validate(self.energy_limit_db >= 0, "mix.energy_limit_db", "must be >= 0",
                 self.energy_limit_db)  # fmt: skip
        validate_numbers(self, "mix.")

    @property
    def mix_methods(self) -> dict[str, float]:
        """Mixing methods and their probabilities."""
        return self.switch or {self.method: 1.0}

    @property
    def clips_per_mix(self) -> int:
        """Number of clips read for each mixed clip."""
        return 2 if self.pairing == "second_batch" else 1
