"""Grids that boxes are cut from: the axes of each modality and the time of each index."""

import math
from dataclasses import dataclass
from typing import Literal

from avmix.config import ClipConfig, FrontendConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Axes of one modality after clip and channel."""

    domain: str
    """What its values are: `pixels`; `waveform`, `power`, `log_mel`; `features`."""
    shape: tuple[int, ...] = ()
    """Length of each axis: (t, h, w), (m, f), (s,) ... or () for a vector, which has no place."""
    time_axis: int | None = None
    """Which of them is time."""
    first_seconds: float = 0.0
    """Middle of index 0 of the time axis, from the start of the window."""
    step_seconds: float = 0.0
    """From one index of the time axis to the next."""
    frame_axes: tuple[int, int] | None = None
    """Which of them are rows and columns of a frame."""
    band_axis: int | None = None
    """Which of them is frequency."""

    @property
    def num_steps(self) -> int:
        """Length of the time axis; 0 without one."""
        return 0 if self.time_axis is None else self.shape[self.time_axis]

    def steps_within(self, start_seconds: float, stop_seconds: float) -> tuple[int, int]:
        """Indices (first, one after the last) whose middle is in [start, stop)."""

        def first_from(seconds: float) -> int:
            # A boundary between two shares is hit to the last bit nowhere: the middle of a share is
            # half a step away, so a millionth of a step decides nothing else.
            place = (seconds - self.first_seconds) / self.step_seconds - 1e-6
            return math.ceil(min(max(place, 0.0), float(self.num_steps)))

        start = first_from(start_seconds)
        return start, max(start, first_from(stop_seconds))

    def border_seconds(self, index: int) -> float:
        """Half a step before the middle of `index`."""
        return self.first_seconds + (index - 0.5) * self.step_seconds


FEATURE_GRIDS = {"video": Grid(domain="features"), "audio": Grid(domain="features")}
"""The grids of kept features: vectors without a place."""


def clip_grids(
    clip: ClipConfig, frontend: FrontendConfig, domain: Literal["log_mel", "power", "waveform"]
) -> dict[str, Grid]:
    """The grids of `video` and `audio` where training mixes them (`domain`: mix.audio_domain).

    Frame k stands for the k-th share of the window and sample k for an instant. Column k of the
    spectrogram covers n_fft samples, from sample k * hop on or, where the front end pads the
    waveform, around it; its time is that of their middle.
    """
    num_samples = round(clip.duration_seconds * clip.sample_rate)
    share = clip.duration_seconds / clip.num_frames
    video = Grid(
        domain="pixels",
        shape=(clip.num_frames, clip.crop, clip.crop),
        time_axis=0,
        first_seconds=share / 2,
        step_seconds=share,
        frame_axes=(1, 2),
    )
    if domain == "waveform":
        step = 1 / clip.sample_rate
        audio = Grid(domain=domain, shape=(num_samples,), time_axis=0, step_seconds=step)
    else:
        audio = Grid(
            domain=domain,
            shape=(frontend.num_bands, frontend.columns_of(num_samples)),
            time_axis=1,
            first_seconds=frontend.first_column / clip.sample_rate,
            step_seconds=frontend.hop_length / clip.sample_rate,
            band_axis=0,
        )
    return {"video": video, "audio": audio}


def input_shapes(clip: ClipConfig, frontend: FrontendConfig) -> dict[str, tuple[int, ...]]:
    """What encoders get of a clip, by modality: frames (3 t h w), and spectrograms (channels m f)
    or, of `frontend.kind` waveform, waveforms (channels s)."""
    domain = "waveform" if frontend.kind == "waveform" else "log_mel"
    return {
        "video": (3, clip.num_frames, clip.crop, clip.crop),
        "audio": (clip.audio_channels, *clip_grids(clip, frontend, domain)["audio"].shape),
    }
