"""Every option of avmix: one frozen dataclass a section, named after the module that reads it.

The default and the documentation of an option live here and nowhere else. `load_config` reads YAML
files and `--dotted.overrides`; nothing else in avmix knows the library that does it.
"""

import difflib
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from functools import cache
from math import inf, isfinite
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import yaml
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from avmix.idle import idle_options, value_at
from avmix.paths import home, with_home
from avmix.recipe import parse_recipe

set_parsing_settings(docstring_parse_attribute_docstrings=True)

C = TypeVar("C")


def _require(ok: bool, key: str, rule: str, value: object) -> None:
    if not ok:
        raise ValueError(f"{key} {rule}, got {value!r}")


LARGEST: dict[str, int] = {
    "data.num_workers": 1024,
    "clip.num_frames": 10_000,
    "clip.sample_rate": 768_000,
    "clip.short_side": 8192,
    "clip.crop": 4096,
    "augment.repeats": 1024,
    "augment.scales": 16,
    "augment.policy_ops": 100,
    "augment.gain_db": 120,
    "augment.noise_snr_db": 200,
    "augment.background_snr_db": 200,
    "augment.time_masks": 1000,
    "augment.mel_masks": 1000,
    "frontend.num_mels": 4096,
    "frontend.n_fft": 2**20,
    "model.shared_width": 2**16,
    "model.video.channels": 2**16,
    "model.video.lr_scale": 1000,
    "model.audio.channels": 2**16,
    "model.audio.lr_scale": 1000,
    "optim.batch_size": 2**16,
    "run.threads": 1024,
    "num_workers": 1024,
    "batch_size": 2**16,
    "num_views": 10_000,
    "threads": 1024,
}
"""Far beyond what anybody wants, by path: more ends in memory that no machine has, in numbers that
overflow, or in processes that a machine hangs on. Signed ones are as far below 0 at most."""


