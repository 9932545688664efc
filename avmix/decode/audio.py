"""Audio decoding: packets -> mono or stereo waveform in which every sample has its presentation
time."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import av.error
import numpy as np
import torch
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.packet import Packet
from jaxtyping import Bool, Float, Float32, Float64, Int64, Shaped
from torch import Tensor
from torch.nn import functional
from torchaudio.transforms import Resample

from avmix.decode.container import Media
from avmix.decode.decoder_state import DecoderState
from avmix.decode.errors import DecodeError, UnsupportedMediaError
from avmix.decode.video import SeekMissed

PREROLL_SECONDS = 0.25
"""Decoded and thrown away before the window: overlapping transforms, bit reservoirs, Opus state."""
_PREROLL_NEEDED_SECONDS = 0.2
_MARGIN_SECONDS = 0.02
"""Kept on both sides of the window, so that the resampler's filter sees real neighbours."""
_JUMP_SECONDS = 0.015
"""Times in many containers jitter; only a step of more than this, which lasts, is a gap."""
_NUM_COMPARED = 9
"""Frames on either side of a step by whose times it is judged: jitter comes back, a gap lasts."""
_PREROLL_PACKETS = 2
"""At least so many are decoded before the window: one may be longer than `PREROLL_SECONDS`. What
the first of them gives is not used, because it may lack its beginning, which was in the one before,
and so be told a wrong time (WMA)."""
_MAX_DELAY_SECONDS = 0.2
"""By how much a decoder may lag behind its packets."""
_FINE_TICK_SECONDS = 0.002
_FILTER_WIDTH = 16
"""Zero crossings of the resampling filter on each side."""
MAX_SAMPLE = 1000.0
"""Times full scale, 60 dB above it: what no recording and no codec comes near to."""
_MAX_PHASES = 500_000
"""Size of the table of a filter, for rates that have little in common, above which libav's is used,
which interpolates between phases."""
_NUMBERS = {
    name + suffix: np.dtype(kind)
    for name, kind in {
        "u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"
    }.items()
    for suffix in ("", "p")
}  # fmt: skip
"""Sample formats of libav, packed and planar, and numpy."""
_LEFT = frozenset(
    ["FL", "FLC", "BL", "SL", "TFL", "TBL", "TSL", "BFL", "DL", "WL", "SDL", "SSL", "TTL", "BIL"]
)
_RIGHT = frozenset(
    ["FR", "FRC", "BR", "SR", "TFR", "TBR", "TSR", "BFR", "DR", "WR", "SDR", "SSR", "TTR", "BIR"]
)
"""libav's names of the channels on either side; all others (FC, BC, TC ...) are on none."""
_UNNAMED = "NONE"
"""libav's name of a channel of which only the number is known."""
_UNSAFE_CHANNELS = 8
"""PyAV 18.1 reads beyond the end when it is asked for so many planes; packed it is safe."""


Channels = tuple[Shaped[np.ndarray, " n"], ...]
"""The samples of a frame, channel by channel, in the number format of the file."""


class _Decoded(NamedTuple):
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
class _Run:
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


