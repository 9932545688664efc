"""From packets to the pictures that are on the screen at the wanted times."""

from dataclasses import dataclass, field

import av.error
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import Float64, UInt8

from avmix.decode.container import Media
from avmix.decode.errors import DecodeError

EPSILON_SECONDS = 0.0005
"""Containers round times, many to 1 ms; a picture may be this late and still count as shown."""
_SUSPECT_SECONDS = 0.14
"""A decoder notices damage some pictures late; this far before the notice nothing is trusted."""


class SeekMissed(Exception):
    """Seeking did not land before the window: try from farther back."""


@dataclass(slots=True)
class Pictures:
    """Collects, for each of `times`, the last picture whose time is not after it."""

    media: Media
    times: Float64[np.ndarray, " t"]
    """Wanted times, ascending, seconds on the clip clock."""
    short_side: int | None
    indexed: bool
    """True when packets before the last key picture that suffices may be left undecoded."""
    out: UInt8[np.ndarray, "t h w c"] | None = None
    seconds: list[float] = field(default_factory=list)
    """Real time of each picture delivered so far."""
    end_seconds: float = -np.inf
    """End of the last picture seen."""
    _stream: VideoStream = field(init=False)
    _tick: float = field(init=False)
    _epsilon: float = field(init=False)
    _shown: VideoFrame | None = None
    _shown_seconds: float = -np.inf
    _waiting: list[Packet] | None = field(default_factory=list)
    _damage: "Damage" = field(init=False)
    _clock: "_OutputClock" = field(init=False)
    _reformatter: VideoReformatter = field(default_factory=VideoReformatter)

    def __post_init__(self) -> None:
        """Set up what follows from the stream."""
        assert self.media.video is not None
        assert self.media.video.time_base is not None
        self._stream = self.media.video
        self._tick = float(self.media.video.time_base)
        self._epsilon = min(self._tick / 2, EPSILON_SECONDS)
        self._damage = Damage(to_the_end=self.media.in_output_order)
        self._clock = _OutputClock(period=period_seconds(self._stream))
        if not self.indexed:
            self._waiting = None

    @property
    def done(self) -> bool:
        """True when every wanted time has its picture."""
        return len(self.seconds) == len(self.times)

    @property
    def any_seen(self) -> bool:
        """True when any picture came out of the decoder."""
        return self._shown is not None

    def feed(self, packet: Packet) -> None:
        """Take the next packet of the stream; the empty one at the end flushes the decoder.

        Raises `SeekMissed` when, in an indexed file, the data begin too late for the first time.
        """
        if packet.size == 0 and packet.dts is not None:
            return  # AVI: the picture before is shown again; to the decoder it would mean the end
        if self._waiting is None:
            self._decode(packet)
            return
        first = float(self.times[0]) + self._epsilon
        if packet.size:
            if packet.pts is None:
                raise SeekMissed
            if packet.is_keyframe and self._packet_seconds(packet) <= first:
                self._waiting.clear()  # decoding may begin here as well
            elif not self._waiting:
                raise SeekMissed  # the first packet must be a key picture in time
        self._waiting.append(packet)
        if self._is_past(packet, first):
            waiting, self._waiting = self._waiting, None
            for held in waiting:
                self._decode(held)

    def finish(self) -> int:
        """Show the last picture at all times that are left, and return how many come after it."""
        assert self._shown is not None
        num_held = int(np.sum(self.times >= self.end_seconds - self._epsilon))
        while not self.done:
            self._deliver()
        return num_held

    def check_damage(self) -> None:
        """Raise `DecodeError` when a delivered picture may show the effect of damaged data."""
        bad = self._damage.touches(np.array(self.seconds))
        if bad is not None:
            raise DecodeError(
                self.media.path,
                f"the picture at {bad:.3f} s depends on damaged data; leave this window out, or "
                "get the file again",
            )

    def _is_past(self, packet: Packet, seconds: float) -> bool:
        """True when no later packet can hold a picture of `seconds` or before."""
        if packet.size == 0:
            return True
        if packet.dts is None:  # Matroska, for some packets after a seek
            return self._packet_seconds(packet) > seconds + 1
        return float(packet.dts * packet.time_base) - self.media.zero_seconds > seconds

    def _packet_seconds(self, packet: Packet) -> float:
        """Time of a packet on the clip clock: of presentation where there is one."""
        ticks = packet.dts if self.media.in_output_order or packet.pts is None else packet.pts
        if ticks is None:
            return max(self._shown_seconds, 0.0)
        return float(ticks * packet.time_base) - self.media.zero_seconds

    def _decode(self, packet: Packet) -> None:
        at = self._packet_seconds(packet)
        if packet.size:
            self._damage.packet(at, packet.is_keyframe)
            if packet.is_corrupt:
                self._damage.event(at)
        try:
            frames = packet.decode()
        except av.error.EOFError:
            return
        except av.error.FFmpegError:
            self._damage.event(at)
            return
        for frame in frames:
            assert isinstance(frame, VideoFrame)
            self._add(frame, self._frame_seconds(frame, packet, at))

    def _frame_seconds(self, frame: VideoFrame, packet: Packet, at: float) -> float:
        if self.media.in_output_order:
            return self._clock.next(at if packet.size else None)
        if frame.pts is not None:
            return frame.time - self.media.zero_seconds
        if self.indexed:
            raise SeekMissed
        return max(self._shown_seconds, -period_seconds(self._stream)) + period_seconds(
            self._stream
        )

    def _add(self, frame: VideoFrame, seconds: float) -> None:
        if frame.is_corrupt:
            self._damage.event(seconds)
        if self.done:
            return
        if self._shown is None:
            if self.indexed and seconds > self.times[0] + self._epsilon:
                raise SeekMissed
        elif seconds < self._shown_seconds:
            if self.indexed:
                raise SeekMissed
            raise DecodeError(self.media.path, f"time goes backward at {seconds:.3f} s")
        while not self.done and seconds > self.times[len(self.seconds)] + self._epsilon:
            if self._shown is None:
                # Only in a stream that is cut before its first key picture: nothing earlier exists.
                self._shown, self._shown_seconds = frame, seconds
            self._deliver()
        self._shown, self._shown_seconds = frame, seconds
        length = float(frame.duration * self._tick)
        self.end_seconds = seconds + (length or period_seconds(self._stream))

    def _deliver(self) -> None:
        """The picture on the screen is the answer to the next wanted time."""
        index, frame = len(self.seconds), self._shown
        assert frame is not None
        if index and self.seconds[-1] == self._shown_seconds:
            assert self.out is not None
            self.out[index] = self.out[index - 1]
        else:
            picture = self._rgb(frame)
            if self.out is None:
                self.out = np.empty((len(self.times), *picture.shape), np.uint8)
            if picture.shape != self.out.shape[1:]:
                raise DecodeError(self.media.path, "the size of the pictures changes on the way")
            self.out[index] = picture
        self.seconds.append(self._shown_seconds)

    def _rgb(self, frame: VideoFrame) -> UInt8[np.ndarray, "h w c"]:
        width, height = _target_size(frame, self._stream, self.short_side)
        scaled = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            src_colorspace=_matrix(frame),
            src_color_range=_range(frame),
            dst_color_range=ColorRange.JPEG,
            interpolation=Interpolation.BILINEAR | Interpolation.ACCURATE_RND,
            threads=1,
        )
        return np.rot90(scaled.to_ndarray(), quarter_turns(frame))