def _require_numbers(section: Any, prefix: str) -> None:
    """No number of any option is nan or infinite (comparisons let some of them through), or beyond
    `LARGEST`."""
    for f in fields(section):
        key, value = prefix + f.name, getattr(section, f.name)
        inner = value.values() if isinstance(value, dict) else value
        found = inner if isinstance(value, (dict, list)) else [value]
        numbers = [x for x in found if isinstance(x, (int, float))]
        fine = all(isfinite(x) for x in numbers if isinstance(x, float))
        _require(fine, key, "must be finite", value)
        if (most := LARGEST.get(key)) is not None:
            _require(all(abs(x) <= most for x in numbers), key, f"must be <= {most}", value)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the clips are, and how they are read."""

    root: str = "."
    """Folder that the paths in the manifest are relative to."""
    manifest: str = ""
    """Folder with dataset.json; empty: `root`."""
    table: str = ""
    """CSV (divided by `,`, `;`, `|` or tabs) below `root` with one row a clip (columns `path`, and
    those named by the next three options). When the manifest folder has no dataset.json yet, the
    clips are probed and the manifest is written there first. Empty: the manifest must exist."""
    table_label: str = "label"
    """Column of the class name."""
    table_split: str = "split"
    """Column that says train, val or test (or training, validation, dev and so on, in any case);
    rows with any other word there are left out."""
    table_source: list[str] = field(default_factory=lambda: ["source"])
    """Columns that together name the source of a clip: no source may be in two splits."""
    train_split: str = "train"
    """Split to train on."""
    shots: int = 0
    """Few-shot: at most so many clips of each class of the train split; 0: all of them."""
    shots_seed: int = 0
    """Of the choice of those clips, in [0, 2**32); `run.seed` has no part in it."""
    extra: list[str] = field(default_factory=list)
    """Further folders with dataset.json whose train split is trained on besides, all of it; paths
    in it are relative to its folder. What `avmix synth` writes."""
    val_split: str = "val"
    """Split to evaluate after each epoch; empty: never. A data set without `val` is trained on
    without, and the run says so; any other name must be a split of it."""
    num_workers: int = 1
    """Loader processes; 0 decodes in the training process, without protection from files that
    crash or hang the decoder."""
    clip_seconds: float = 60.0
    """Longest time for reading one clip (in evaluation: all its windows in a batch), above 0, at
    most a day. A loader process that takes longer is ended and the clip is noted in
    quarantine.jsonl in `run.out`, as is one that crashes the decoder: neither is read again. It is
    noted when that has happened twice in a new process that reads nothing else, and never where the
    process was killed from outside, was stopped, or waited for a disk or a processor."""
    verify: Literal["first", "never"] = "first"
    """`first`: before a loader process reads a file for the first time it compares the file's hash
    with the manifest's. Damage that a codec cannot notice by itself (VP8 and VP9 have no checks) is
    found only so. Clips without a hash in the manifest are not compared."""
    max_bad_share: float = 0.01
    """Share (0 to 1) of the clips to prepare or to train on that may be unreadable before the run
    stops. In val they are named, and missing from its metrics."""

    def __post_init__(self) -> None:
        """Check ranges."""
        _require(self.num_workers >= 0, "data.num_workers", "must be >= 0", self.num_workers)
        _require(0 < self.clip_seconds <= 86_400, "data.clip_seconds", "must be in (0, 86400]",
                 self.clip_seconds)  # fmt: skip
        _require(0 <= self.max_bad_share <= 1, "data.max_bad_share", "must be in [0, 1]",
                 self.max_bad_share)  # fmt: skip
        _require(self.shots >= 0, "data.shots", "must be >= 0", self.shots)
        _require(0 <= self.shots_seed < 2**32, "data.shots_seed", "must be in [0, 2**32)",
                 self.shots_seed)  # fmt: skip
        _require(bool(self.table_source), "data.table_source", "needs a column", self.table_source)
        _require_numbers(self, "data.")

    @property
    def manifest_folder(self) -> Path:
        """The folder that has dataset.json."""
        return Path(self.manifest or self.root)


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """The window that is decoded from each file: the same seconds of picture and sound."""

    duration_seconds: float = 2.0
    """Length of the window, above 0, below an hour. A shorter file is padded: its last picture is
    held, its sound followed by silence."""
    num_frames: int = 8
    """Pictures per window, evenly spaced, each in the middle of its share; >= 1."""
    sample_rate: int = 16_000
    """Of the waveform, samples / second."""
    stereo: bool = False
    """Keep two channels of sound; the audio encoder sees two spectrograms. A mono file gives the
    same twice."""
    short_side: int = 72
    """The decoder scales the shorter side of the picture to this many pixels, >= crop."""
    crop: int = 64
    """Height and width of the square picture that the network sees, pixels."""

    @property
    def audio_channels(self) -> Literal[1, 2]:
        """Channels of sound of a clip."""
        return 2 if self.stereo else 1

    def __post_init__(self) -> None:
        """Check ranges."""
        _require(0 < self.duration_seconds < 3600, "clip.duration_seconds", "must be in (0, 3600)",
                 self.duration_seconds)  # fmt: skip
        _require(self.num_frames >= 1, "clip.num_frames", "must be >= 1", self.num_frames)
        _require(self.sample_rate >= 1000, "clip.sample_rate", "must be >= 1000", self.sample_rate)
        _require(self.crop >= 8, "clip.crop", "must be >= 8", self.crop)
        _require(self.short_side >= self.crop, "clip.short_side",
                 f"must be >= clip.crop (={self.crop})", self.short_side)  # fmt: skip
        _require_numbers(self, "clip.")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Training augmentation, drawn once per clip and applied to all its pictures and to its sound
    (docs/augment.md; presets are in configs/augment)."""

    window: Literal["random", "uniform", "event"] = "random"
    """Which seconds of a clip are read. `random`: every start equally likely. `uniform`: the
    windows that tile the clip, each once in as many visits as there are, in random order. `event`:
    around an instant that events.jsonl beside the manifest names (`avmix events` writes it), which
    lies anywhere in the middle half of the window; clips for which it names none as `random`."""
    repeats: int = 1
    """Repeated augmentation: windows of one file that a step trains on, read from one open file,
    >= 1, a divisor of optim.batch_size. An epoch has so many times more steps."""
    min_seconds: float = 0.0
    """Shortest part of the window that is shown, in whole shares of a picture; after it the last
    picture is held and there is silence, as in a file that ends there. 0: always all of it."""
    speed: float = 1.0
    """Pictures and sound are played faster or slower by one factor, drawn from [1 / speed, speed]
    with a uniform logarithm; >= 1, at most 4. 1: never."""
    speed_keeps_pitch: bool = False
    """True: audio that is played faster or slower keeps its pitch; else it is a tape's. Attacks
    that rise within 2 ms keep their place to 1 ms at speeds from 0.8 to 1.25; docs/augment.md says
    what may move, and how far."""
    reverse: float = 0.0
    """Probability that pictures and sound run backwards, 0 to 1."""
    hide_seconds: float = 0.0
    """Longest interval that is hidden from the network, in pictures and spectrogram alike; its
    length is drawn from [0, hide_seconds], seconds. 0: none. Of a mix at input level it is hidden
    of both clips; at @layer and @feature each clip is hidden in its own input."""
    binding: Literal["sync", "window"] = "sync"
    """`sync`: sound is of the same seconds as the pictures. `window`: a stated departure, for
    methods that bind modalities within a window only: it is up to jitter_seconds early or late."""
    jitter_seconds: float = 0.0
    """Binding `window`: largest time between a picture and its sound, seconds, > 0."""
    crop: Literal["resized", "multiscale", "centre"] = "resized"
    """`resized`: a rectangle of random area and shape. `multiscale`: the picture is scaled to a
    random size, and a square of clip.crop pixels is cut out of it. `centre`: the largest central
    square, as in evaluation."""
    min_area: float = 0.5
    """Crop `resized`: smallest share of the picture's area, in (0, 1]. Where no such rectangle
    fits, it is the largest one with an allowed ratio."""
    max_aspect: float = 1.33
    """Crop `resized`: largest ratio of its sides, >= 1."""
    scales: list[float] = field(default_factory=lambda: [1.14, 1.43])
    """Crop `multiscale`: smallest and largest short side of the scaled picture, in units of
    clip.crop, >= 1. clip.short_side should not be below the largest."""
    flip: float = 0.5
    """Probability of a horizontal flip, 0 to 1. The channels of stereo sound change places."""
    never_flip: list[str] = field(default_factory=list)
    """Classes that are never flipped: those that differ in left and right."""
    brightness: float = 0.0
    """Colour jitter: largest relative change, 0 to 1."""
    contrast: float = 0.0
    """Colour jitter: largest relative change, 0 to 1."""
    saturation: float = 0.0
    """Colour jitter: largest relative change, 0 to 1."""
    hue: float = 0.0
    """Colour jitter: largest turn, share of the circle, 0 to 0.5."""
    policy: Literal["none", "randaugment", "trivialaugment"] = "none"
    """Operations on all pictures of a clip alike. `randaugment`: policy_ops of them, of strength
    policy_strength. `trivialaugment`: one, of random strength and with wider limits."""
    policy_ops: int = 2
    """Policy `randaugment`: operations on a clip, >= 1."""
    policy_probability: float = 1.0
    """Policy `randaugment`: probability that each of them is carried out, 0 to 1."""
    policy_strength: float = 0.3
    """Policy `randaugment`: strength of each, 0 (none) to 1 (its limit)."""
    erase: float = 0.0
    """Probability that a rectangle of 2 to 33 % of the area is noise in all pictures, 0 to 1."""
    gain_db: float = 0.0
    """Largest change of the sound's level, dB, up or down, >= 0."""
    invert: float = 0.0
    """Probability that the polarity of the audio is inverted, 0 to 1. No spectrogram shows it: only
    for mix.audio_domain waveform."""
    filter: float = 0.0
    """Probability of a low-pass, high-pass or band-pass filter without delay, 0 to 1."""
    reverb: float = 0.0
    """Probability of a made room's echo, 0 to 1; the direct sound stays where it is."""
    noise: float = 0.0
    """Probability of noise, white to brown, 0 to 1."""
    noise_snr_db: list[float] = field(default_factory=lambda: [5.0, 30.0])
    """Range of the signal-to-noise ratio, dB, ascending."""
    background: float = 0.0
    """Probability that the sound of another clip, of another source, is laid under, 0 to 1."""
    background_snr_db: list[float] = field(default_factory=lambda: [0.0, 20.0])
    """Range of the level of the own sound above the background, dB, ascending."""
    background_label: Literal["keep", "soften"] = "keep"
    """`soften`: the label of the sound gives the background's class its share of the power; the
    fused label is the mean of those of pictures and sound, as everywhere."""
    time_masks: int = 0
    """SpecAugment: intervals hidden in the spectrogram, >= 0."""
    time_mask_seconds: float = 0.2
    """SpecAugment: longest such interval, seconds, > 0."""
    mel_masks: int = 0
    """SpecAugment: bands hidden in the spectrogram, >= 0."""
    mel_mask_share: float = 0.25
    """SpecAugment: widest such band, share of the mel bins, in (0, 1]."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for key in ("reverse", "flip", "brightness", "contrast", "saturation",
                    "policy_probability", "policy_strength", "erase", "invert", "filter", "reverb",
                    "noise", "background"):  # fmt: skip
            _require(0 <= getattr(self, key) <= 1, f"augment.{key}", "must be in [0, 1]",
                     getattr(self, key))  # fmt: skip
        for key in ("min_seconds", "hide_seconds", "gain_db", "time_masks", "mel_masks"):
            _require(0 <= getattr(self, key) < inf, f"augment.{key}", "must be >= 0 and finite",
                     getattr(self, key))  # fmt: skip
        for key in ("repeats", "policy_ops"):
            _require(getattr(self, key) >= 1, f"augment.{key}", "must be >= 1", getattr(self, key))
        for key in ("noise_snr_db", "background_snr_db", "scales"):
            low_high = getattr(self, key)
            _require(len(low_high) == 2 and -inf < low_high[0] <= low_high[1] < inf,
                     f"augment.{key}", "needs two numbers, ascending", low_high)  # fmt: skip
        _require(self.scales[0] >= 1, "augment.scales", "must be >= 1", self.scales)
        _require(1 <= self.speed <= 4, "augment.speed", "must be in [1, 4]", self.speed)
        _require(self.jitter_seconds > 0 or (self.binding, self.jitter_seconds) == ("sync", 0),
                 "augment.jitter_seconds", "must be > 0 for augment.binding window",
                 self.jitter_seconds)  # fmt: skip
        _require(0 < self.min_area <= 1, "augment.min_area", "must be in (0, 1]", self.min_area)
        _require(1 <= self.max_aspect < inf, "augment.max_aspect", "must be >= 1 and finite",
                 self.max_aspect)  # fmt: skip
        _require(0 <= self.hue <= 0.5, "augment.hue", "must be in [0, 0.5]", self.hue)
        _require(0 < self.time_mask_seconds < inf, "augment.time_mask_seconds",
                 "must be > 0 and finite", self.time_mask_seconds)  # fmt: skip
        _require(0 < self.mel_mask_share <= 1, "augment.mel_mask_share", "must be in (0, 1]",
                 self.mel_mask_share)  # fmt: skip
        _require_numbers(self, "augment.")


FrontEnd = Literal["log_mel", "kaldi"]


@dataclass(frozen=True, kw_only=True)
class FrontendConfig:
    """Device stage 1: pictures normalised, waveform to log-mel."""

    kind: FrontEnd = "log_mel"
    """`log_mel`, or `kaldi`: the filterbanks of Kaldi with a Hann window, which encoders that were
    trained on AudioSet expect. It needs numbers for mel_mean and mel_std, a n_fft of 25 ms and a
    hop_length of 10 ms: 400 and 160 at 16 kHz."""
    num_mels: int = 64
    """Mel bins, >= 1; every mel filter must be fed by the spectrum or the run does not start."""
    n_fft: int = 512
    """Window of the Fourier transform, samples."""
    hop_length: int = 256
    """Step between columns of the spectrogram, samples."""
    mel_mean: float | Literal["measured"] = "measured"
    """Subtracted from the natural logarithm of mel power: the mean over the data set. `measured`:
    over the train split, as preparation noted it in dataset.json; -0.3 where it did not."""
    mel_std: float | Literal["measured"] = "measured"
    """Then divided by: the standard deviation over the data set, > 0. `measured`: as mel_mean; 3.7
    where preparation did not measure it."""
    kernel: Literal["auto", "torch", "fused", "triton"] = "auto"
    """What normalises and mixes the pictures: plain `torch` operations, the `fused` path for CPUs,
    or `triton` for CUDA; `auto`: fused or triton, by the device. They differ by rounding only."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for key in ("mel_mean", "mel_std"):
            _require(self.kind == "log_mel" or getattr(self, key) != "measured", f"frontend.{key}",
                     "must be a number for frontend.kind kaldi: what is measured is of log-mels",
                     getattr(self, key))  # fmt: skip
        _require(self.num_mels >= 1, "frontend.num_mels", "must be >= 1", self.num_mels)
        _require(self.n_fft >= 16, "frontend.n_fft", "must be >= 16", self.n_fft)
        _require(1 <= self.hop_length <= self.n_fft, "frontend.hop_length",
                 f"must be in [1, frontend.n_fft (={self.n_fft})]", self.hop_length)  # fmt: skip
        _require(self.mel_std == "measured" or self.mel_std > 0, "frontend.mel_std",
                 "must be > 0, or measured", self.mel_std)  # fmt: skip
        _require_numbers(self, "frontend.")

    def with_log_mel(self, mean: float, std: float) -> "FrontendConfig":
        """The same with these numbers wherever `measured` stands."""
        return replace(
            self,
            mel_mean=mean if self.mel_mean == "measured" else self.mel_mean,
            mel_std=std if self.mel_std == "measured" else self.mel_std,
        )


