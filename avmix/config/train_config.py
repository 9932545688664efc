"""Training configuration: all sections, and the checks that concern several of them."""

from dataclasses import dataclass, field

from avmix.config.augment_config import AugmentConfig
from avmix.config.balance_config import BalanceConfig
from avmix.config.checks import validate
from avmix.config.clip_config import ClipConfig
from avmix.config.data_config import DataConfig
from avmix.config.frontend_config import FrontendConfig
from avmix.config.loss_config import LossConfig
from avmix.config.mix_config import MixConfig
from avmix.config.mix_method import MixMethod, parse_mix_method
from avmix.config.model_config import ModelConfig
from avmix.config.optim_config import OptimConfig
from avmix.config.run_config import RunConfig

SCORE_FUSIONS = ("average", "weighted", "product")
"""Values of `model.fusion` that combine what the modality heads say."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train a late-fusion network on synchronized clips."""

    data: DataConfig = field(default_factory=DataConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    frontend: FrontendConfig = field(default_factory=FrontendConfig)
    mix: MixConfig = field(default_factory=MixConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    balance: BalanceConfig = field(default_factory=BalanceConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        """Check what concerns two sections."""
        methods = [parse_mix_method(word) for word in self.mix.mix_methods]
        for word, m in zip(self.mix.mix_methods, methods, strict=True):
            validate(not self.data.features or m.level == "feature" or m.method == "none",
                     "mix.switch" if self.mix.switch else "mix.method",
                     "must mix @feature for data.features, which are neither frames nor "
                     "spectrograms (mixup@feature, cross, dropout, none)", word)  # fmt: skip
        if any(m.method == "cross" for m in methods):
            validate(self.model.shared_width > 0, "model.shared_width",
                     "must be > 0 for mixing method cross", self.model.shared_width)  # fmt: skip
        self._check_modalities(methods)
        self._check_knowing_mixes(methods)
        if self.loss.contrastive > 0:
            validate(self.model.shared_width > 0, "model.shared_width",
                     "must be > 0 for loss.contrastive", self.model.shared_width)  # fmt: skip
        validate(not self.loss.binary or self.model.fusion != "weighted", "model.fusion",
                 "weighted averages distributions over classes: must be another (average, product) "
                 "for loss.kind binary or several labels a clip", self.model.fusion)  # fmt: skip
        validate(self.loss.labels != "sets" or self.model.fusion != "weighted", "model.fusion",
                 "weighted is fitted to one set of classes: must be another (average, product) for "
                 "label sets", self.model.fusion)  # fmt: skip
        validate(not (self.loss.binary or self.loss.labels == "sets") or not self.model.guard,
                 "model.guard", "compares distributions over classes: must be false for loss.kind "
                 "binary, several labels a clip or label sets", self.model.guard)  # fmt: skip
        if self.mix.labels == "max":
            validate(self.loss.binary, "mix.labels",
                     f"must be sum for loss.kind {self.loss.kind} (of several labels a clip: "
                     "--loss.labels multi)", self.mix.labels)  # fmt: skip
            validate(self.loss.interpolation == 0, "loss.interpolation", "mixes predictions by "
                     "lambda, which mix.labels max does not do with labels: must be 0",
                     self.loss.interpolation)  # fmt: skip
        unmixed = self.mix.ramp_epochs + self.mix.off_epochs
        validate(unmixed <= self.optim.epochs, "mix.ramp_epochs + mix.off_epochs",
                 f"must be <= optim.epochs (={self.optim.epochs}; for a short run "
                 "--mix.ramp_epochs 0)", unmixed)  # fmt: skip
        recomputes = [f"model.{name}.gradient_checkpointing"
                      for name, part in self.model.encoders.items()
                      if part.gradient_checkpointing]  # fmt: skip
        validate(not (self.run.compile and recomputes), "run.compile",
                 f"does not go with {' and '.join(recomputes)}, which torch.compile cannot trace",
                 self.run.compile)  # fmt: skip
        for key in ("min_seconds", "hide_seconds"):
            validate(getattr(self.augment, key) <= self.clip.duration_seconds, f"augment.{key}",
                     f"must be <= clip.duration_seconds (={self.clip.duration_seconds})",
                     getattr(self.augment, key))  # fmt: skip
        validate(self.optim.batch_size % self.augment.repeats == 0, "augment.repeats",
                 f"must divide optim.batch_size (={self.optim.batch_size})",
                 self.augment.repeats)  # fmt: skip
        mixes = set(self.mix.mix_methods) - {"none", "dropout"}
        per_mix = self.optim.batch_size * self.mix.clips_per_mix
        validate(self.augment.repeats < per_mix or not mixes, "augment.repeats",
                 f"must be < optim.batch_size (={self.optim.batch_size}) where clips are mixed: "
                 "windows of one file never are", self.augment.repeats)  # fmt: skip
        validate(self.augment.repeats == 1 or self.mix.pairing != "roll", "mix.pairing",
                 f"must not be roll with augment.repeats (={self.augment.repeats}): the next clip "
                 "is another window of the same file, and those are never mixed",
                 self.mix.pairing)  # fmt: skip
        if self.model.joint.encoder:
            late = [
                word
                for word in self.mix.mix_methods
                if parse_mix_method(word).dropout and parse_mix_method(word).level != "input"
            ]
            validate(not late, "mix.method", "must not leave a modality out after its input "
                     f"(+dropout at @layer or @feature) with model.joint.encoder "
                     f"{self.model.joint.encoder}: the other one has seen it", late)  # fmt: skip
        if self.balance.method != "none":
            self._check_balance(methods)
        if self.frontend.kind == "waveform":
            self._check_waveform(methods)
        mixes = any(m.level == "input" and m.method not in ("none", "video") for m in methods)
        validate(self.frontend.exponent == 2 or not mixes or self.mix.audio_domain != "power",
                 "mix.audio_domain", "must not be power for frontend.exponent 1: there are "
                 "magnitudes to mix, not power", self.mix.audio_domain)  # fmt: skip
        columns = round(self.clip.duration_seconds * self.clip.sample_rate) - self.frontend.n_fft
        validate(columns >= 0 or self.frontend.kind == "waveform", "clip.duration_seconds",
                 f"must hold one spectrum of frontend.n_fft (={self.frontend.n_fft}) samples",
                 self.clip.duration_seconds)  # fmt: skip

    def _check_knowing_mixes(self, methods: list[MixMethod]) -> None:
        """Raise ValueError for mixing by features or scores that are not there, and for losses of
        pairs where a clip has several partners."""
        validate(self.model.missing != "translate" or not self.model.joint.encoder, "model.missing",
                 "must not be translate with model.joint.encoder: a feature that has seen the "
                 "other modality predicts what is in it", self.model.missing)  # fmt: skip
        mix, loss, own = self.mix, self.loss, self.model.heads == "own"
        validate(mix.pairing != "nearest" or self.data.features != "", "mix.pairing",
                 "must not be nearest without data.features: what clips are alike must be known "
                 "before the network runs", mix.pairing)  # fmt: skip
        if any(m.method == "by_share" for m in methods):
            validate(self.model.modalities == "both", "mix.method", "must not be by_share for "
                     f"model.modalities {self.model.modalities}: nothing is ahead",
                     mix.method)  # fmt: skip
            heads_learn = min(loss.video, loss.audio) > 0 or not own
            validate(heads_learn or self.model.fusion in SCORE_FUSIONS, "loss.video and loss.audio",
                     "must be > 0 for mix.method by_share: it goes by the modality heads, which "
                     "would learn nothing (or model.heads shared)",
                     min(loss.video, loss.audio))  # fmt: skip
        if mix.partners > 1:
            for key in ("agreement", "interpolation", "contrastive"):
                validate(getattr(loss, key) == 0, f"loss.{key}", "is a loss of pairs: must be 0 "
                         f"for mix.partners (={mix.partners}) > 1", getattr(loss, key))  # fmt: skip

    def _check_balance(self, methods: list[MixMethod]) -> None:
        """Raise ValueError for what a method of balancing cannot work with."""
        method, loss, joint = self.balance.method, self.loss, self.model.joint.encoder
        validate(self.model.modalities == "both", "balance.method",
                 f"needs two modalities: must be none for model.modalities "
                 f"{self.model.modalities}", method)  # fmt: skip
        validate(not joint or method not in ("ogm_ge", "mmpareto", "umt"), "balance.method",
                 f"acts on an encoder of one modality, and model.joint.encoder {joint} is of both",
                 method)  # fmt: skip
        late = any(m.level != "input" for m in methods)
        validate(not joint or method != "opm" or not late, "balance.method",
                 f"must not be opm with mixing at @layer or @feature and model.joint.encoder "
                 f"{joint}: the other modality has seen what is left out", method)  # fmt: skip
        own = self.model.heads == "own" and self.model.fusion not in SCORE_FUSIONS
        least = min(loss.video, loss.audio)
        validate(method not in ("ogm_ge", "opm") or not own or least > 0,
                 "loss.video and loss.audio",
                 f"must be > 0 for balance.method {method}: it goes by the modality heads, which "
                 "would learn nothing (or model.heads shared)", least)  # fmt: skip
        validate(method not in ("mmpareto", "g_blend") or min(loss.fused, least) > 0,
                 "loss.fused, loss.video and loss.audio",
                 f"must be > 0 for balance.method {method}",
                 min(loss.fused, least))  # fmt: skip
        validate(method != "mmpareto" or not self.run.compile, "run.compile",
                 "must be false for balance.method mmpareto, which runs backward twice",
                 self.run.compile)  # fmt: skip
        if method == "g_blend":
            why = "must be {} for balance.method g_blend, which compares losses of two splits"
            validate(loss.label_smoothing == 0, "loss.label_smoothing", why.format(0),
                     loss.label_smoothing)  # fmt: skip
            validate(loss.class_weights == "", "loss.class_weights", why.format("empty"),
                     loss.class_weights)  # fmt: skip
            validate(not loss.multi_hot and loss.kind == "cross_entropy", "balance.method",
                     "must not be g_blend for several labels, label sets or loss.kind binary: "
                     "their validation has no mean loss of the same kind", method)  # fmt: skip

    def _check_waveform(self, methods: list[MixMethod]) -> None:
        """Raise ValueError for what is done to spectrograms, where there is none."""
        why = "frontend.kind waveform: there is no spectrogram"
        mixes = any(m.level == "input" and m.method not in ("none", "video") for m in methods)
        validate(self.mix.audio_domain == "waveform" or not mixes, "mix.audio_domain",
                 f"must be waveform for {why} to mix", self.mix.audio_domain)  # fmt: skip
        for key in ("time_masks", "mel_masks", "hide_seconds"):
            validate(getattr(self.augment, key) == 0, f"augment.{key}",
                     f"must be 0 for {why}, of which columns or mel bins could be hidden",
                     getattr(self.augment, key))  # fmt: skip

    def _check_modalities(self, methods: list[MixMethod]) -> None:
        """Raise ValueError for what a network of one modality cannot do."""
        one = self.model.modalities
        if one == "both":
            return
        said = f"for model.modalities {one}"
        other = {"video": ("audio", "energy", "cutmix_frequency"),
                 "audio": ("video", "cutmix_spatial", "cutmix_spatiotemporal")}[one]  # fmt: skip
        for word, m in zip(self.mix.mix_methods, methods, strict=True):
            validate(m.method not in (*other, "cross") and not m.dropout, "mix.method",
                     f"must not mix or drop the other modality {said}", word)  # fmt: skip
        for key in ("agreement", "contrastive"):
            validate(getattr(self.loss, key) == 0, f"loss.{key}",
                     f"compares both modalities: must be 0 {said}",
                     getattr(self.loss, key))  # fmt: skip
        validate(self.loss.fused + getattr(self.loss, one) > 0, f"loss.{one}",
                 f"must be > 0 {said} where loss.fused is 0",
                 getattr(self.loss, one))  # fmt: skip