@dataclass(slots=True)
class Damage:
    """Which stretches of the video may show the effect of damaged data.

    Pictures are predicted from one another up to the next key picture, and decoders patch up what
    they cannot read. So all that is decoded between damage and that key picture is suspect.
    """

    to_the_end: bool
    """True when times come from counting pictures: a lost one shifts all that follow."""
    _packets: list[tuple[float, bool]] = field(default_factory=list)
    _events: list[tuple[float, int]] = field(default_factory=list)

    def packet(self, seconds: float, is_key: bool) -> None:
        """Note the next packet, in the order of decoding."""
        self._packets.append((seconds, is_key))

    def event(self, seconds: float) -> None:
        """Note that what is shown at `seconds` is damaged."""
        self._events.append((seconds, len(self._packets) - 1))

    def touches(self, seconds: Float64[np.ndarray, " t"]) -> float | None:
        """The first of `seconds` that is suspect, or None."""
        for since, until in map(self._stretch, self._events):
            hit = seconds[(seconds >= since) & (seconds < until)]
            if hit.size:
                return float(hit[0])
        return None

    def _stretch(self, event: tuple[float, int]) -> tuple[float, float]:
        at, index = event
        # Leading pictures of an open group lack their reference after a seek; they are not shown.
        if self._packets and self._packets[0][1] and at < self._packets[0][0]:
            return np.inf, -np.inf
        later_keys = [s for s, is_key in self._packets if is_key and s > at]
        until = np.inf if self.to_the_end or not later_keys else min(later_keys)
        since = at - _SUSPECT_SECONDS
        for seconds, is_key in self._packets[index + 1 :]:
            if is_key:
                break
            since = min(since, seconds)
        return since, until