MEL_MEAN, MEL_STD = -0.3, 3.7
"""Of log-mels, where nothing was measured."""

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
]
AudioDomain = Literal["log_mel", "power", "waveform"]
Labels = Literal["sum", "max"]


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """Device stage 2: how two clips are mixed (avmix/mix/methods.py describes every method)."""

    method: str = "mixup"
    """METHOD[@LEVEL][+dropout]. METHOD: `mixup` (Cross-Modal Mixup, one lambda for pictures, sound
    and label), `independent` (a lambda for each modality), `video`, `audio` (one of them only),
    `cutmix_temporal`, `cutmix_spatial`, `cutmix_spatiotemporal`, `cutmix_frequency`, `energy`
    (sounds by loudness), `cross` (features of picture and sound with each other) or `none`. LEVEL:
    `input`, `layer` or `feature`. `+dropout`: then clips lose a modality; `dropout`: only that."""
    switch: dict[str, float] = field(default_factory=dict)
    """Several methods with their probabilities (which add up to 1) in place of `method`: drawn for
    every batch, the same for all processes. {mixup: 0.5, cutmix_spatial: 0.3, none: 0.2}"""
    probability: float = 1.0
    """Share of the batches that are mixed, 0 to 1; nothing is dropped from the others either."""
    ramp_epochs: int = 0
    """In the first so many epochs the share of mixed batches rises from 0 to `probability`: epoch
    e, counted from 0, mixes probability * e / ramp_epochs of them. 0: mixed from the start."""
    off_epochs: int = 0
    """The last so many epochs train on unmixed clips."""
    law: Law = "beta"
    """Of lambda, the weight of a clip's own signal."""
    alpha: float = 0.2
    """Law `beta`: lambda ~ Beta(alpha, alpha), > 0; a small one leaves most pairs as they are."""
    lam: float = 0.5
    """Law `fixed`: lambda, 0 to 1."""
    dominant: bool = False
    """True: max(lambda, 1 - lambda), so that the own label is never the smaller one."""
    per: Per = "sample"
    """One lambda (and one box) for every clip, or one for the whole batch of a process."""
    pairing: Pairing = "involution"
    """Who is mixed with whom. `involution`: random pairs, each the other's partner; `permutation`:
    any order, also oneself; `roll`: the next of the batch; `derangement`: any order, never oneself;
    `second_batch`: twice batch_size clips are read, each of the first half takes one of the second;
    the last three: any clip that shares no class, a class, no source with it. Clips of one source
    are never mixed with each other, whatever the pairing."""
    audio_domain: AudioDomain = "log_mel"
    """What of the sound is mixed at input level. Log-mel: a geometric mean of powers; power: of mel
    power, before the logarithm; waveform: what the ear would hear of both."""
    layers: list[int] = field(default_factory=lambda: [0, 1, 2])
    """Level `layer`: number of encoder stages before the mix, drawn from these for every batch, the
    same for both encoders and all processes; 0 is the input of the first stage."""
    energy_limit_db: float = 20.0
    """Method `energy`: largest difference of loudness that is made up for, dB, >= 0."""
    drop_video: float = 0.1
    """`+dropout`: share of the clips that lose their pictures, if they have sound."""
    drop_audio: float = 0.1
    """`+dropout`: share of the clips that lose their sound, if they have pictures."""
    cross_with: Literal["own", "partner"] = "own"
    """Method `cross`: whose feature of the other modality is mixed in."""
    cross_path: Literal["linear", "sphere"] = "sphere"
    """Method `cross`: along a line, or along the great circle between both directions."""
    labels: Labels = "sum"
    """Targets: lambda * own + (1 - lambda) * partner, or the larger of each class (every class that
    is in either; for loss.kind binary)."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for key in self.switch or [self.method]:
            where = "mix.switch" if self.switch else "mix.method"
            try:
                recipe = parse_recipe(key)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
            if recipe.method == "energy":
                _require(
                    self.audio_domain != "log_mel",
                    "mix.audio_domain",
                    f"must be power or waveform for {where} energy",
                    self.audio_domain,
                )
            if recipe.method == "cutmix_frequency":
                _require(
                    self.audio_domain != "waveform",
                    "mix.audio_domain",
                    f"must be log_mel or power for {where} cutmix_frequency",
                    self.audio_domain,
                )
        total = sum(self.switch.values())
        _require(all(p >= 0 for p in self.switch.values()) and
                 (not self.switch or abs(total - 1) < 1e-6), "mix.switch",
                 "needs probabilities >= 0 that add up to 1", self.switch)  # fmt: skip
        _require(0 < self.alpha < inf, "mix.alpha", "must be > 0 and finite", self.alpha)
        for key in ("probability", "lam", "drop_video", "drop_audio"):
            _require(0 <= getattr(self, key) <= 1, f"mix.{key}", "must be in [0, 1]",
                     getattr(self, key))  # fmt: skip
        _require(self.drop_video <= 1 - self.drop_audio, "mix.drop_video",
                 f"must be <= 1 - mix.drop_audio (={self.drop_audio})",
                 self.drop_video)  # fmt: skip
        for key in ("ramp_epochs", "off_epochs"):
            _require(getattr(self, key) >= 0, f"mix.{key}", "must be >= 0", getattr(self, key))
        _require(bool(self.layers) and min(self.layers) >= 0, "mix.layers",
                 "needs at least one number >= 0", self.layers)  # fmt: skip
        _require(self.energy_limit_db >= 0, "mix.energy_limit_db", "must be >= 0",
                 self.energy_limit_db)  # fmt: skip
        _require_numbers(self, "mix.")

    @property
    def recipes(self) -> dict[str, float]:
        """Every way of mixing and its probability."""
        return self.switch or {self.method: 1.0}

    @property
    def clips_per_mix(self) -> int:
        """Clips that are read for each that is trained on."""
        return 2 if self.pairing == "second_batch" else 1


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """What the encoders of both modalities have in common (docs/models.md)."""

    encoder: str = ""
    """LIBRARY:NAME."""
    channels: list[int] = field(default_factory=lambda: [16, 32, 64, 128])
    """Width of each stage, of avmix's own encoders."""
    options: dict[str, Any] = field(default_factory=dict)
    """Passed on to the library's builder of the encoder, or put over its configuration:
    {drop_path_rate: 0.1}. Of `python:`, to the function."""
    weights: str = ""
    """To begin with: a file (.safetensors, or of torch, never unpickled), a folder that has one,
    `pretrained` (those that the library names, from its cache or its server) or `lite0` (ImageNet,
    from the optional package of that name). Empty: random ones."""
    may_lack: list[str] = field(default_factory=list)
    """Names of weights, or the beginnings of names up to a dot, that `weights` need not have; of
    the others a missing one is an error."""
    frozen: bool = False
    """The encoder stays as it is: no gradient, and in training as in evaluation."""
    lr_scale: float = 1.0
    """Learning rate of the encoder, in units of optim.lr, > 0."""

    def check(self, key: str, encoder: str) -> None:
        """Raises ValueError for an option out of range; `key`: of the section, with a dot."""
        _require(bool(self.channels) and min(self.channels) >= 1, f"{key}channels",
                 "needs at least one stage of width >= 1", self.channels)  # fmt: skip
        library, colon, name = encoder.partition(":")
        _require(library in LIBRARIES and bool(colon and name), f"{key}encoder",
                 f"must be LIBRARY:NAME, LIBRARY one of {', '.join(LIBRARIES)}",
                 encoder)  # fmt: skip
        _require(not self.frozen or self.weights != "" or library == "python", f"{key}frozen",
                 f"needs {key}weights: random weights that stay as they are say nothing",
                 self.frozen)  # fmt: skip
        _require(self.lr_scale > 0, f"{key}lr_scale", "must be > 0", self.lr_scale)
        _require_numbers(self, key)


