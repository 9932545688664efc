"""The slow way to pictures, where packets do not tell their times: decode all, in order."""

from collections.abc import Callable
from dataclasses import dataclass, field

import av.error
import numpy as np
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from avmix.decode.bitstream import damage_check
from avmix.decode.container import Media
from avmix.decode.damage import Damage
from avmix.decode.errors import DecodeError
from avmix.decode.video import Canvas, epsilon_seconds, period_seconds


@dataclass(slots=True)
class LinearPictures:
    """Fills a canvas with the last picture whose time is not after each wanted time."""

    canvas: Canvas
    damage: Damage = field(init=False)
    end_seconds: float = np.inf
    """End of the last picture; infinite while pictures after the last wanted time exist."""
    _media: Media = field(init=False)
    _stream: VideoStream = field(init=False)
    _decoder: VideoCodecContext = field(init=False)
    _is_broken: Callable[[bytes], bool] = field(init=False)
    _tick: float = field(init=False)
    epsilon_seconds: float = field(init=False)
    _limit: float = np.inf
    _clock: "_OutputClock" = field(init=False)
    _num_shown: int = 0
    _last: VideoFrame | None = None
    _last_seconds: float = -np.inf
    _last_end_seconds: float = -np.inf

    def __post_init__(self) -> None:
        """Set up what follows from the stream."""
        self._media = self.canvas.media
        assert self._media.video is not None
        assert self._media.video.time_base is not None
        assert self._media.decoder is not None
        self._stream, self._decoder = self._media.video, self._media.decoder
        context = self._stream.codec_context
        self._is_broken = damage_check(context.name, context.extradata or b"")
        self._tick = float(self._media.video.time_base)
        self.epsilon_seconds = epsilon_seconds(self._tick)
        self.damage = Damage(to_the_end=self._media.counted)
        self._clock = _OutputClock(period=period_seconds(self._stream))
        if self._media.video_presented is not None:
            self._limit = self._media.video_presented.end_seconds - self._media.zero_seconds

    @property
    def gathered(self) -> bool:
        """True when every wanted time has its picture."""
        return self._num_shown == len(self.canvas.times)

    @property
    def any_seen(self) -> bool:
        """True when any picture came out of the decoder."""
        return self._last is not None

    def note_break(self) -> None:
        """Something between the last packet and the next could not be read."""
        self.damage.event(max(self._last_seconds, 0.0))

    def feed(self, packet: Packet) -> None:
        """Take the next packet of the stream; the empty one at the end flushes the decoder.

        Raises `DecodeError` when time goes backward.
        """
        if self.gathered or (packet.size == 0 and packet.dts is not None):
            return  # AVI: the picture before is shown again; to the decoder it would mean the end
        self._media.check_time()
        self._media.complaints.fresh()
        at = self._packet_seconds(packet)
        frames: list[VideoFrame] = []
        if packet.size:
            self.damage.packet(at, packet.is_keyframe)
        try:
            frames = self._decoder.decode(packet if packet.size else None)
        except av.error.EOFError:
            pass
        except av.error.FFmpegError:
            self.damage.event(at)
        if self._media.complaints.fresh() or packet.is_corrupt or self._is_broken(bytes(packet)):
            self.damage.event(at)
        for frame in frames:
            self._add(frame, self._frame_seconds(frame, packet, at))
        if packet.size == 0:
            self.end_seconds = self._last_end_seconds

    def finish(self) -> None:
        """Show the last picture at all times that are left."""
        self._show_until(len(self.canvas.times))

    def end(self) -> float:
        """End of the video on the clip clock; infinite where it was not reached."""
        return self.end_seconds

    def _packet_seconds(self, packet: Packet) -> float:
        """Time of a packet on the clip clock: of presentation where there is one."""
        ticks = packet.dts if self._media.in_output_order or packet.pts is None else packet.pts
        if ticks is None:
            return max(self._last_seconds, 0.0)
        return ticks * self._tick - self._media.zero_seconds

    def _frame_seconds(self, frame: VideoFrame, packet: Packet, at: float) -> float:
        if self._media.in_output_order:
            return self._clock.next(at if packet.size else None)
        if frame.pts is not None:
            return frame.pts * self._tick - self._media.zero_seconds
        period = period_seconds(self._stream)
        return max(self._last_seconds, -period) + period

    def _add(self, frame: VideoFrame, seconds: float) -> None:
        if frame.is_corrupt:
            self.damage.event(seconds)
        if self.gathered or seconds >= self._limit:
            return
        if seconds < self._last_seconds:
            raise DecodeError(
                self._media.path, f"time goes backward at {seconds:.3f} s; transcode the file"
            )
        if self._last is None:
            self._last, self._last_seconds = frame, seconds  # nothing earlier exists
        times = self.canvas.times
        self._show_until(int(np.searchsorted(times, seconds - self.epsilon_seconds, side="left")))
        self._last, self._last_seconds = frame, seconds
        length = (frame.duration or 0) * self._tick or period_seconds(self._stream)
        self._last_end_seconds = min(seconds + length, self._limit)

    def _show_until(self, row: int) -> None:
        """The last picture is what is on the screen at all wanted times before `row`."""
        if row > self._num_shown:
            assert self._last is not None
            rows = np.arange(self._num_shown, row)
            self.canvas.show(rows, self._last, self._last_seconds)
            self._num_shown = row


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
