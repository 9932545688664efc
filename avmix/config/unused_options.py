"""Detection of options that are set but have no effect because another option disables them.

One table says what each such option needs. An option that is set to something else than its default
while a need of it is not met is an error, never silence: whoever sets it believes that it acts.

Files of options are combined, though, and a later one may switch off what an earlier one set. Such
an option did act where it was set: `avmix.config.load_config` takes it, the run says at its start
that it is switched off, and leaves it out of its resolved configuration.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, NamedTuple, TypeVar

from avmix.config.augment_config import AugmentConfig
from avmix.config.clip_config import ClipConfig
from avmix.config.frontend_config import NO_MELS, FrontendConfig
from avmix.config.mix_method import MixMethod, parse_mix_method
from avmix.config.model_config import AudioEncoderConfig, VideoEncoderConfig

C = TypeVar("C")


class Need(NamedTuple):
    """Condition without which an option has no effect."""

    says: str
    """The other option and the value it must have, for the message."""
    met: Callable[[Any], bool]
    """Condition on the section of the other option."""
    section: str = ""
    """That section, where it is not the one of the option that has the need."""


def _over(key: str, says: str = "> 0", least: float = 0.0) -> Need:
    """`key` above `least`."""
    name = key.rpartition(".")[2]
    return Need(f"{key} {says}", lambda part: getattr(part, name) > least)


def _is(key: str, value: str) -> Need:
    name = key.rpartition(".")[2]
    return Need(f"{key} {value}", lambda part: getattr(part, name) == value)


def _encoder(modality: str, says: str, fits: Callable[[str], bool]) -> Need:
    """The encoder is of a library such that `fits`; avmix's own go by their whole names."""

    def met(part: Any) -> bool:
        library = part.encoder.partition(":")[0]
        return fits(part.encoder if library == "avmix" else library)

    return Need(f"model.{modality}.encoder {says}", met)


def _some(says: str, fits: Callable[[Any, MixMethod], bool]) -> Need:
    """One of the ways of mixing is such that `fits`."""

    def met(mix: Any) -> bool:
        methods = [parse_mix_method(word) for word, share in mix.mix_methods.items() if share > 0]
        return mix.probability > 0 and any(fits(mix, method) for method in methods)

    return Need(says, met)


_CLIPS = Need("clips (an empty data.features)", lambda data: data.features == "", "data")
_TABLE = Need("data.table", lambda data: data.table != "")
_BATCHES_CHANGE = Need(
    "a mix.method that mixes or drops (not none)",
    lambda mix: any(word != "none" and share > 0 for word, share in mix.mix_methods.items()),
)
_HAPPENS = _over("mix.probability")
_MIXES = _some("a mix.method that mixes (mixup)", lambda _, r: r.method != "none")
_PAIRS = _some(
    "a mix.method that mixes with a partner (mixup)",
    lambda mix, r: r.method != "none" and (r.method != "cross" or mix.cross_with == "partner"),
)
_MIXES_INPUT_AUDIO = _some(
    "a mix.method that mixes audio at input level (mixup)",
    lambda _, r: r.level == "input" and r.method not in ("none", "video"),
)
_LAYER = _some("a mix.method at @layer (mixup@layer)", lambda _, r: r.level == "layer")
_BY_SHARE = _some("a mix.method by_share", lambda _, r: r.method == "by_share")
_CUTS_AUDIO = _some(
    "a mix.method that cuts audio (cutmix_temporal, cutmix_frequency)",
    lambda _, r: r.method in ("cutmix_temporal", "cutmix_frequency"),
)
_ENERGY = _some("mix.method energy", lambda _, r: r.method == "energy")
_CROSS = _some("mix.method cross", lambda _, r: r.method == "cross")
_DROPOUT = _some("a mix.method with +dropout (mixup+dropout)", lambda _, r: r.dropout)
_MIXES_WAVEFORMS = Need(
    "mix.audio_domain waveform: spectrograms have no polarity",
    lambda mix: mix.audio_domain == "waveform",
    "mix",
)
_SPECTROGRAM = Need(
    "another frontend.kind than waveform, which has no spectrogram",
    lambda frontend: frontend.kind != "waveform",
)
_FILTERS = Need(
    "another frontend.kind than linear or scipy, which have no mel filters",
    lambda frontend: frontend.kind not in NO_MELS,
)
_LOGARITHMIC = Need(
    "frontend.kind log_mel or linear", lambda frontend: frontend.kind in ("log_mel", "linear")
)
_SEES = Need("model.modalities both or video", lambda m: m.modalities != "audio", "model")
_HEARS = Need("model.modalities both or audio", lambda m: m.modalities != "video", "model")
_RESIZED, _RANDAUGMENT = _is("augment.crop", "resized"), _is("augment.policy", "randaugment")

