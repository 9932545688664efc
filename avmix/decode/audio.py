"""From packets to a mono waveform whose every sample is where the clock says."""

import math
from dataclasses import dataclass, field
from functools import cache

import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.packet import Packet
from jaxtyping import Float32

from avmix.decode.container import Media
from avmix.decode.errors import DecodeError
from avmix.decode.video import SeekMissed

PREROLL_SECONDS = 0.25
"""Decoded and thrown away before the window: overlapping transforms, bit reservoirs, Opus state."""
_PREROLL_NEEDED_SECONDS = 0.2
_MARGIN_SECONDS = 0.02
"""Kept on both sides of the window, so that the resampler's filter sees real neighbours."""
_JUMP_SECONDS = 0.015
"""Times in some containers jitter by a millisecond; only more than this is a gap."""
_FINE_TICK_SECONDS = 0.002


@dataclass(slots=True)
class Sound:
    """Collects the mono mix of one window, at the rate of the file, gaps as zeros."""

    media: Media
    start_seconds: float
    duration_seconds: float
    sample_rate: int
    indexed: bool
    """True when packets long before the window may be left undecoded."""
    sought: bool
    """True when reading began in the middle of the file."""
    done: bool = False
    stream: AudioStream = field(init=False)
    _rate: int = 0
    _runs: list[list[tuple[float, Float32[np.ndarray, " _"]]]] = field(default_factory=list)
    """Stretches without a gap: for each frame its time in samples by the file, and the mix."""
    _next: float | None = None
    """Where the next sample is expected; None before the first and after damage."""

    def __post_init__(self) -> None:
        """Take the stream from the file."""
        assert self.media.audio is not None
        self.stream = self.media.audio

    def feed(self, packet: Packet) -> None:
        """Take the next packet; the empty one at the end flushes the decoder.

        Raises `SeekMissed` when reading began too late for the preroll, `DecodeError` when the
        sample rate changes on the way.
        """
        if self.done or (packet.size == 0 and packet.dts is not None):
            return
        at = None
        if packet.pts is not None:
            at = float(packet.pts * packet.time_base) - self.media.zero_seconds
        if packet.size and self.indexed:
            if at is None:
                raise SeekMissed
            if self.sought:
                self._check_preroll(at)
            if at < self.start_seconds - PREROLL_SECONDS:
                return
        if at is not None and at > self.start_seconds + self.duration_seconds + 0.2:
            self.done = True  # beyond the window by more than any decoder's delay
            return
        if packet.is_corrupt:
            self._next = None  # zeros instead of noise; `valid` tells
            return
        try:
            frames = packet.decode()
        except av.error.EOFError:
            return
        except av.error.FFmpegError:
            self._next = None
            return
        for frame in frames:
            assert isinstance(frame, AudioFrame)
            self._add(frame)

    def waveform(self) -> tuple[Float32[np.ndarray, " s"], float]:
        """The window at the rate asked for, exactly as long as asked for, and the share covered."""
        num_samples = round(self.duration_seconds * self.sample_rate)
        wave = np.zeros(num_samples, np.float32)
        if not self._runs:
            return wave, 0.0
        # Whole samples at the wanted rate, so that cutting the margin off needs no fraction.
        margin = math.ceil(_MARGIN_SECONDS * self.sample_rate)
        margin_seconds = margin / self.sample_rate
        size = math.ceil((self.duration_seconds + 2 * margin_seconds) * self._rate) + 1
        buffer, covered = np.zeros(size, np.float32), np.zeros(size, np.bool_)
        origin = (self.start_seconds - margin_seconds) * self._rate
        for run in self._runs:
            samples = np.concatenate([mix for _, mix in run])
            first = round(self._begin(run) - origin)
            low, high = max(first, 0), min(first + len(samples), size)
            if low < high:
                buffer[low:high] = samples[low - first : high - first]
                covered[low:high] = True
        window = _resample(buffer, self._rate, self.sample_rate)[margin:][:num_samples]
        wave[: len(window)] = window
        at = round(margin_seconds * self._rate)
        inside = covered[at : at + max(round(self.duration_seconds * self._rate), 1)]
        return wave, float(np.mean(inside))

    def _begin(self, run: list[tuple[float, Float32[np.ndarray, " _"]]]) -> float:
        """Where a run begins, in samples after zero.

        Samples are counted. Where times are rounded to milliseconds, the mean over all frames is
        nearer to the truth than the first alone; where they are coarse, only the first counts.
        """
        assert self.stream.time_base is not None
        if self.stream.time_base > _FINE_TICK_SECONDS:
            return run[0][0]
        counted = np.cumsum([0, *(len(mix) for _, mix in run[:-1])])
        return float(np.mean([told for told, _ in run] - counted))

    def _check_preroll(self, at: float) -> None:
        self.sought = False  # only the first packet tells
        begins = self.stream.start_time
        begins_at = -np.inf
        if begins is not None and self.stream.time_base is not None:
            begins_at = float(begins * self.stream.time_base) - self.media.zero_seconds
        if at > self.start_seconds - _PREROLL_NEEDED_SECONDS and at > begins_at + 0.001:
            raise SeekMissed

    def _add(self, frame: AudioFrame) -> None:
        if not self._rate:
            self._rate = frame.sample_rate
        elif frame.sample_rate != self._rate:
            raise DecodeError(
                self.media.path,
                f"the sample rate changes from {self._rate} to {frame.sample_rate} Hz; "
                "transcode the file",
            )
        expected = self._next
        if frame.pts is None:
            told = 0.0 if expected is None else expected
        else:
            told = (float(frame.time or 0.0) - self.media.zero_seconds) * self._rate
        if expected is None or abs(told - expected) > _JUMP_SECONDS * self._rate:
            self._runs.append([])
            expected = told
        self._runs[-1].append((told, mono(frame)))
        self._next = expected + frame.samples
        if told > (self.start_seconds + self.duration_seconds + 2 * _MARGIN_SECONDS) * self._rate:
            self.done = True


def mono(frame: AudioFrame) -> Float32[np.ndarray, " s"]:
    """Mean of the channels without the LFE, full scale 1.

    The downmix of libav adds channels up: the same content comes out 3 times as loud in 5.1 as in
    mono. A mean keeps the level, whatever the layout.
    """
    samples = frame.to_ndarray()
    num_channels, heard = _heard_channels(frame.layout.name)
    if not frame.format.is_planar:
        samples = samples.reshape(-1, num_channels).T
    mix = samples[0] if heard == (0,) else samples[heard, :].mean(axis=0, dtype=np.float32)
    if samples.dtype == np.uint8:
        mix = (mix.astype(np.float32) - 128) / 128
    elif samples.dtype.kind == "i":
        mix = mix / 2.0 ** (8 * samples.dtype.itemsize - 1)
    return mix.astype(np.float32)


@cache
def _heard_channels(layout: str) -> tuple[int, tuple[int, ...]]:
    """Number of channels of a layout and which of them a mix is made of."""
    names = [channel.name for channel in AudioLayout(layout).channels]
    heard = tuple(i for i, name in enumerate(names) if not name.startswith("LFE"))
    return len(names), heard or tuple(range(len(names)))


def _resample(
    wave: Float32[np.ndarray, " s"], rate: int, new_rate: int
) -> Float32[np.ndarray, " n"]:
    if rate == new_rate:
        return wave
    resampler = AudioResampler(format="fltp", layout="mono", rate=new_rate)
    frame = AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
    frame.sample_rate = rate
    parts = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([part.to_ndarray()[0] for part in parts])