@dataclass(slots=True)
class AudioTrack:
    """Collector of the audio of some windows, downmixed, at the rate of the file, with zeros in
    gaps."""

    media: Media
    starts_seconds: Sequence[float]
    """Starts of the windows, ascending."""
    duration_seconds: float
    sample_rate: int
    skips: bool
    """True when packets long before the first window may be left undecoded."""
    sought: bool
    """True when reading began in the middle of the file."""
    num_channels: Literal[1, 2] = 1
    """1: mono, 2: left and right."""
    done: bool = False
    stream: AudioStream = field(init=False)
    _decoder: AudioCodecContext = field(init=False)
    _tick: float = field(init=False)
    _end_seconds: float = field(init=False)
    """End of the last window, or of the readable part."""
    _rate: int = 0
    _alike: AudioFrame | None = None
    """The first of the last frames, which have one layout."""
    _layout: str = ""
    """The name of that layout."""
    _decoded: list[_Decoded] = field(default_factory=list)
    _runs: list[_Run] | None = None
    """Runs of everything decoded; None while more may come."""
    _is_apart: bool = True
    """True when the next frame does not continue the last: before the first, and after damage."""
    _skipped: deque[Packet] = field(default_factory=lambda: deque(maxlen=_PREROLL_PACKETS))
    """The last packets before the preroll, which are decoded if it turns out to begin in them."""
    _any_forgotten: bool = False
    """True when decoding does not begin with the first packet of the stream."""
    _sought_at: float | None = None
    """Time of the first packet that was read, where it is not the first of the stream."""
    _decoder_state: DecoderState = field(default_factory=DecoderState)
    _num_after: int = 0
    """Frames decoded after the last window."""
    _is_empty_before: bool = False
    """True when AVI has an empty chunk, which is silence, before the next packet."""
    _is_first_lost: bool = False
    """True when the first packet gave no samples."""
    _amiss: float = 0.0
    """What the times of AVI are to be corrected by, in samples."""

    def __post_init__(self) -> None:
        """Take the stream from the file."""
        assert self.media.audio is not None
        assert self.media.audio.time_base is not None
        self.stream, self._tick = self.media.audio, float(self.media.audio.time_base)
        self._decoder = self.stream.codec_context
        end_seconds = self.starts_seconds[-1] + self.duration_seconds
        self._end_seconds = min(end_seconds, self.media.until_seconds)

    def note_break(self) -> None:
        """Note that something before the next packet could not be read, or was lost."""
        if self.media.in_output_order:
            self.done = True  # the times of the rest are unknown: zeros, and `valid` tells

    def feed(self, packet: Packet) -> None:
        """Take the next packet; the empty one at the end flushes the decoder.

        Raises `SeekMissed` when reading began too late for the preroll, `DecodeError` when the
        sample rate changes on the way.
        """
        if self.done or (packet.size == 0 and packet.dts is not None):
            self._is_empty_before = True
            return
        at = None
        if packet.pts is not None:
            at = packet.pts * self._tick - self.media.zero_seconds
        if packet.size and self.skips:
            if at is None:
                raise SeekMissed
            if self.sought:
                self._check_preroll(packet, at)
            if at < self.starts_seconds[0] - PREROLL_SECONDS:
                self._decoder_state.note(packet)
                self._any_forgotten |= len(self._skipped) == self._skipped.maxlen
                self._skipped.append(packet)
                return
        if self._skipped:
            self._decode_skipped()
        self._decode(packet)
        self._is_first_lost |= not self._rate
        if self.media.in_output_order and self._decoded:
            told = self._decoded[-1].told
            at = None if told is None else told / self._rate
        if at is not None and at > self._end_seconds + _MAX_DELAY_SECONDS:
            self.done = True  # beyond the window, and what the decoder held back has come

    def _decode_skipped(self) -> None:
        """Decode the packets before the preroll."""
        self._decoder_state.give(self._skipped[0])
        packets = list(self._skipped)
        self._skipped.clear()
        for index, packet in enumerate(packets):
            self._decode(packet, is_used=index > 0 or not self._any_forgotten)

    def _decode(self, packet: Packet, *, is_used: bool = True) -> None:
        frames: list[AudioFrame] = []
        try:
            if not packet.is_corrupt:
                frames = self._decoder.decode(packet if packet.size else None)
        except av.error.EOFError:
            pass
        except av.error.FFmpegError:
            self._is_apart = True
        # What a decoder says of a packet of which it did not have the one before is no damage.
        if (self.media.libav_log.fresh() or packet.is_corrupt) and is_used:
            self._is_apart = True  # zeros instead of noise; `valid` tells
            return
        for frame in frames if is_used else []:
            self._add(frame)

    def waveform(
        self, start_seconds: float, frame_bytes: int = 0
    ) -> tuple[Float32[np.ndarray, "*c s"], float]:
        """A window at the rate asked for, exactly as long as asked for, and the share covered.

        (s) of one channel, (2, s) of two. `frame_bytes` are those of the frames beside it, which
        the limit counts as well. Raises `SeekMissed` when nothing was read after seeking,
        `UnsupportedMediaError` when it is larger than the limits allow.
        """
        if self.sought or self._begins_late():
            raise SeekMissed  # what this window needs may lie before
        num_samples = round(self.duration_seconds * self.sample_rate)
        wave = np.zeros((self.num_channels, num_samples), np.float32)
        if not self._rate:
            return self._shaped(wave), 0.0
        # Whole samples at the wanted rate, so that cutting the margin off needs no fraction.
        margin = math.ceil(_MARGIN_SECONDS * self.sample_rate)
        margin_seconds = margin / self.sample_rate
        size = math.ceil((self.duration_seconds + 2 * margin_seconds) * self._rate) + 1
        self._check_bytes(wave.nbytes + wave.itemsize * self.num_channels * size + frame_bytes)
        buffer = np.zeros((self.num_channels, size), np.float32)
        covered = np.zeros(size, np.bool_)
        origin = (start_seconds - margin_seconds) * self._rate
        if self._runs is None:
            self._runs = _runs(self._decoded, _JUMP_SECONDS * self._rate)
        for run in self._runs:
            begin = round(self._begin(run, start_seconds) - origin)
            first, mix = run.mix(-begin, size - begin, self.num_channels)
            first += begin
            low, high = max(first, 0), min(first + mix.shape[1], size)
            if low < high:
                buffer[:, low:high] = mix[:, low - first : high - first]
                covered[low:high] = True
        self._cut(buffer, covered, origin)
        check_samples(self.media.path, buffer)
        for channel, whole in zip(wave, buffer, strict=True):
            window = _resample(whole, self._rate, self.sample_rate)[margin:][:num_samples]
            channel[: len(window)] = window
        at = round(margin_seconds * self._rate)
        inside = covered[at : at + max(round(self.duration_seconds * self._rate), 1)]
        return self._shaped(wave), int(np.count_nonzero(inside)) / len(inside)

    def _check_bytes(self, num_bytes: int) -> None:
        """Raise `UnsupportedMediaError` when a window is too large."""
        if num_bytes > self.media.limits.max_clip_bytes:
            raise UnsupportedMediaError(
                self.media.path,
                f"{self.duration_seconds:g} s with audio at {self._rate} Hz are "
                f"{num_bytes >> 20} MiB, more than the limit; ask for shorter windows",
            )

    def _shaped(self, wave: Float32[np.ndarray, "c s"]) -> Float32[np.ndarray, "*c s"]:
        return wave[0] if self.num_channels == 1 else wave

    def _begin(self, run: _Run, start_seconds: float) -> float:
        if not len(run.told) or self._tick > _FINE_TICK_SECONDS:
            return run.start  # frames are counted by the file as well
        # The same frames whatever else was read, so that a window does not depend on the others.
        low = (start_seconds - _PREROLL_NEEDED_SECONDS) * self._rate
        high = (start_seconds + self.duration_seconds) * self._rate
        return run.begin(low, high)

    def _cut(
        self, buffer: Float32[np.ndarray, "c n"], covered: Bool[np.ndarray, " n"], origin: float
    ) -> None:
        """Silence what an edit list does not present, and what is not to be read."""
        edit, zero, size = self.media.audio_presented, self.media.zero_seconds, len(covered)
        low, high = -math.inf, self.media.until_seconds * self._rate - origin
        if edit is not None:
            low = (edit.begin_seconds - edit.slack_seconds - zero) * self._rate - origin
            high = min(high, (edit.end_seconds + edit.slack_seconds - zero) * self._rate - origin)
        for part in (
            slice(0, round(min(max(low, 0), size))),
            slice(max(round(min(high, size)), 0), None),
        ):
            buffer[:, part], covered[part] = 0, False

    def _check_preroll(self, packet: Packet, at: float) -> None:
        """Raise `SeekMissed` when the first packet that was read is not early enough."""
        length = (packet.duration or 0) * self._tick
        if self._sought_at is None:
            begins = self.stream.start_time
            begins_at = -np.inf if begins is None else begins * self._tick - self.media.zero_seconds
            if at <= begins_at + 0.001:
                self.sought = False
                return
            self._any_forgotten, self._sought_at = True, at
            if not length and at < self.starts_seconds[0] - PREROLL_SECONDS:
                return  # the file does not say how long it lasts: the step to the next one tells
        else:
            length = at - self._sought_at
        self.sought = False
        needed = max(_PREROLL_NEEDED_SECONDS, _PREROLL_PACKETS * length)
        if not length or self._sought_at > self.starts_seconds[0] - needed:
            raise SeekMissed

    def _begins_late(self) -> bool:
        """True when decoding began in the middle, and what is used of it begins too late.

        Whatever the file says of the lengths of its packets: these are the samples themselves.
        """
        if self._sought_at is None:
            return False
        told = self._decoded[0].told if self._decoded else None
        return told is None or told > (self.starts_seconds[0] - _MARGIN_SECONDS) * self._rate

    def _add(self, frame: AudioFrame) -> None:
        if not self._rate:
            if frame.sample_rate > self.media.limits.max_sample_rate:
                raise UnsupportedMediaError(
                    self.media.path,
                    f"its audio claims {frame.sample_rate} samples a second; no recording has "
                    f"more than {self.media.limits.max_sample_rate}: get the file again",
                )
            self._rate = frame.sample_rate
        elif frame.sample_rate != self._rate:
            raise DecodeError(
                self.media.path,
                f"the sample rate changes from {self._rate} to {frame.sample_rate} Hz; "
                "transcode the file",
            )
        told, pts, num_samples = None, frame.pts, frame.samples
        if pts is not None:
            told = (pts * self._tick - self.media.zero_seconds) * self._rate
            if self.media.in_output_order:
                told = self._counted(told)
        # Asking for the name of each would take far longer.
        if self._alike is None or frame.layout != self._alike.layout:
            self._alike, self._layout = frame, frame.layout.name
        is_near = told is None or self._is_near(told, num_samples)
        self._decoded.append(
            _Decoded(told, num_samples, self._layout, self._is_apart, frame if is_near else None)
        )
        self._is_apart = False
        if told is not None and told > (self._end_seconds + 2 * _MARGIN_SECONDS) * self._rate:
            self._num_after += 1
            self.done = self._num_after >= _NUM_COMPARED // 2

    def _counted(self, told: float) -> float:
        """When a frame of AVI begins, in samples after zero; `told` is what libav makes of it.

        It counts chunks or bytes by what the header says of them. Where that is not what comes out
        of them (E-AC-3, AAC of high efficiency, whatever varies in length), the samples count.
        """
        told += self._amiss
        last = self._decoded[-1] if self._decoded else None
        if last is not None and last.told is not None:
            step = told - last.told - last.num_samples
            may_be_gap = self._is_apart or self._is_empty_before
            if abs(step) > _JUMP_SECONDS * self._rate and not may_be_gap:
                if self._is_first_lost:
                    raise UnsupportedMediaError(
                        self.media.path, "nothing tells when its audio begins; transcode the file"
                    )
                self._amiss -= step
                told -= step
        self._is_empty_before = False
        return told

    def _is_near(self, told: float, num_samples: int) -> bool:
        """True when a window may need the samples of a frame."""
        at, near = told / self._rate, PREROLL_SECONDS + num_samples / self._rate
        for start in self.starts_seconds:  # for every frame: a generator would take twice the time
            if start - near <= at <= start + self.duration_seconds + near:
                return True
        return False


