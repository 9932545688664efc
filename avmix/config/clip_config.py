"""Configuration section `clip`."""

from dataclasses import dataclass
from typing import Literal

from avmix.config.checks import validate, validate_numbers
from avmix.config.unset import unset


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """The window that is decoded from each file: the same seconds of video and audio."""

    duration_seconds: float = unset(2.0)
    """Length of the window, above 0, below an hour. A shorter file is padded: its last frame is
    held, its audio followed by silence."""
    num_frames: int = unset(8)
    """Frames per window, evenly spaced, each in the middle of its share; >= 1."""
    sample_rate: int = unset(16_000)
    """Sample rate of the waveform, Hz, >= 1000."""
    stereo: bool = False
    """Decode two channels of audio; the audio encoder then gets two spectrograms. Both channels of
    a mono file are equal."""
    short_side: int = unset(72)
    """The decoder scales the shorter side of the frame to this many pixels, >= crop."""
    crop: int = unset(64)
    """Height and width of the network's input frames, pixels, >= 8."""

    @property
    def audio_channels(self) -> Literal[1, 2]:
        """Number of audio channels of a clip."""
        return 2 if self.stereo else 1

    def __post_init__(self) -> None:
        """Check ranges."""
        validate(0 < self.duration_seconds < 3600, "clip.duration_seconds", "must be in (0, 3600)",
                 self.duration_seconds)  # fmt: skip
        validate(self.num_frames >= 1, "clip.num_frames", "must be >= 1", self.num_frames)
        validate(self.sample_rate >= 1000, "clip.sample_rate", "must be >= 1000", self.sample_rate)
        validate(self.crop >= 8, "clip.crop", "must be >= 8", self.crop)
        validate(self.short_side >= self.crop, "clip.short_side",
                 f"must be >= clip.crop (={self.crop})", self.short_side)  # fmt: skip
        validate_numbers(self, "clip.")