LIBRARIES = ("avmix", "torchvision", "timm", "transformers", "pytorchvideo", "python")
"""Where encoders come from."""
Pooling = Literal["mean", "max", "mean+max", "attention", "tsm"]


@dataclass(frozen=True, kw_only=True)
class VideoEncoderConfig(EncoderConfig):
    """From frames to one feature vector a clip."""

    encoder: str = "avmix:r2plus1d"
    """LIBRARY:NAME, as `avmix:r2plus1d`, `torchvision:mvit_v2_s`, `timm:tf_efficientnet_lite0`,
    `transformers:FOLDER_OR_ID`, `pytorchvideo:slowfast_r50`, or `python:MODULE:FUNCTION`."""
    pooling: Pooling = "mean"
    """Of an image network, from the features of each frame to one of the clip; `mean+max` has both,
    `attention` learns a weight for each frame, `tsm` (temporal shift) lets frames exchange channels
    inside the network and takes the mean."""

    def __post_init__(self) -> None:
        """Check ranges."""
        self.check("model.video.", self.encoder)


@dataclass(frozen=True, kw_only=True)
class AudioEncoderConfig(EncoderConfig):
    """From spectrograms to one feature vector a clip."""

    encoder: str = "avmix:cnn"
    """LIBRARY:NAME, as `avmix:cnn`, any image network of `torchvision:` or `timm:`,
    `pytorchvideo:acoustic_resnet50`, `transformers:FOLDER_OR_ID`, or `python:MODULE:FUNCTION`."""

    def __post_init__(self) -> None:
        """Check ranges."""
        self.check("model.audio.", self.encoder)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Late fusion of one encoder per modality."""

    dropout: float = 0.2
    """Before each head, 0 to 1."""
    shared_width: int = 0
    """Width of a space into which both features are projected before fusion; 0: none. Mixing method
    `cross` and loss.contrastive, which compare the two, need it."""
    video: VideoEncoderConfig = field(default_factory=VideoEncoderConfig)
    audio: AudioEncoderConfig = field(default_factory=AudioEncoderConfig)

    def __post_init__(self) -> None:
        """Check ranges."""
        _require(0 <= self.dropout < 1, "model.dropout", "must be in [0, 1)", self.dropout)
        _require(self.shared_width >= 0, "model.shared_width", "must be >= 0", self.shared_width)
        _require_numbers(self, "model.")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Loss of each head, weighted, and what asks mixed clips to be consistent."""

    kind: Literal["cross_entropy", "binary"] = "cross_entropy"
    """Of the heads: soft cross-entropy of one distribution over the classes, or binary
    cross-entropy of every class by itself. Evaluation takes the softmax of the logits for both."""
    fused: float = 1.0
    """Weight of the fused head, >= 0."""
    video: float = 0.5
    """Weight of the video head, >= 0."""
    audio: float = 0.5
    """Weight of the audio head, >= 0."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes, in [0, 1)."""
    agreement: float = 0.0
    """Weight of the divergence between the video and the audio head on clips for which both have
    the same label, >= 0."""
    agreement_kind: Literal["js", "symmetric_kl"] = "js"
    """Which divergence."""
    agreement_temperature: float = 1.0
    """Divides the logits of both heads, > 0."""
    agreement_confidence: float = 0.0
    """Only clips for which one of the heads is so sure of a class count, 0 to 1."""
    interpolation: float = 0.0
    """Weight of interpolation consistency, >= 0: each head's prediction for a mix against the mix
    of its predictions for the clips as they are. Costs a forward pass without gradient, as does
    `contrastive`; both share it."""
    contrastive: float = 0.0
    """Weight of the mixed-target contrastive loss, >= 0: the feature of one modality of a mix must
    find the other modality of its two clips, lambda and 1 - lambda."""
    contrastive_temperature: float = 0.1
    """Divides the cosines, > 0."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for key in ("fused", "video", "audio", "agreement", "interpolation", "contrastive"):
            _require(getattr(self, key) >= 0, f"loss.{key}", "must be >= 0", getattr(self, key))
        for key in ("agreement_temperature", "contrastive_temperature"):
            _require(0 < getattr(self, key) < inf, f"loss.{key}", "must be > 0 and finite",
                     getattr(self, key))  # fmt: skip
        _require(0 <= self.agreement_confidence <= 1, "loss.agreement_confidence",
                 "must be in [0, 1]", self.agreement_confidence)  # fmt: skip
        _require(self.fused + self.video + self.audio > 0, "loss.fused",
                 "must be > 0 where loss.video and loss.audio are 0", self.fused)  # fmt: skip
        _require(0 <= self.label_smoothing < 1, "loss.label_smoothing", "must be in [0, 1)",
                 self.label_smoothing)  # fmt: skip
        _require_numbers(self, "loss.")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW, linear warm-up, cosine to zero."""

    epochs: int = 10
    """Passes over the train split, >= 1."""
    batch_size: int = 16
    """Clips per step and process, >= 2 (batch normalisation and mixing need two)."""
    accumulate: int = 1
    """Steps whose gradients are averaged before an update, >= 1: as one step of so many times
    batch_size clips, but for batch normalisation. The last update of an epoch may have fewer."""
    lr: float = 2e-3
    """Highest learning rate, > 0."""
    weight_decay: float = 0.02
    """Of AdamW; not applied to biases and normalisation layers."""
    warmup_epochs: float = 1.0
    """Epochs (may be a fraction) of linear warm-up from zero."""
    clip_norm: float = 5.0
    """Largest norm of the gradient, > 0."""

    def __post_init__(self) -> None:
        """Check ranges."""
        _require(self.epochs >= 1, "optim.epochs", "must be >= 1", self.epochs)
        _require(self.batch_size >= 2, "optim.batch_size", "must be >= 2", self.batch_size)
        _require(self.accumulate >= 1, "optim.accumulate", "must be >= 1", self.accumulate)
        _require(self.lr > 0, "optim.lr", "must be > 0", self.lr)
        _require(self.weight_decay >= 0, "optim.weight_decay", "must be >= 0", self.weight_decay)
        _require(0 <= self.warmup_epochs <= self.epochs, "optim.warmup_epochs",
                 f"must be in [0, optim.epochs (={self.epochs})]", self.warmup_epochs)  # fmt: skip
        _require(self.clip_norm > 0, "optim.clip_norm", "must be > 0", self.clip_norm)
        _require_numbers(self, "optim.")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where and how a run happens; nothing here but `seed` and `precision` changes its result,
    but for the last digits (`device`, `threads`)."""

    out: str = "runs/default"
    """Folder of the run. When it holds a checkpoint of the same configuration the run goes on
    from there; of another configuration, it is an error."""
    seed: int = 0
    """Of every random choice, in [0, 2**32)."""
    device: str = "auto"
    """`auto` (the GPU of this process where there is one), `cpu`, `cuda` or `cuda:N`."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the network's forward pass; spectrograms, targets and losses are always fp32."""
    threads: int = 0
    """Threads of torch on the CPU; 0: as many as cores, shared by the processes of a machine that
    train together. Another number gives other last digits; the number of loader processes does not.
    A run that goes on with another number says so."""
    log_every: int = 10
    """Steps between two writings of metrics.jsonl, >= 1."""
    save_every: int = 0
    """Steps between two checkpoints inside an epoch; 0: only at the end of each epoch."""
    save_plans: bool = False
    """Write how every batch was mixed to plans_rankN.jsonl, which `avmix preview --plan`
    reads."""
    check_input: bool = False
    """Stop at the first clip whose sound holds values that are not finite, and name its file. Every
    waveform is read once more."""

    def __post_init__(self) -> None:
        """Check ranges."""
        _require(0 <= self.seed < 2**32, "run.seed", "must be in [0, 2**32)", self.seed)
        _require(self.threads >= 0, "run.threads", "must be >= 0", self.threads)
        _require(self.log_every >= 1, "run.log_every", "must be >= 1", self.log_every)
        _require(self.save_every >= 0, "run.save_every", "must be >= 0", self.save_every)
        known = self.device in ("auto", "cpu", "cuda") or (
            self.device.startswith("cuda:") and self.device[5:].isdigit()
        )
        _require(known, "run.device", "must be auto, cpu, cuda or cuda:N", self.device)
        _require_numbers(self, "run.")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train a late-fusion network on synchronized clips (python train.py)."""

    data: DataConfig = field(default_factory=DataConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    frontend: FrontendConfig = field(default_factory=FrontendConfig)
    mix: MixConfig = field(default_factory=MixConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        """Check what concerns two sections."""
        methods = [parse_recipe(word) for word in self.mix.recipes]
        if any(m.method == "cross" for m in methods):
            _require(self.model.shared_width > 0, "model.shared_width",
                     "must be > 0 for mixing method cross", self.model.shared_width)  # fmt: skip
        if self.loss.contrastive > 0:
            _require(self.model.shared_width > 0, "model.shared_width",
                     "must be > 0 for loss.contrastive", self.model.shared_width)  # fmt: skip
        for key in ("agreement", "interpolation"):
            _require(self.loss.kind == "cross_entropy" or getattr(self.loss, key) == 0,
                     f"loss.{key}", "compares distributions over classes: must be 0 for loss.kind "
                     "binary", getattr(self.loss, key))  # fmt: skip
        if self.mix.labels == "max":
            _require(self.loss.kind == "binary", "mix.labels",
                     f"must be sum for loss.kind {self.loss.kind}", self.mix.labels)  # fmt: skip
        unmixed = self.mix.ramp_epochs + self.mix.off_epochs
        _require(unmixed <= self.optim.epochs, "mix.ramp_epochs + mix.off_epochs",
                 f"must be <= optim.epochs (={self.optim.epochs}; for a short run "
                 "--mix.ramp_epochs 0)", unmixed)  # fmt: skip
        for key in ("min_seconds", "hide_seconds"):
            _require(getattr(self.augment, key) <= self.clip.duration_seconds, f"augment.{key}",
                     f"must be <= clip.duration_seconds (={self.clip.duration_seconds})",
                     getattr(self.augment, key))  # fmt: skip
        _require(self.optim.batch_size % self.augment.repeats == 0, "augment.repeats",
                 f"must divide optim.batch_size (={self.optim.batch_size})",
                 self.augment.repeats)  # fmt: skip
        mixes = set(self.mix.recipes) - {"none", "dropout"}
        per_mix = self.optim.batch_size * self.mix.clips_per_mix
        _require(self.augment.repeats < per_mix or not mixes, "augment.repeats",
                 f"must be < optim.batch_size (={self.optim.batch_size}) where clips are mixed: "
                 "windows of one file never are", self.augment.repeats)  # fmt: skip
        _require(self.augment.repeats == 1 or self.mix.pairing != "roll", "mix.pairing",
                 f"must not be roll with augment.repeats (={self.augment.repeats}): the next clip "
                 "is another window of the same file, and those are never mixed",
                 self.mix.pairing)  # fmt: skip
        columns = int(self.clip.duration_seconds * self.clip.sample_rate) - self.frontend.n_fft
        _require(columns >= 0, "clip.duration_seconds",
                 f"must hold one spectrum of frontend.n_fft (={self.frontend.n_fft}) samples",
                 self.clip.duration_seconds)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Evaluate a checkpoint (python eval.py)."""

    checkpoint: str
    """A .pt file that train.py wrote, or the folder of a run (its last.pt)."""
    split: str = "test"
    """Split of the data set."""
    num_views: int = 3
    """Windows per clip, evenly spaced; their probabilities are averaged. >= 1."""
    batch_size: int = 32
    """Windows per step."""
    root: str = ""
    """Media folder, when it is not the one that the checkpoint was trained from."""
    manifest: str = ""
    """Manifest folder, when it is not the one that the checkpoint was trained from."""
    num_workers: int = 1
    """Loader processes; 0: as data.num_workers."""
    clip_seconds: float = 60.0
    """As data.clip_seconds; quarantine.jsonl is in `out`, and that of the run counts too."""
    verify: Literal["first", "never"] = "first"
    """As data.verify."""
    device: str = "auto"
    """As run.device."""
    threads: int = 0
    """As run.threads."""
    out: str = ""
    """Folder for result.json and pictures; empty: eval_SPLIT beside the checkpoint."""

    def __post_init__(self) -> None:
        """Check ranges."""
        _require(self.num_views >= 1, "num_views", "must be >= 1", self.num_views)
        _require(self.batch_size >= 1, "batch_size", "must be >= 1", self.batch_size)
        _require(self.num_workers >= 0, "num_workers", "must be >= 0", self.num_workers)
        _require(self.threads >= 0, "threads", "must be >= 0", self.threads)
        _require(0 < self.clip_seconds <= 86_400, "clip_seconds", "must be in (0, 86400]",
                 self.clip_seconds)  # fmt: skip
        _require_numbers(self, "")