def _runs(decoded: list[_Decoded], jump: float) -> list[_Run]:
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
            before = np.median(offsets[max(begins[-1], at - _NUM_COMPARED) : at])
            after = np.median(offsets[at : at + _NUM_COMPARED])
            if abs(after - before) > jump:
                begins.append(at)
    runs: list[_Run] = []
    for begin, end in pairwise([*begins, len(decoded)]):
        kept = [at for at in range(begin, end) if frames[at] is not None]
        runs.append(
            _Run(
                layout=layouts[begin],
                start=float(counted[begin] + offsets[begin]),
                told=(counted + offsets)[kept],
                counted=counted[kept] - counted[begin],
                sizes=sizes[kept],
                frames=[frames[at] for at in kept],
            )
        )
    return runs


def check_samples(path: str, *channels: Shaped[np.ndarray, "..."]) -> None:
    """Raises `DecodeError` where float samples are not finite, or beyond `MAX_SAMPLE`: they would
    make every result of the clip nan, and numbers of integers are never so large."""
    for samples in channels:
        # Not a comparison of the absolute values: nan must not pass.
        if samples.dtype.kind == "f" and not (
            samples.min(initial=0) >= -MAX_SAMPLE and samples.max(initial=0) <= MAX_SAMPLE
        ):
            limit = f"{MAX_SAMPLE:g} times full scale"
            raise DecodeError(path, f"its audio holds samples not finite, or beyond {limit}")


