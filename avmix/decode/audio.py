"""From packets to a waveform, mono or stereo, whose every sample is where the clock says."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import av.error
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet
from jaxtyping import Bool, Float32

from avmix.decode.audio_runs import NUM_COMPARED, AudioRun, DecodedAudioFrame, runs_of
from avmix.decode.decoder_state import DecoderState
from avmix.decode.downmix import check_samples
from avmix.decode.errors import DecodeError, UnsupportedMediaError
from avmix.decode.open_file import Media
from avmix.decode.resample import resample
from avmix.decode.video import SeekMissed

PREROLL_SECONDS = 0.25
"""Decoded and thrown away before the window: overlapping transforms, bit reservoirs, Opus state."""
_PREROLL_NEEDED_SECONDS = 0.2
_MARGIN_SECONDS = 0.02
"""Kept on both sides of the window, so that the resampler's filter sees real neighbours."""
_JUMP_SECONDS = 0.015
"""Times in many containers jitter; only a step of more than this, which lasts, is a gap."""
_PREROLL_PACKETS = 2
"""At least so many are decoded before the window: one may be longer than `PREROLL_SECONDS`. What
the first of them gives is not used, because it may lack its beginning, which was in the one before,
and so be told a wrong time (WMA)."""
_MAX_DELAY_SECONDS = 0.2
"""By how much a decoder may lag behind its packets."""
_FINE_TICK_SECONDS = 0.002


@dataclass(slots=True)
class AudioTrack:
    """Collects the mix around some windows, at the rate of the file, gaps as zeros."""

    media: Media
    starts_seconds: Sequence[float]
    """Of the windows, ascending."""
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
    """Of the last window, or of what may be read."""
    _rate: int = 0
    _alike: AudioFrame | None = None
    """The first of the last frames, which have one layout."""
    _layout: str = ""
    """The name of that layout."""
    _decoded: list[DecodedAudioFrame] = field(default_factory=list)
    _runs: list[AudioRun] | None = None
    """Of all that was decoded; None while more may come."""
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
        """Something before the next packet could not be read, or was lost."""
        if self.media.in_output_order:
            self.done = True  # when the rest sounds nobody knows: zeros, and `valid` tells

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
            self._runs = runs_of(self._decoded, _JUMP_SECONDS * self._rate)
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
            window = resample(whole, self._rate, self.sample_rate)[margin:][:num_samples]
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

    def _begin(self, run: AudioRun, start_seconds: float) -> float:
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
            DecodedAudioFrame(
                told, num_samples, self._layout, self._is_apart, frame if is_near else None
            )
        )
        self._is_apart = False
        if told is not None and told > (self._end_seconds + 2 * _MARGIN_SECONDS) * self._rate:
            self._num_after += 1
            self.done = self._num_after >= NUM_COMPARED // 2

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