def to_yaml(config: Any) -> str:
    """The resolved configuration, every option spelled out; `--config` reads it back."""
    return yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)


def from_yaml(cls: type[C], text: str) -> C:
    """The configuration that `to_yaml` wrote, of this version or before options were renamed;
    raises ValueError on anything else."""
    try:
        return _build(cls, renamed(read_yaml(text)))
    except (TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"not a configuration of this version of avmix: {reason}") from None
    except ValueError as error:
        raise ValueError(f"not a configuration of this version of avmix: {error}") from None


def read_yaml(text: str) -> Any:
    """What a document of YAML says. Raises ValueError for what is none, and for a key that is there
    twice, of which YAML itself would forget the first."""
    try:
        node = yaml.compose(text, yaml.SafeLoader)
        if node is not None and (key := _repeated_key(node)):
            raise ValueError(f"the key {key!r} is there twice; one of the two would be forgotten")
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {' '.join(str(error).split())}") from None


def _repeated_key(node: yaml.Node, prefix: str = "") -> str | None:
    """Dotted path of the first key that a mapping in `node` holds twice."""
    children: list[tuple[str, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        paths = [(prefix + str(key.value), value) for key, value in node.value]
        seen: set[str] = set()
        for path, _ in paths:
            if path in seen:
                return path
            seen.add(path)
        children = [(path + ".", value) for path, value in paths]
    elif isinstance(node, yaml.SequenceNode):
        children = [(prefix, item) for item in node.value]
    return next((key for p, child in children if (key := _repeated_key(child, p))), None)


RENAMED = {
    "model.video_channels": "model.video.channels",
    "model.audio_channels": "model.audio.channels",
}
"""Options that had another name, which checkpoints may still say: old and new dotted path."""


def renamed(values: Any) -> Any:
    """What `to_yaml` of an older version wrote, with the names of today."""
    for old, new in RENAMED.items():
        *above, name = old.split(".")
        section = values
        for word in above:
            section = section.get(word) if isinstance(section, dict) else None
        if isinstance(section, dict) and name in section:
            part, *path, last = new.split(".")
            inner = values.setdefault(part, {})
            for word in path:
                inner = inner.setdefault(word, {})
            inner[last] = section.pop(name)
    return values


def differences(a: Any, b: Any) -> dict[str, tuple[Any, Any]]:
    """Dotted path of every option in which two configurations of one kind differ, both values."""
    if not is_dataclass(a):
        return {"": (a, b)} if a != b else {}
    found: dict[str, tuple[Any, Any]] = {}
    for f in fields(a):
        for key, values in differences(getattr(a, f.name), getattr(b, f.name)).items():
            found[f"{f.name}.{key}" if key else f.name] = values
    return found


def _build(cls: Any, values: dict[str, Any]) -> Any:
    sections = {f.name: f.type for f in fields(cls) if is_dataclass(f.type)}
    return cls(**{k: _build(sections[k], v) if k in sections else v for k, v in values.items()})


def _keys(cls: Any, prefix: str = "") -> list[str]:
    """Dotted path of every option of `cls`."""
    keys: list[str] = []
    for f in fields(cls):
        path = prefix + f.name
        keys += _keys(f.type, path + ".") if is_dataclass(f.type) else [path]
    return keys


def _gap(cls: Any, values: Namespace, prefix: str = "") -> str | None:
    """What is wrong with the first section that is no section, or option that is null."""
    for f in fields(cls):
        path, value = prefix + f.name, values.get(f.name)
        if is_dataclass(f.type):
            if not isinstance(value, Namespace):
                names = ", ".join(_keys(f.type, path + "."))
                return f"{path} is a section and must hold options ({names}), got {value!r}"
            if gap := _gap(f.type, value, path + "."):
                return gap
        elif value is None:
            return f"{path} must have a value, got null"
    return None


def _unknown_key(message: str) -> str | None:
    """Dotted path of the key that the parser did not know, if that is what `message` says."""
    if found := re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", message):
        return f"{found[1]}.{found[2]}"
    found = re.search(
        r"Option '([\w.]+)' is not accepted|unrecognized arguments: --([\w.]+)", message
    )
    return (found[1] or found[2]) if found else None


class _Parser(ArgumentParser):
    """Says what is wrong in one line, with the choices, and ends with exit code 2."""

    keys: tuple[str, ...] = ()

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:  # type: ignore[override]
        line = " ".join(str(message).split()).replace("a typing.Literal", "one of ")
        line = re.sub(r"<class '(\w+)'>", r"\1", line)
        if key := _unknown_key(line):
            section = key.rpartition(".")[0]
            choices = [k for k in self.keys if section and k.startswith(section + ".")]
            choices = choices or sorted({k.partition(".")[0] for k in self.keys})
            close = difflib.get_close_matches(key, self.keys, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            if key in RENAMED:
                hint = f"; it is {RENAMED[key]!r} now."
            line = f"no option {key!r}{hint} Choices: {', '.join(choices)}"
        print(f"error: {line}", file=sys.stderr)
        sys.exit(2)


def load_config(cls: type[C], argv: Sequence[str] | None = None) -> C:
    """Read YAML given by `--config` (later files win), then `--dotted.overrides`.

    A key that does not exist or is there twice, a value of the wrong type, a value out of range and
    an option that cannot act (`avmix.idle`) end the program with exit code 2 and one line that
    names the key and what it may be. An option that acts where it is set, and that a later file or
    override switches off, is taken.
    """
    given = with_home(sys.argv[1:] if argv is None else argv)
    parser = _parser_of(cls)
    args = parser.parse_args(given)
    try:
        _refuse_repeated_keys(given)
    except ValueError as error:
        parser.error(str(error))
    if gap := _gap(cls, args):
        parser.error(gap)
    try:
        config = _instance(parser, cls, args)
    except ValueError as error:
        parser.error(str(error))
    config = _at_home(config)
    for key, message in idle_options(config).items():
        if not _was_switched_off(parser, cls, given, key):
            parser.error(message)
    return config


@cache
def _parser_of(cls: type) -> _Parser:
    """One for all calls: most of the time of a call is reading the documentation of the options."""
    parser = _Parser(description=cls.__doc__, allow_abbrev=False)
    parser.keys = tuple(_keys(cls))
    parser.add_argument("--config", action="config", help="YAML file; may be given more than once")
    parser.add_class_arguments(cls)
    return parser


_PATHS = ("root", "manifest", "table", "extra", "out", "checkpoint", "weights")
"""Options that are paths, in whatever section."""


def _at_home(config: C) -> C:
    """`~` in full also where a YAML file says it."""
    changes: dict[str, Any] = {}
    for f in fields(config):  # type: ignore[arg-type]
        value = getattr(config, f.name)
        if is_dataclass(value):
            changes[f.name] = _at_home(value)
        elif f.name in _PATHS:
            changes[f.name] = [*map(home, value)] if isinstance(value, list) else home(value)
    return replace(config, **changes)  # type: ignore[type-var]


def _instance(parser: _Parser, cls: type[C], args: Namespace) -> C:
    args = args.clone()
    args.pop("config", None)
    return cls(**vars(parser.instantiate(args)))


def _refuse_repeated_keys(argv: Sequence[str]) -> None:
    """Raises ValueError where a file of YAML, or a value in YAML, holds a key twice."""
    before = ""
    for word in argv:
        option, _, value = word.partition("=") if word.startswith("--") else (before, "", word)
        before = word
        if option == "--config" and os.path.isfile(value):
            where, text = value, Path(value).read_text()
        elif "{" in value:
            where, text = option.removeprefix("--"), value
        else:
            continue
        try:
            read_yaml(text)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None


def _was_switched_off(parser: _Parser, cls: type, argv: Sequence[str], key: str) -> bool:
    """True where the option acted as of one of the files, and nothing after that file sets it."""
    files = [i + 1 + (word == "--config") for i, word in enumerate(argv)
             if word == "--config" or word.startswith("--config=")]  # fmt: skip
    for end in files:
        try:
            before = _instance(parser, cls, parser.parse_args(argv[:end]))
        except ValueError:
            continue  # it was not complete yet
        set_again = parser.parse_args(argv[end:])[key] != parser.get_defaults()[key]
        value = value_at(before, key)
        is_set = value != parser.get_defaults()[key]
        if is_set and key not in idle_options(before) and not set_again:
            return True
    return False