def channels_of(frame: AudioFrame) -> Channels:
    """The samples of a frame, without copying them."""
    form, num_channels = frame.format, frame.layout.nb_channels
    kind, is_planar = _NUMBERS[form.name], form.is_planar
    if is_planar and num_channels >= _UNSAFE_CHANNELS:
        packer = AudioResampler(format=form.packed.name, layout=frame.layout)
        parts = [
            _numbers(f.planes[0], kind, f.samples * num_channels) for f in packer.resample(frame)
        ]
        packed = np.concatenate(parts)
    elif is_planar:
        num_samples = frame.samples
        return tuple([_numbers(plane, kind, num_samples) for plane in frame.planes])
    else:
        packed = _numbers(frame.planes[0], kind, frame.samples * num_channels)
    return tuple(packed[channel::num_channels] for channel in range(num_channels))


def _numbers(plane: Any, kind: np.dtype[Any], count: int) -> Shaped[np.ndarray, " n"]:
    return np.frombuffer(plane, kind, count)


def mono(channels: Channels, layout: str) -> Float32[np.ndarray, " s"]:
    """Mean of the channels without the LFE, full scale 1.

    The downmix of libav adds channels up: the same content comes out 3 times as loud in 5.1 as in
    mono. A mean keeps the level, whatever the layout.
    """
    return _mean(channels, _downmixed_channels(layout))