_WIDTHS = ("avmix:r2plus1d", "avmix:cnn")
"""Encoders that have `channels` in place of `options`."""
_OWN, _OTHER = "avmix:r2plus1d or avmix:cnn", "other than avmix:r2plus1d and avmix:cnn"
_IMAGES = ("torchvision", "timm", "avmix:cav_mae")
_LATE = Need(
    "an empty model.joint.encoder, which is in place of both",
    lambda model: model.joint.encoder == "",
    "model",
)
_JOINT = Need("model.joint.encoder", lambda part: part.encoder != "")


def _of_encoder(section: str) -> dict[str, tuple[Need, ...]]:
    """The needs of the options of model.video, model.audio or model.joint."""
    key, says = f"model.{section}", "a file or a name"
    used = _JOINT if section == "joint" else _LATE
    weights = Need(f"{key}.weights {says}", lambda part: part.weights != "")
    learns = Need(f"{key}.frozen false", lambda part: not part.frozen)
    there = {"video": (_SEES,), "audio": (_HEARS,), "joint": ()}[section]
    found = {
        f"{key}.options": (used,),
        f"{key}.frozen": (used,),
        f"{key}.frozen_norm": (used, learns),
        f"{key}.weights": (used,),
        f"{key}.may_lack": (used, weights),
        f"{key}.lr_scale": (used, learns),
        f"{key}.layer_decay": (used, learns),
        f"{key}.gradient_checkpointing": (used, learns),
    }
    if section != "joint":
        found |= {
            f"{key}.encoder": (_LATE,),
            f"{key}.channels": (_LATE, _encoder(section, _OWN, lambda name: name in _WIDTHS)),
            f"{key}.options": (_LATE, _encoder(section, _OTHER, lambda name: name not in _WIDTHS)),
        }
    return {name: (*there, *rest) for name, rest in found.items()}


_OF_AUDIO = ("binding", "gain_db", "filter", "reverb", "noise", "background", "time_masks",
             "mel_masks")  # fmt: skip
_OF_VIDEO = ("crop", "flip", "brightness", "contrast", "saturation", "hue", "policy", "erase")
"""Options of augmentation that change one modality only."""


_OF_CLIPS = (
    *(f"data.{name}" for name in ("root", "manifest", "table", "extra", "num_workers",
                                  "clip_seconds", "max_bad_share")),
    *(f"{section}.{f.name}"
      for section, kind in (("clip", ClipConfig), ("augment", AugmentConfig),
                            ("frontend", FrontendConfig), ("model.video", VideoEncoderConfig),
                            ("model.audio", AudioEncoderConfig))
      for f in fields(kind)),
    "model.sync_norm",
    "run.check_input",
)  # fmt: skip
"""Options of files, of what is read from them, and of encoders: kept features have neither."""