@dataclass(slots=True)
class _OutputClock:
    """Times pictures by the packet that pushed them out of the decoder, less its constant delay.

    It equals counting, but does not lose step when a packet says "no new picture".
    """

    period: float
    _delay: float | None = None
    _last: float = -np.inf

    def next(self, packet_seconds: float | None) -> float:
        if self._delay is None:
            self._delay = packet_seconds if packet_seconds is not None else 0.0
        after = self._last + self.period
        if packet_seconds is None:  # flushing
            seconds = max(after, 0.0)
        else:
            seconds = packet_seconds - self._delay
            if seconds <= self._last:
                seconds = after
        self._last = seconds
        return seconds


def quarter_turns(frame: VideoFrame) -> int:
    """Counter-clockwise quarter turns that put the picture upright."""
    return round(frame.rotation / 90) % 4


def period_seconds(stream: VideoStream) -> float:
    """Seconds from picture to picture, for pictures that do not say how long they last."""
    rate = stream.average_rate or stream.guessed_rate
    return 1 / float(rate) if rate else 0.04


def _target_size(frame: VideoFrame, stream: VideoStream, short_side: int | None) -> tuple[int, int]:
    """Width and height, in pixels before rotation."""
    if short_side is None:
        return frame.width, frame.height
    # Pixels that are not square are made so: the shape on the screen is what counts.
    aspect = float(stream.sample_aspect_ratio or 1) or 1.0
    width, height = frame.width * aspect, frame.height
    scale = short_side / min(width, height)
    return max(round(width * scale), short_side), max(round(height * scale), short_side)


def _matrix(frame: VideoFrame) -> Colorspace:
    """YUV matrix of the picture; where the file does not say, players go by the size."""
    match frame.colorspace:  # AVColorSpace
        case 1:
            return Colorspace.ITU709
        case 4:
            return Colorspace.FCC
        case 5 | 6:
            return Colorspace.ITU601
        case 7:
            return Colorspace.SMPTE240M
        case 9 | 10:
            return Colorspace.BT2020
    large = frame.width >= 1280 or frame.height > 576
    return Colorspace.ITU709 if large else Colorspace.ITU601


def _range(frame: VideoFrame) -> ColorRange:
    if frame.color_range in (ColorRange.MPEG, ColorRange.JPEG):
        return ColorRange(frame.color_range)
    return ColorRange.JPEG if frame.format.name.startswith("yuvj") else ColorRange.MPEG
