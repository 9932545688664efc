"""Configuration section `augment`."""

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from avmix.config.checks import validate, validate_numbers


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Training augmentation, drawn once per clip and applied to all its frames and to its audio
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
    """Shortest part of the window that is shown, in whole shares of a frame; after it the last
    frame is held and there is silence, as in a file that ends there. 0: always all of it."""
    speed: float = 1.0
    """Video and audio are played faster or slower by one factor, drawn from [1 / speed, speed]
    with a uniform logarithm; >= 1, at most 4. 1: never."""
    speed_keeps_pitch: bool = False
    """True: audio that is played faster or slower keeps its pitch; else it is a tape's. Attacks
    that rise within 2 ms keep their place to 1 ms at speeds from 0.8 to 1.25; docs/augment.md says
    what may move, and how far."""
    reverse: float = 0.0
    """Probability that video and audio run backwards, 0 to 1."""
    hide_seconds: float = 0.0
    """Longest interval that is hidden from the network, in frames and spectrogram alike; its
    length is drawn from [0, hide_seconds], seconds. 0: none. Of a mix at input level it is hidden
    of both clips; at @layer and @feature each clip is hidden in its own input."""
    binding: Literal["sync", "window"] = "sync"
    """`sync`: audio is of the same seconds as the frames. `window`: a stated departure, for
    methods that bind modalities within a window only: it is up to jitter_seconds early or late."""
    jitter_seconds: float = 0.0
    """Binding `window`: largest time between a frame and its audio, seconds, > 0."""
    crop: Literal["resized", "multiscale", "centre"] = "resized"
    """`resized`: a rectangle of random area and shape. `multiscale`: the frame is scaled to a
    random size, and a square of clip.crop pixels is cut out of it. `centre`: the largest central
    square, as in evaluation."""
    min_area: float = 0.5
    """Crop `resized`: smallest share of the frame's area, in (0, 1]. Where no such rectangle
    fits, it is the largest one with an allowed ratio."""
    max_aspect: float = 1.33
    """Crop `resized`: largest ratio of its sides, >= 1."""
    scales: list[float] = field(default_factory=lambda: [1.14, 1.43])
    """Crop `multiscale`: smallest and largest short side of the scaled frame, in units of
    clip.crop, >= 1. clip.short_side should not be below the largest."""
    flip: float = 0.5
    """Probability of a horizontal flip, 0 to 1. The channels of stereo audio change places."""
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
    """Operations on all frames of a clip alike. `randaugment`: policy_ops of them, of strength
    policy_strength. `trivialaugment`: one, of random strength and with wider limits."""
    policy_ops: int = 2
    """Policy `randaugment`: operations on a clip, >= 1."""
    policy_probability: float = 1.0
    """Policy `randaugment`: probability that each of them is carried out, 0 to 1."""
    policy_strength: float = 0.3
    """Policy `randaugment`: strength of each, 0 (none) to 1 (its limit)."""
    erase: float = 0.0
    """Probability that a rectangle of 2 to 33 % of the area is noise in all frames, 0 to 1."""
    gain_db: float = 0.0
    """Largest change of the audio's level, dB, up or down, >= 0."""
    invert: float = 0.0
    """Probability that the polarity of the audio is inverted, 0 to 1. No spectrogram shows it: only
    for mix.audio_domain waveform."""
    filter: float = 0.0
    """Probability of a low-pass, high-pass or band-pass filter without delay, 0 to 1."""
    reverb: float = 0.0
    """Probability of the echo of a synthetic room, 0 to 1; the direct sound stays where it is."""
    noise: float = 0.0
    """Probability of noise, white to brown, 0 to 1."""
    noise_snr_db: list[float] = field(default_factory=lambda: [5.0, 30.0])
    """Range of the signal-to-noise ratio, dB, ascending."""
    background: float = 0.0
    """Probability that the audio of another clip, of another source, is mixed in as background, 0
    to 1."""
    background_snr_db: list[float] = field(default_factory=lambda: [0.0, 20.0])
    """Range of the level of the own audio above the background, dB, ascending."""
    background_label: Literal["keep", "soften"] = "keep"
    """`soften`: the label of the audio gives the background's class its share of the power; the
    fused label is the mean of those of video and audio, as everywhere."""
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
            validate(0 <= getattr(self, key) <= 1, f"augment.{key}", "must be in [0, 1]",
                     getattr(self, key))  # fmt: skip
        for key in ("min_seconds", "hide_seconds", "gain_db", "time_masks", "mel_masks"):
            validate(0 <= getattr(self, key) < inf, f"augment.{key}", "must be >= 0 and finite",
                     getattr(self, key))  # fmt: skip
        for key in ("repeats", "policy_ops"):
            validate(getattr(self, key) >= 1, f"augment.{key}", "must be >= 1", getattr(self, key))
        for key in ("noise_snr_db", "background_snr_db", "scales"):
            low_high = getattr(self, key)
            validate(len(low_high) == 2 and -inf < low_high[0] <= low_high[1] < inf,
                     f"augment.{key}", "needs two numbers, ascending", low_high)  # fmt: skip
        validate(self.scales[0] >= 1, "augment.scales", "must be >= 1", self.scales)
        validate(1 <= self.speed <= 4, "augment.speed", "must be in [1, 4]", self.speed)
        validate(self.jitter_seconds > 0 or (self.binding, self.jitter_seconds) == ("sync", 0),
                 "augment.jitter_seconds", "must be > 0 for augment.binding window",
                 self.jitter_seconds)  # fmt: skip
        validate(0 < self.min_area <= 1, "augment.min_area", "must be in (0, 1]", self.min_area)
        validate(1 <= self.max_aspect < inf, "augment.max_aspect", "must be >= 1 and finite",
                 self.max_aspect)  # fmt: skip
        validate(0 <= self.hue <= 0.5, "augment.hue", "must be in [0, 0.5]", self.hue)
        validate(0 < self.time_mask_seconds < inf, "augment.time_mask_seconds",
                 "must be > 0 and finite", self.time_mask_seconds)  # fmt: skip
        validate(0 < self.mel_mask_share <= 1, "augment.mel_mask_share", "must be in (0, 1]",
                 self.mel_mask_share)  # fmt: skip
        validate_numbers(self, "augment.")