_OTHER_NEEDS: dict[str, tuple[Need, ...]] = {
    "data.table_label": (_TABLE,),
    "data.table_split": (_TABLE,),
    "data.table_source": (_TABLE,),
    "data.holdout_seed": (_over("data.holdout"),),
    "data.shots_seed": (_over("data.shots"),),
    "data.shots_by": (_over("data.shots"),),
    **{f"augment.{name}": (_HEARS,) for name in _OF_AUDIO},
    **{f"augment.{name}": (_SEES,) for name in _OF_VIDEO},
    "augment.speed_keeps_pitch": (_over("augment.speed", "> 1", 1.0),),
    "augment.jitter_seconds": (_is("augment.binding", "window"),),
    "augment.min_area": (_RESIZED,),
    "augment.max_aspect": (_RESIZED,),
    "augment.scales": (_is("augment.crop", "multiscale"),),
    "augment.never_flip": (_over("augment.flip"),),
    "augment.policy_ops": (_RANDAUGMENT,),
    "augment.policy_probability": (_RANDAUGMENT,),
    "augment.policy_strength": (_RANDAUGMENT,),
    "augment.invert": (_HEARS, _MIXES_WAVEFORMS),
    "augment.noise_snr_db": (_over("augment.noise"),),
    "augment.background_snr_db": (_over("augment.background"),),
    "augment.background_label": (_over("augment.background"),),
    "augment.time_mask_seconds": (_over("augment.time_masks"),),
    "augment.mel_mask_share": (_over("augment.mel_masks"),),
    **{
        f"frontend.{key}": (_SPECTROGRAM,) for key in ("n_fft", "hop_length", "mel_mean", "mel_std")
    },
    "frontend.num_mels": (_SPECTROGRAM, _FILTERS),
    **{
        f"frontend.{key}": (_LOGARITHMIC,)
        for key in ("window_length", "exponent", "log_offset", "centred")
    },
    "mix.method": (Need("an empty mix.switch, in place of it", lambda mix: not mix.switch),),
    "mix.probability": (_BATCHES_CHANGE,),
    "mix.ramp_epochs": (_BATCHES_CHANGE, _HAPPENS),
    "mix.off_epochs": (_BATCHES_CHANGE, _HAPPENS),
    "mix.law": (_MIXES,),
    "mix.alpha": (_is("mix.law", "beta"), _MIXES),
    "mix.lam": (_is("mix.law", "fixed"), _MIXES),
    "mix.dominant": (_MIXES,),
    "mix.per": (_MIXES,),
    "mix.pairing": (_PAIRS,),
    "mix.neighbours": (_is("mix.pairing", "nearest"), _PAIRS),
    "mix.partners": (_PAIRS,),
    "mix.share_power": (_BY_SHARE,),
    "mix.audio_domain": (_HEARS, _MIXES_INPUT_AUDIO),
    "mix.layers": (_LAYER,),
    "mix.energy_limit_db": (_ENERGY,),
    "mix.drop_video": (_DROPOUT,),
    "mix.drop_audio": (_DROPOUT,),
    "mix.cross_with": (_CROSS,),
    "mix.cross_path": (_CROSS,),
    "mix.labels": (_MIXES,),
    "mix.audio_label": (_HEARS, _CUTS_AUDIO),
    "model.missing": (
        Need(
            "a model.fusion other than weighted (whose missing modality leaves its weight to the "
            "other)",
            lambda model: model.fusion != "weighted",
        ),
    ),
    "model.heads": (
        Need(
            "a model.fusion that joins features (average, weighted and product combine the "
            "modality heads)",
            lambda model: model.fusion not in ("average", "weighted", "product"),
        ),
    ),
    **_of_encoder("video"),
    "model.video.pooling": (
        _LATE,
        _SEES,
        _encoder("video", "of torchvision or timm, or avmix:cav_mae", lambda name: name in _IMAGES),
    ),
    **_of_encoder("audio"),
    **_of_encoder("joint"),
    "optim.momentum": (_is("optim.name", "sgd"),),
    "optim.nesterov": (_is("optim.name", "sgd"), _over("optim.momentum")),
    "optim.milestones": (_is("optim.schedule", "step"),),
    "optim.gamma": (_is("optim.schedule", "step"),),
    "optim.decay_share": (_is("optim.schedule", "wsd"),),
    "optim.no_decay": (_over("optim.weight_decay"),),
    "loss.set_weights": (
        Need("loss.labels auto or sets", lambda loss: loss.labels in ("auto", "sets")),
    ),
    "loss.video": (_SEES,),
    "loss.audio": (_HEARS,),
    "loss.translation": (
        Need("model.missing translate", lambda model: model.missing == "translate", "model"),
    ),
    "loss.agreement_kind": (_over("loss.agreement"),),
    "loss.agreement_temperature": (_over("loss.agreement"),),
    "loss.agreement_confidence": (_over("loss.agreement"),),
    "loss.contrastive_temperature": (_over("loss.contrastive"),),
    **{
        f"balance.{name}": (_is("balance.method", method),)
        for method, names in (
            ("ogm_ge", ("alpha", "noise")),
            ("mmpareto", ("gamma",)),
            ("opm", ("drop", "drop_rise", "drop_batches")),
            ("umt", ("video_teacher", "audio_teacher", "distill")),
            ("g_blend", ("super_epoch",)),
        )
        for name in names
    },
}

NEEDS: dict[str, tuple[Need, ...]] = {
    key: (*((_CLIPS,) if key in _OF_CLIPS else ()), *_OTHER_NEEDS.get(key, ()))
    for key in dict.fromkeys([*_OTHER_NEEDS, *_OF_CLIPS])
}
"""What an option needs, by its dotted path; options that always act are not listed."""


def unused_options(config: Any) -> dict[str, str]:
    """Messages, by dotted path, for the options of `config` that differ from their default but have
    no effect. `config` is a `TrainConfig`, or has some of its sections."""
    found: dict[str, str] = {}
    for key, needs in NEEDS.items():
        where, _, name = key.rpartition(".")
        if not hasattr(config, where.partition(".")[0]):
            continue
        part = value_at(config, where)
        if getattr(part, name) == getattr(type(part)(), name):
            continue
        if unmet := [need.says for need in needs if not _is_met(need, config, part)]:
            found[key] = f"{key} cannot act without {unmet[0]}, got {getattr(part, name)!r}"
    return found


def _is_met(need: Need, config: Any, part: Any) -> bool:
    """Whether the section of the other option says so; a section that is not there cannot tell."""
    other = getattr(config, need.section, None) if need.section else part
    return other is None or need.met(other)


def without_unused(config: C) -> C:
    """Copy of the configuration with the options of `unused_options` at their defaults: it computes
    the same."""
    changes: dict[str, dict[str, Any]] = {}
    for key in unused_options(config):
        where, _, name = key.rpartition(".")
        changes.setdefault(where, {})[name] = getattr(type(value_at(config, where))(), name)
    for where, values in changes.items():
        config = _with(config, where, replace(value_at(config, where), **values))
    return config


def value_at(config: Any, key: str) -> Any:
    """Section or option at a dotted path."""
    for name in key.split("."):
        config = getattr(config, name)
    return config


def _with(config: Any, key: str, value: Any) -> Any:
    """`config` with another section at this dotted path."""
    name, _, rest = key.partition(".")
    return replace(config, **{name: _with(getattr(config, name), rest, value) if rest else value})
