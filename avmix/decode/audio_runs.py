"""Runs of decoded audio: stretches without a gap, and where on the clock each begins."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from av.audio.frame import AudioFrame
from jaxtyping import Float32, Float64, Int64

from avmix.decode.downmix import channels_of, mono, stereo

NUM_COMPARED = 9
"""Frames on either side of a step by whose times it is judged: jitter comes back, a gap lasts."""


class DecodedAudioFrame(NamedTuple):
    """A frame that came out of the decoder."""

    told: float | None
    """Its time by the file, in samples after zero; None where the file does not say."""
    num_samples: int
    layout: str
    is_apart: bool
    """True when it does not continue what came before, as after damage."""
    frame: AudioFrame | None
    """None where no window needs its samples."""


@dataclass(frozen=True, slots=True)
class AudioRun:
    """A stretch of audio without a gap: samples are counted, not timed one by one."""

    layout: str
    start: float
    """Time of its first sample by the file, in samples after zero."""
    told: Float64[np.ndarray, " k"]
    """For each kept frame its time by the file, in samples after zero."""
    counted: Int64[np.ndarray, " k"]
    """For each kept frame its first sample, counted from the start of the run."""
    sizes: Int64[np.ndarray, " k"]
    """For each kept frame its number of samples."""
    frames: list[AudioFrame]
    """The kept frames as they were decoded."""

    def begin(self, low: float, high: float) -> float:
        """Where the run begins, in samples after zero, by its frames told to lie in [low, high].

        Files round times to a tick: the mean over some frames is nearer to the truth than one.
        Where none begins there, it is the one frame that lasts from before `low`, else the next.
        """
        offsets = self.told - self.counted
        inside = (self.told >= low) & (self.told <= high)
        if not inside.any():
            before = np.flatnonzero(self.told < low)
            return float(offsets[before[-1] if before.size else 0])
        return float(offsets[inside].mean())

    def mix(
        self, low: int, high: int, num_channels: Literal[1, 2]
    ) -> tuple[int, Float32[np.ndarray, "c s"]]:
        """The kept frames that touch samples [low, high) of the run: the first sample, the mix."""
        touched = np.flatnonzero((self.counted < high) & (self.counted + self.sizes > low))
        if not touched.size:
            return 0, np.zeros((num_channels, 0), np.float32)
        kept = [channels_of(frame) for frame in self.frames[touched[0] : touched[-1] + 1]]
        whole = tuple(np.concatenate(parts) for parts in zip(*kept, strict=True))
        mix = mono(whole, self.layout)[None] if num_channels == 1 else stereo(whole, self.layout)
        return int(self.counted[touched[0]]), mix


def runs_of(decoded: list[DecodedAudioFrame], jump: float) -> list[AudioRun]:
    """Frames one behind the other, until their times step by more than `jump` samples for good."""
    if not decoded:
        return []
    tolds, num_samples, layouts, aparts, frames = zip(*decoded, strict=True)
    sizes = np.array(num_samples)
    counted = np.cumsum(sizes) - sizes
    told = np.array(tolds, np.float64)  # None becomes nan
    places = np.arange(len(decoded))
    # Where the file does not say the time of a frame, it continues what was before.
    said = np.maximum.accumulate(np.where(np.isnan(told), -1, places))
    offsets = np.where(said < 0, 0.0, (told - counted)[said])
    steps = {int(at) for at in np.flatnonzero(np.abs(np.diff(offsets)) > jump) + 1}
    begins = [0]
    for at in range(1, len(decoded)):
        if aparts[at] or layouts[at] != layouts[at - 1]:
            begins.append(at)
        elif at in steps:
            before = np.median(offsets[max(begins[-1], at - NUM_COMPARED) : at])
            after = np.median(offsets[at : at + NUM_COMPARED])
            if abs(after - before) > jump:
                begins.append(at)
    runs: list[AudioRun] = []
    for begin, end in pairwise([*begins, len(decoded)]):
        kept = [at for at in range(begin, end) if frames[at] is not None]
        runs.append(
            AudioRun(
                layout=layouts[begin],
                start=float(counted[begin] + offsets[begin]),
                told=(counted + offsets)[kept],
                counted=counted[kept] - counted[begin],
                sizes=sizes[kept],
                frames=[frames[at] for at in kept],
            )
        )
    return runs