def stereo(channels: Channels, layout: str) -> Float32[np.ndarray, "2 s"]:
    """Left: the mean of the channels on the left and of those on neither side; right likewise.

    The same content is as loud as in the mono mix. A layout that knows no sides gives the mono mix
    twice, but two channels of which it says nothing are left and right.
    """
    left, right = _side_channels(layout)
    mix = _mean(channels, left)
    return np.stack([mix, mix if left == right else _mean(channels, right)])


def downmixed_channels(channels: Channels, layout: str) -> Float32[np.ndarray, "c s"]:
    """Channels that `mono` averages, each at full scale 1."""
    return np.stack([_mean(channels, (channel,)) for channel in _downmixed_channels(layout)])


def _mean(channels: Channels, downmixed_channels: tuple[int, ...]) -> Float32[np.ndarray, " s"]:
    """Mean of some channels, full scale 1."""
    share = np.float32(1 / len(downmixed_channels))
    mix = np.multiply(channels[downmixed_channels[0]], share, dtype=np.float32)
    for channel in downmixed_channels[1:]:
        mix += np.multiply(channels[channel], share, dtype=np.float32)
    kind = channels[0].dtype
    if kind == np.uint8:
        return (mix - 128) / 128
    return mix / np.float32(2.0 ** (8 * kind.itemsize - 1)) if kind.kind == "i" else mix


@cache
def _downmixed_channels(layout: str) -> tuple[int, ...]:
    """Which channels of a layout a mix is made of."""
    names = [channel.name for channel in AudioLayout(layout).channels]
    downmixed_channels = tuple(i for i, name in enumerate(names) if not name.startswith("LFE"))
    return downmixed_channels or tuple(range(len(names)))


