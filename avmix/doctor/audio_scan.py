"""All audio of a file, decoded in order: its level, its gaps, the seconds that are asked for."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from av.audio.frame import AudioFrame
from jaxtyping import Bool, Float32, Float64

from avmix.decode.downmix import MAX_SAMPLE
from avmix.decode.open_file import Media
from avmix.doctor.edit_list_reader import PresentedStretch
from avmix.doctor.report import Gap
from avmix.doctor.video_scan import Window

_AUDIO_GAP_SECONDS = 0.015
_SAMPLES: dict[str, Any] = {
    "u8": np.uint8, "s16": np.int16, "s32": np.int32, "s64": np.int64, "flt": np.float32,
    "dbl": np.float64,
}  # fmt: skip


@dataclass(slots=True)
class AudioScan:
    """All audio of the file as a mono mix: its level, its runs, and the wanted windows."""

    media: Media
    windows: tuple[Window, ...]
    edit: PresentedStretch
    rate: int = 0
    channels: int = 0
    layout: str = ""
    runs: list[tuple[float, float]] = field(default_factory=list)
    """Begin and end of each stretch without a gap; clip clock."""
    gaps: list[Gap] = field(default_factory=list)
    num_samples: int = 0
    peak: float = 0.0
    """Of all channels."""
    energy: float = 0.0
    """Of the mono mix."""
    each_energy: float = 0.0
    """The mean over channels."""
    num_broken: int = 0
    """Samples that are not finite, or beyond `MAX_SAMPLE`; zeros stand for them."""
    waves: list[Float32[np.ndarray, " _"]] = field(default_factory=list)
    covered: list[Bool[np.ndarray, " _"]] = field(default_factory=list)
    _run_samples: int = 0

    def add(self, frame: AudioFrame) -> None:
        """Take the next frame."""
        stream = self.media.audio
        assert stream is not None
        assert stream.time_base is not None
        if not self.rate:
            self.rate = frame.sample_rate
            self.channels, self.layout = frame.layout.nb_channels, frame.layout.name
            sizes = [round(w.duration_seconds * self.rate) for w in self.windows]
            self.waves = [np.zeros(n, np.float32) for n in sizes]
            self.covered = [np.zeros(n, np.bool_) for n in sizes]
        expected = self.runs[-1][1] if self.runs else None
        if frame.pts is not None:
            told = float(frame.time or 0.0) - self.media.zero_seconds
        else:
            begin = float((stream.start_time or 0) * stream.time_base) - self.media.zero_seconds
            told = begin if expected is None else expected
        slack = max(_AUDIO_GAP_SECONDS, 1.5 * float(stream.time_base))
        if expected is None or abs(told - expected) > slack:
            if expected is not None:
                self.gaps.append(Gap(start_seconds=expected, seconds=told - expected))
            self.runs.append((told, told))
            self._run_samples = 0
        each = heard_channels(frame)
        broken = ~(np.abs(each) <= MAX_SAMPLE)  # nan too
        self.num_broken += int(broken.sum())
        each = np.where(broken, 0.0, each)
        begin = self.runs[-1][0]
        at = begin + self._run_samples / self.rate
        self._run_samples += each.shape[1]
        self.runs[-1] = (begin, begin + self._run_samples / self.rate)
        # What an edit list cuts away is not heard.
        low, high = (
            min(max(math.ceil((cut - self.media.zero_seconds - at) * self.rate), 0), each.shape[1])
            if math.isfinite(cut)
            else edge
            for cut, edge in (
                (self.edit.begin_seconds - 0.0015, 0),
                (self.edit.end_seconds, each.shape[1]),
            )
        )
        each = each[:, low:high]
        wave = each.mean(axis=0).astype(np.float32)
        self._place(wave, at + low / self.rate)
        self.num_samples += len(wave)
        self.peak = max(self.peak, float(np.abs(each).max(initial=0.0)))
        self.energy += float(np.sum(wave.astype(np.float64) ** 2))
        self.each_energy += float(np.sum(each**2)) / len(each)

    def seconds_within(self, end_seconds: float) -> float:
        """Seconds with audio between 0 and `end_seconds` of the clip clock."""
        covered, until = 0.0, 0.0
        for begin, end in sorted(self.runs):
            low, high = max(begin, until), min(end, end_seconds)
            covered += max(high - low, 0.0)
            until = max(until, high)
        return covered

    def _place(self, wave: Float32[np.ndarray, " s"], seconds: float) -> None:
        for window, buffer, covered in zip(self.windows, self.waves, self.covered, strict=True):
            first = round((seconds - window.start_seconds) * self.rate)
            low, high = max(first, 0), min(first + len(wave), len(buffer))
            if low < high:
                buffer[low:high] = wave[low - first : high - first]
                covered[low:high] = True


def heard_channels(frame: AudioFrame) -> Float64[np.ndarray, "c s"]:
    """The channels without the LFE, full scale 1."""
    # Not `to_ndarray`: PyAV takes eight planes for nine, and reads where nothing is.
    num_channels, dtype = frame.layout.nb_channels, _SAMPLES[frame.format.packed.name]
    planes: list[Any] = list(frame.planes)[:num_channels]
    if frame.format.is_planar:
        data = np.stack([np.frombuffer(plane, dtype, frame.samples) for plane in planes])
    else:
        data = np.frombuffer(planes[0], dtype, frame.samples * num_channels)
        data = data.reshape(-1, num_channels).T
    scaled = data.astype(np.float64)
    if data.dtype == np.uint8:
        scaled = (scaled - 128) / 128
    elif data.dtype.kind == "i":
        scaled = scaled / 2.0 ** (8 * data.dtype.itemsize - 1)
    heard = [i for i, c in enumerate(frame.layout.channels) if not c.name.startswith("LFE")]
    return scaled[heard or slice(None)]
