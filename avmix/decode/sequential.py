"""Sequential frame decoding, the slow path for packets without usable timestamps: decode all
frames in order."""

from dataclasses import dataclass, field

import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame

from avmix.decode.damage import Damage
from avmix.decode.errors import DecodeError
from avmix.decode.selective import MAX_REORDERED, may_reorder
from avmix.decode.video import Canvas, Track, open_video_track


@dataclass(slots=True)
class SequentialFrames:
    """Fills a canvas with the last frame whose time is not after each wanted time."""

    canvas: Canvas
    bare: bool = False
    """As `SelectiveFrames.bare`."""
    damage: Damage = field(init=False)
    end_seconds: float = np.inf
    """End of the last frame; infinite while frames after the last wanted time exist."""
    _track: Track = field(init=False)
    _clock: "_OutputClock" = field(init=False)
    _num_beyond: int = 0
    """Frames decoded after the last one wanted, to see whether time ascends."""
    _must_see: int = field(init=False)
    """How many there have to be."""
    _num_shown: int = 0
    _last: VideoFrame | None = None
    _last_seconds: float = -np.inf
    _last_end_seconds: float = -np.inf

    def __post_init__(self) -> None:
        """Set up what follows from the stream."""
        self._track = open_video_track(self.canvas.media, bare=self.bare)
        self.damage = Damage(to_the_end=self.canvas.media.counted)
        counted = self.canvas.media.in_output_order
        self._must_see = 0 if counted or not may_reorder(self._track.stream) else MAX_REORDERED
        self._clock = _OutputClock(period=self._track.period_seconds)

    @property
    def epsilon_seconds(self) -> float:
        """How late a frame may be and still count as shown."""
        return self._track.epsilon_seconds

    @property
    def gathered(self) -> bool:
        """True when every wanted time has its frame."""
        return self._all_shown and self._num_beyond >= self._must_see

    @property
    def can_be_bared(self) -> bool:
        """True when decoding `bare` can show whether what tells of damage is about frames."""
        return not self.bare and self._track.may_be_harmless(only_said=self.damage.only_said)

    @property
    def earlier_seconds(self) -> None:
        """As `SelectiveFrames.earlier_seconds`: nothing lies before the start of the file."""
        return None

    @property
    def _all_shown(self) -> bool:
        return self._num_shown == len(self.canvas.times)

    @property
    def any_seen(self) -> bool:
        """True when any frame came out of the decoder."""
        return self._last is not None

    def note_break(self) -> None:
        """Something between the last packet and the next could not be read."""
        self.damage.event(max(self._last_seconds, 0.0))

    def feed(self, packet: Packet) -> None:
        """Take the next packet of the stream; the empty one at the end flushes the decoder.

        Raises `DecodeError` when time goes backward.
        """
        if self.gathered or (packet.size == 0 and packet.dts is not None):
            return  # AVI: the frame before is shown again; to the decoder it would mean the end
        at = self._packet_seconds(packet)
        if packet.size:
            self.damage.packet(at, packet.is_keyframe)
        frames, verdict = self._track.decode(packet if packet.size else None)
        if verdict != "intact":
            self.damage.event(at, only_said=verdict == "said")
        for frame in frames:
            self._add(frame, self._frame_seconds(frame, packet, at))
        if packet.size == 0:
            self.end_seconds = self._last_end_seconds

    def finish(self) -> None:
        """Show the last frame at all times that are left."""
        self._show_until(len(self.canvas.times))

    def end(self) -> float:
        """End of the video on the clip clock; infinite where it was not reached."""
        return self.end_seconds

    def _packet_seconds(self, packet: Packet) -> float:
        """Time of a packet on the clip clock: of presentation where there is one."""
        ticks = (
            packet.dts if self.canvas.media.in_output_order or packet.pts is None else packet.pts
        )
        if ticks is None:
            return max(self._last_seconds, 0.0)
        return self._track.seconds(ticks)

    def _frame_seconds(self, frame: VideoFrame, packet: Packet, at: float) -> float:
        if self.canvas.media.in_output_order:
            return self._clock.next(at if packet.size else None)
        if frame.pts is not None:
            return self._track.seconds(frame.pts)
        period = self._track.period_seconds
        return max(self._last_seconds, -period) + period

    def _add(self, frame: VideoFrame, seconds: float) -> None:
        if frame.is_corrupt:
            self.damage.event(seconds)
        if not self.gathered and seconds >= self.canvas.media.until_seconds:
            self._num_beyond += 1
            self.end_seconds = self._last_end_seconds
            self._show_until(len(self.canvas.times))
        if self.gathered or seconds >= self._track.limit_seconds:
            return
        if seconds < self._last_seconds:
            raise DecodeError(
                self.canvas.media.path, f"time goes backward at {seconds:.3f} s; transcode the file"
            )
        if self._last is None:
            self._last, self._last_seconds = frame, seconds  # nothing earlier exists
        times = self.canvas.times
        self._num_beyond += self._all_shown
        self._show_until(int(np.searchsorted(times, seconds - self.epsilon_seconds, side="left")))
        self._last, self._last_seconds = frame, seconds
        length = (frame.duration or 0) * self._track.tick_seconds or self._track.period_seconds
        self._last_end_seconds = min(seconds + length, self._track.limit_seconds)

    def _show_until(self, row: int) -> None:
        """The last frame is what is on the screen at all wanted times before `row`."""
        if row > self._num_shown:
            assert self._last is not None
            rows = range(self._num_shown, row)
            self.canvas.show(rows, self._last, self._last_seconds)
            self._num_shown = row


@dataclass(slots=True)
class _OutputClock:
    """Times frames by the packet that pushed them out of the decoder, less its constant delay.

    It equals counting, but does not lose step when a packet says "no new frame".
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
