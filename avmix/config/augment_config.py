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
    """How training windows are chosen. `random`: uniformly over the clip. `uniform`: the windows
    that tile the clip, in random order, each once before any is repeated. `event`: around an audio
    event of events.jsonl beside the manifest (written by `avmix events`), which falls anywhere in
    the middle half of the window; `random` for clips without events."""
    repeats: int = 1
    """Repeated augmentation: windows of one file per step, read while the file is open; >= 1, a
    divisor of optim.batch_size. An epoch has that many times more steps."""
    min_seconds: float = 0.0
    """Shortest visible part of the window, seconds, in whole frame intervals. After it the last
    frame is held and the audio is silent, as in a file that ends there. 0: always the whole
    window."""
    speed: float = 1.0
    """Largest change of playback speed of video and audio, 1 (none) to 4: the factor is drawn
    log-uniformly from [1 / speed, speed]."""
    speed_keeps_pitch: bool = False
    """Keep the pitch when the speed changes (time stretching); otherwise it changes as on a tape.
    Attacks that rise within 2 ms keep their place to 1 ms at speeds from 0.8 to 1.25;
    docs/augment.md states the limits."""
    reverse: float = 0.0
    """Probability of playing video and audio backwards, 0 to 1."""
    hide_seconds: float = 0.0
    """Longest hidden interval, masked in frames and spectrogram alike, seconds; its length is drawn
    from [0, hide_seconds]. 0: none. In a mix at input level it is hidden in both clips; at @layer
    and @feature each clip's interval is hidden in its own input."""
    binding: Literal["sync", "window"] = "sync"
    """`sync`: audio is of the same seconds as the frames. `window`: audio is shifted by up to
    jitter_seconds, for methods that relate the modalities only within a window."""
    jitter_seconds: float = 0.0
    """Binding `window`: largest shift between frames and audio, seconds, > 0."""
    crop: Literal["resized", "multiscale", "centre"] = "resized"
    """`resized`: a rectangle of random area and shape. `multiscale`: the frame is scaled to a
    random size, and a square of clip.crop pixels is cut out of it. `centre`: the largest central
    square, as in evaluation."""
    min_area: float = 0.5
    """Crop `resized`: smallest share of the frame's area, in (0, 1]. Where no such rectangle fits,
    the largest one with an allowed aspect ratio is used."""
    max_aspect: float = 1.33
    """Crop `resized`: largest aspect ratio, >= 1."""
    scales: list[float] = field(default_factory=lambda: [1.14, 1.43])
    """Crop `multiscale`: smallest and largest short side of the scaled frame, relative to
    clip.crop, >= 1. clip.short_side should not be below the largest."""
    flip: float = 0.5
    """Probability of a horizontal flip, 0 to 1. It also swaps the channels of stereo audio."""
    never_flip: list[str] = field(default_factory=list)
    """Classes that are never flipped, because left and right matter."""
    brightness: float = 0.0
    """Colour jitter: largest relative change, 0 to 1."""
    contrast: float = 0.0
    """Colour jitter: largest relative change, 0 to 1."""
    saturation: float = 0.0
    """Colour jitter: largest relative change, 0 to 1."""
    hue: float = 0.0
    """Colour jitter: largest hue shift, share of the colour circle, 0 to 0.5."""
    policy: Literal["none", "randaugment", "trivialaugment"] = "none"
    """Augmentation policy, applied to all frames of a clip alike. `randaugment`: policy_ops
    operations of strength policy_strength. `trivialaugment`: one operation of random strength, with
    wider limits."""
    policy_ops: int = 2
    """Policy `randaugment`: operations per clip, >= 1."""
    policy_probability: float = 1.0
    """Policy `randaugment`: probability that each operation is applied, 0 to 1."""
    policy_strength: float = 0.3
    """Policy `randaugment`: strength of each operation, 0 (none) to 1 (its limit)."""
    erase: float = 0.0
    """Probability of random erasing, 0 to 1: a rectangle of 2 to 33 % of the area is replaced by
    noise in all frames."""
    gain_db: float = 0.0
    """Largest change of the audio level in either direction, dB, >= 0."""
    invert: float = 0.0
    """Probability of inverting the polarity of the audio, 0 to 1. Spectrograms do not show it: only
    for mix.audio_domain waveform."""
    filter: float = 0.0
    """Probability of a low-pass, high-pass or band-pass filter without delay, 0 to 1."""
    reverb: float = 0.0
    """Probability of synthetic reverberation, 0 to 1; the direct sound stays in place."""
    noise: float = 0.0
    """Probability of adding noise, white to brown, 0 to 1."""
    noise_snr_db: list[float] = field(default_factory=lambda: [5.0, 30.0])
    """Range of the signal-to-noise ratio, dB, ascending."""
    background: float = 0.0
    """Probability of mixing in the audio of a clip of another source as background, 0 to 1."""
    background_snr_db: list[float] = field(default_factory=lambda: [0.0, 20.0])
    """Range of the signal-to-background ratio, dB, ascending."""
    background_label: Literal["keep", "soften"] = "keep"
    """`keep`: the label is unchanged. `soften`: the audio label gives the background's class its
    share of the power; the fused label is the mean of the video and audio labels, as everywhere."""
    time_masks: int = 0
    """SpecAugment: number of time masks, >= 0."""
    time_mask_seconds: float = 0.2
    """SpecAugment: longest time mask, seconds, > 0."""
    mel_masks: int = 0
    """SpecAugment: number of frequency masks, >= 0."""
    mel_mask_share: float = 0.25
    """SpecAugment: widest frequency mask, share of the mel bins, in (0, 1]."""

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