@cache
def _side_channels(layout: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Channels of a layout that are mixed into the left channel, and into the right."""
    names = [channel.name for channel in AudioLayout(layout).channels]
    downmixed_channels = _downmixed_channels(layout)
    if names == [_UNNAMED] * 2:
        return (0,), (1,)
    left, right = (
        tuple(i for i in downmixed_channels if names[i] not in other) for other in (_RIGHT, _LEFT)
    )
    # A single channel on one side is given to the other too: half a file is not silence.
    return left or downmixed_channels, right or downmixed_channels


def _resample(
    wave: Float32[np.ndarray, " s"], rate: int, new_rate: int
) -> Float32[np.ndarray, " n"]:
    if rate == new_rate:
        return wave
    common = math.gcd(rate, new_rate)
    if rate // common * (new_rate // common) <= _MAX_PHASES:
        # Half of libav's time, or less. Sample 0 stays where it is.
        return _filtered(wave, rate // common, new_rate // common)
    resampler = AudioResampler(format="fltp", layout="mono", rate=new_rate)
    frame = AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
    frame.sample_rate = rate
    parts = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([part.to_ndarray()[0] for part in parts])


def _filtered(
    wave: Float32[np.ndarray, " s"], rate: int, new_rate: int
) -> Float32[np.ndarray, " n"]:
    """What torchaudio's `Resample` gives, to the bit; the rates have no common divisor."""
    kernel = _kernel(rate, new_rate)
    width = (kernel.shape[2] - rate) // 2
    padded = np.zeros((1, 1, width + len(wave) + width + rate), np.float32)
    padded[0, 0, width : width + len(wave)] = wave
    phases = functional.conv1d(torch.from_numpy(padded), kernel, stride=rate).numpy()
    length = math.ceil(new_rate * len(wave) / rate)
    return phases[0].T.reshape(-1)[:length]


@dataclass(frozen=True, slots=True)
class _Filter:
    """A resampling filter, kept in about an eighth of its size.

    Each phase is a short window somewhere in a long row; training with audio at many rates needs
    hundreds of them.
    """

    num_columns: int
    outside: float
    """Value of everything outside of the windows: nearly zero."""
    first: Int64[Tensor, " phases"]
    """Column where the window of each phase begins."""
    taps: Float[Tensor, "phases taps"]

    @classmethod
    def of(cls, kernel: Float[Tensor, "phases 1 columns"]) -> "_Filter":
        """The filter that `whole` gives back."""
        rows, outside = kernel[:, 0], kernel[0, 0, 0]
        inside = (rows != outside).long()
        first, last = inside.argmax(1), rows.shape[1] - 1 - inside.flip(1).argmax(1)
        num_taps = int((last - first).max()) + 1
        first = first.clamp(max=rows.shape[1] - num_taps)
        taps = rows.gather(1, first[:, None] + torch.arange(num_taps))
        return cls(rows.shape[1], float(outside), first, taps)

    def whole(self) -> Float[Tensor, "phases 1 columns"]:
        """As a convolution takes it."""
        rows = torch.full((len(self.first), self.num_columns), self.outside)
        places = self.first[:, None] + torch.arange(self.taps.shape[1])
        return rows.scatter_(1, places, self.taps)[:, None]

    @property
    def num_bytes(self) -> int:
        """What it takes up."""
        return self.taps.nbytes + self.first.nbytes


@lru_cache(maxsize=8)
def _kernel(rate: int, new_rate: int) -> Float[Tensor, "phases 1 columns"]:
    """The rates of most datasets are few: theirs are at hand. Up to 1.5 MB each, so not more."""
    return _filter(rate, new_rate).whole()


@lru_cache(maxsize=1024)
def _filter(rate: int, new_rate: int) -> _Filter:
    """Making one takes up to 20 ms; about 55 kB, for rates in steps of 50 Hz."""
    common = math.gcd(rate, new_rate)
    made = Resample(
        rate // common,
        new_rate // common,
        resampling_method="sinc_interp_kaiser",
        lowpass_filter_width=_FILTER_WIDTH,
    )
    assert isinstance(made.kernel, Tensor)
    return _Filter.of(made.kernel)
