"""Damage scan of a video: of its packets alone, or of every decoded frame."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import av.error
from av.packet import Packet
from av.video.frame import VideoFrame

from avmix.decode.bitstream import damage_check, parameter_sets
from avmix.decode.damage import Damage
from avmix.decode.open_file import Media
from avmix.decode.video import Track, track_of

Check = Literal["fast", "full"]
"""How a file is looked at: its packets and audio, or every frame too."""


@dataclass(frozen=True, slots=True)
class Bad:
    """A stretch that no window may touch; seconds on the clip clock."""

    begin_seconds: float
    end_seconds: float
    """Infinite where it goes on to the end of the file."""
    reason: str


@dataclass(slots=True)
class PacketScan:
    """The packets of the video, of which only the first frame is decoded."""

    is_broken: Callable[[bytes], bool]
    """For the bytes of a packet."""
    parameters_of: Callable[[bytes], bytes]
    """What the packet of a key frame says of the form of frames."""
    doubts: list[str] = field(default_factory=list)
    can_be_bared: bool = False
    _parameters: bytes = b""

    @classmethod
    def of(cls, media: Media) -> "PacketScan":
        """Of the video of `media`, which has one."""
        assert media.video is not None
        context = media.video.codec_context
        extradata = context.extradata or b""
        return cls(damage_check(context.name, extradata), parameter_sets(context.name, extradata))

    def note_break(self) -> None:
        """Nothing is decoded."""

    def bad(self) -> list[Bad]:
        """Of damaged frames packets do not tell."""
        return []

    def feed(self, packet: Packet, is_wanted: bool) -> list[VideoFrame]:
        """Look at a packet; what the decoder gives for it, where a frame is wanted."""
        if packet.size:
            data = bytes(packet)
            if self.is_broken(data):
                self.doubts.append("a packet holds bytes that no encoder writes")
            if packet.has_sidedata("new_extradata"):
                self.doubts.append("the form of its frames changes")
            if packet.is_keyframe and (parameters := self.parameters_of(data)):
                if self._parameters and parameters != self._parameters:
                    self.doubts.append("the form of its frames changes")
                self._parameters = parameters
        return _decoded(packet) if is_wanted else []


@dataclass(slots=True)
class FrameScan:
    """Every frame of the video, decoded as windows are."""

    media: Media
    bare: bool
    doubts: list[str] = field(default_factory=list)
    _track: Track = field(init=False)
    _damage: Damage = field(init=False)
    _before_seconds: float = -math.inf
    """Time of the last packet."""
    _is_broken: bool = False
    """True when something before the next packet could not be read."""
    _size: tuple[int, int] | None = None
    _others: list[tuple[float, float, str]] = field(default_factory=list)
    """Begin and end of what has another size than the first frame, and that size."""
    _last_out: int | None = None

    def __post_init__(self) -> None:
        """Set up what follows from the stream."""
        self._track = track_of(self.media, bare=self.bare)
        self._damage = Damage(to_the_end=self.media.counted)

    @property
    def can_be_bared(self) -> bool:
        """As `SelectiveFrames.can_be_bared`."""
        harmless = self._track.may_be_harmless(only_said=self._damage.only_said)
        return self._damage.found and not self.bare and harmless

    @staticmethod
    def of(media: Media, check: Check, *, bare: bool) -> "FrameScan | PacketScan":
        """What `check` asks for."""
        return FrameScan(media, bare) if check == "full" else PacketScan.of(media)

    def note_break(self) -> None:
        """Something between the last packet and the next could not be read, or was lost."""
        self._is_broken = True

    def bad(self) -> list[Bad]:
        """What no window may touch."""
        if self._is_broken:
            self._break(self._before_seconds + 1)
        found = [
            Bad(begin, end, f"frames are damaged at {max(begin, 0.0):.2f} s")
            for begin, end in self._damage.stretches()
        ]
        return found + [
            Bad(begin, end, f"the size of its frames changes to {size} at {begin:.2f} s")
            for begin, end, size in self._others
        ]

    def feed(self, packet: Packet, is_wanted: bool) -> list[VideoFrame]:
        """Decode a packet; the frames that come of it."""
        ticks = packet.dts if self.media.in_output_order or packet.pts is None else packet.pts
        at = max(self._before_seconds, 0.0) if ticks is None else self._track.seconds(ticks)
        if packet.size:
            if self._is_broken:
                self._break(at)
            self._damage.packet(at, packet.is_keyframe)
            self._before_seconds = at
        elif self._is_broken:
            self._break(self._before_seconds + 1)
        frames, verdict = self._track.decode(packet if packet.size else None)
        if verdict != "sound":
            self._damage.event(at, only_said=verdict == "said")
            self.doubts.append("frames are damaged")
        for frame in frames:
            self._look(frame, at)
        own = self._track.decoder is self._track.stream.codec_context
        return frames if own or not is_wanted else _decoded(packet)

    def _break(self, at: float) -> None:
        """Note that what comes between the last packet and the next, at `at`, is lost."""
        self._is_broken = False
        before = self._before_seconds
        self._damage.event(min(at, before + 1), index=self._damage.num_packets,
                           since_seconds=before)  # fmt: skip

    def _look(self, frame: VideoFrame, at: float) -> None:
        """Look at a frame that came out of the decoder."""
        if not self.media.in_output_order and frame.pts is not None:
            at = self._track.seconds(frame.pts)
            if self._last_out is not None and frame.pts < self._last_out:
                self.doubts.append("its frames do not come in the order of their times")
            self._last_out = frame.pts
        if frame.is_corrupt:
            self._damage.event(at)
            self.doubts.append("frames are damaged")
        size = (frame.width, frame.height)
        self._size = self._size or size
        if size != self._size:
            end = at + self._track.period_seconds
            name = f"{size[0]}x{size[1]}"
            if self._others and self._others[-1][2] == name:
                self._others[-1] = (self._others[-1][0], max(end, self._others[-1][1]), name)
            else:
                self.doubts.append("the size of its frames changes")
                self._others.append((at, end, name))


def _decoded(packet: Packet) -> list[VideoFrame]:
    """What the stream's own decoder gives for a packet."""
    try:
        return [f for f in packet.decode() if isinstance(f, VideoFrame)]
    except av.error.FFmpegError:
        return []
