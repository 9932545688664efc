"""Selective frame decoding, the fast path: scan packets first, then decode only the groups that are
needed.

Packets carry the time of their frame, so which frames are wanted is known before one is
decoded: those from the keyframe before each, less the ones that no other frame needs.
"""

from bisect import bisect_right
from dataclasses import dataclass, field

import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from jaxtyping import Bool, Float64, Int64

from avmix.decode.damage import Damage
from avmix.decode.decoder_state import DecoderState, must_be_decoded
from avmix.decode.errors import DecodeError, UnsupportedMediaError
from avmix.decode.video import Canvas, SeekMissed, Track, open_video_track

_SKIPPABLE = {"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"}
"""Decoders that can leave out a frame that no other refers to, and change nothing else."""
_REORDERING = {*_SKIPPABLE, "vc1", "wmv3", "rv30", "rv40", "cavs", "vvc"}
"""Decoders that return frames in another order than they take packets."""
MAX_REORDERED = 17
"""Packets after which a frame has come out of any decoder: 16 frames wait in the largest buffer."""
_EARLIER_SECONDS = 1.0
"""By how much earlier decoding begins where it has to show whether there is damage."""
_GAP_SECONDS = 1.0
"""Without a new frame: beside damage it means that data are missing."""
_WORTH_A_RESTART = 4
"""So many packets between two needed stretches, and the decoder starts again after them."""


@dataclass(slots=True)
class SelectiveFrames:
    """Fills a canvas from packets that all have their times.

    Every method raises `SeekMissed` where they do not, or where reading began too late.
    """

    canvas: Canvas
    from_start: bool
    """True when the first packet is the first of the file: then nothing can be missing before."""
    first: Packet | None = None
    """The first packet of the stream, where reading begins farther on."""
    since_seconds: float = np.inf
    """Where given, all is decoded from the key frame before it on, nothing is left out: a decoder
    that begins right before a window reports errors of frames that it did not see."""
    bare: bool = False
    """True to leave out of packets what describes frames and is no part of them."""
    damage: Damage = field(init=False)
    gathered: bool = False
    """True when every packet that can matter has been seen."""
    end_seconds: float = np.inf
    """End of the last frame; infinite while frames after the last wanted time exist."""
    _track: Track = field(init=False)
    _since: float = field(init=False)
    """Decoding has to begin with a key frame at or before this time, seconds on the clip clock."""
    _until: float = field(init=False)
    """Frames that begin after this time are not wanted, seconds on the clip clock."""
    _held: list[Packet] = field(default_factory=list)
    _dropped: bool = False
    """True when packets before the first keyframe were left out."""
    _num_bytes: int = 0
    _breaks: list[int] = field(default_factory=list)
    """Before which of the held packets something could not be read."""
    _decoder_state: DecoderState = field(default_factory=DecoderState)
    _is_reordered: bool = False
    """True when the packets show that their times are those of presentation, or both are one."""
    _latest: int | None = None
    """The latest time of presentation of any packet so far, in ticks."""
    _num_beyond: int = 0
    """Packets held to see in which order the decoder returns the ones before."""
    _last_out: int | None = None
    """Time of the frame that came last out of the decoder in this stretch, in ticks."""
    _contradicted: bool = False
    """True when the decoder returned frames in another order than that of their times."""
    _can_begin_earlier: bool = False
    """True when there are frames before the ones that were decoded."""

    def __post_init__(self) -> None:
        """Set up what follows from the stream."""
        self._track = open_video_track(self.canvas.media, bare=self.bare)
        self.damage = Damage(to_the_end=self.canvas.media.counted)
        self._is_reordered = not may_reorder(self._track.stream)
        first, last = (float(at) for at in self.canvas.times[[0, -1]])
        self._since = min(first + self.epsilon_seconds, self.since_seconds)
        self._until = min(last, self.canvas.media.until_seconds) + self.epsilon_seconds
        if self.first is not None:
            self._decoder_state.note(self.first)

    @property
    def epsilon_seconds(self) -> float:
        """How late a frame may be and still count as shown."""
        return self._track.epsilon_seconds

    @property
    def any_seen(self) -> bool:
        """True when the file has video here."""
        return bool(self._held)

    @property
    def can_be_bared(self) -> bool:
        """True when decoding `bare` can show whether what tells of damage is about frames."""
        return not self.bare and self._track.may_be_harmless(only_said=self.damage.only_said)

    @property
    def earlier_seconds(self) -> float | None:
        """From where on to decode to see whether damage is that of a late beginning only; None
        where all that lies before was decoded."""
        return self._seconds(self._held[0]) - _EARLIER_SECONDS if self._can_begin_earlier else None

    def feed(self, packet: Packet) -> None:
        """Hold the next packet, or only it where decoding may begin with it as well."""
        size, pts, is_key = packet.size, packet.pts, packet.is_keyframe
        if self.gathered or (size == 0 and packet.dts is not None):
            return
        if size == 0:
            self.gathered = True
            self._find_end()
            return
        if pts is None:
            raise SeekMissed
        self._decoder_state.note(packet)
        if is_key:
            self._decoder_state.give(packet)
        if self._latest is None or pts > self._latest:
            self._latest = pts
        elif pts < self._latest:
            self._is_reordered = True
        if is_key and self._track.seconds(pts) <= self._since:
            self._held.clear()
            self._breaks.clear()
            self._num_bytes = 0
        elif not self._held and is_key and (self._dropped or not self.from_start):
            raise SeekMissed  # no keyframe in time
        elif not self._held and not is_key:
            self._dropped = True
            return
        self._held.append(packet)
        self._num_bytes += size
        limit = self.canvas.media.limits.max_held_bytes
        if self._num_bytes > limit:
            raise UnsupportedMediaError(
                self.canvas.media.path,
                f"this window needs more than {limit >> 20} MiB of compressed frames; transcode "
                "the file with more keyframes",
            )
        self.gathered = self._is_past(packet)

    def note_break(self) -> None:
        """Something between the last packet and the next could not be read, or was lost."""
        self._breaks.append(len(self._held))

    def paint(self, needed: Bool[np.ndarray, " t"]) -> None:
        """Decode, and show on the canvas what is on the screen at the times that are `needed`."""
        if not self._held:
            raise SeekMissed
        seconds = np.array([self._seconds(p) for p in self._held])
        is_key = [packet.is_keyframe for packet in self._held]
        for at, is_key_frame in zip(seconds.tolist(), is_key, strict=True):
            self.damage.packet(at, is_key_frame)
        for index in self._breaks:
            before = float(seconds[index - 1]) if index else -np.inf
            at = float(seconds[index]) if index < len(seconds) else np.inf
            self.damage.event(min(at, before + 1), index=index, since_seconds=before)
        shown = self._shown(seconds)
        rows: dict[int, list[int]] = {}
        for row in np.flatnonzero(needed).tolist():
            rows.setdefault(int(shown[row]), []).append(row)
        stretches = _stretches(sorted(rows), is_key, seconds.tolist())
        if self.since_seconds < np.inf:
            stretches = [(0, max(rows))]
        begins_at_first = self.since_seconds < np.inf or seconds[0] <= self.epsilon_seconds
        self._can_begin_earlier = not begins_at_first or len(stretches) > 1
        self._decode(stretches, rows, seconds)
        if self._contradicted and not self.damage.found:
            raise DecodeError(
                self.canvas.media.path,
                "its times contradict the order of its frames: they are those of decoding; "
                "transcode the file, or write it again from its source",
            )
        if np.isnan(self.canvas.seconds[needed]).any() and not self.damage.found:
            raise SeekMissed  # frames and packets do not correspond

    def _shown(self, seconds: Float64[np.ndarray, " p"]) -> Int64[np.ndarray, " t"]:
        """For each wanted time the packet whose frame is on the screen."""
        visible = np.ones(len(self._held), np.bool_)
        if self._track.stream.codec_context.name == "vp8":
            visible = np.array([not is_hidden(p, self._track.stream) for p in self._held])
        visible &= (seconds < self._track.limit_seconds) | (seconds == seconds.min())
        indices = np.flatnonzero(visible)
        indices = indices[np.argsort(seconds[indices], kind="stable")]
        in_order = seconds[indices]
        if not len(indices) or (np.diff(in_order) <= 0).any():
            raise SeekMissed
        place = (
            np.searchsorted(in_order, self.canvas.times + self.epsilon_seconds, side="right") - 1
        )
        if place.min() < 0 and not self.from_start:
            raise SeekMissed
        return indices[np.maximum(place, 0)]

    def _decode(
        self,
        stretches: list[tuple[int, int]],
        rows: dict[int, list[int]],
        seconds: Float64[np.ndarray, " p"],
    ) -> None:
        context = self._track.decoder
        # Where no packet shows that frames are reordered, but the decoder may do so, all is
        # decoded, and more than is wanted, to see whether frames come out as their times ascend.
        can_skip = context.name in _SKIPPABLE and self._is_reordered
        can_skip &= self.since_seconds == np.inf
        if not self._is_reordered:
            last = len(self._held) - 1
            stretches = [(low, min(high + MAX_REORDERED, last)) for low, high in stretches]
        wanted = {self._held[index].pts: index for index in rows}
        at = seconds.tolist()
        was_skipping: bool | None = None
        if self.first is not None and must_be_decoded(self.first, self._track.stream):
            self._track.decode(self.first)
        for begin, end in stretches:
            if context.is_open:
                context.flush_buffers()
            self._last_out = None
            for index in range(begin, end + 1):
                # Frames before the first in time refer to what was not decoded.
                if at[index] < at[begin]:
                    continue
                skipping = can_skip and index not in rows
                if skipping != was_skipping:
                    context.skip_frame = "NONREF" if skipping else "DEFAULT"
                    was_skipping = skipping
                self._decode_one(self._held[index], index, wanted, rows, at)
            self._decode_one(None, end, wanted, rows, at)

    def _decode_one(
        self,
        packet: Packet | None,
        index: int,
        wanted: dict[int | None, int],
        rows: dict[int, list[int]],
        seconds: list[float],
    ) -> None:
        """Give the decoder a packet, None at the end, and show what comes out."""
        frames, verdict = self._track.decode(packet)
        if verdict != "intact":
            self.damage.event(seconds[index], index=index, only_said=verdict == "said")
        for frame in frames:
            pts = frame.pts
            if pts is not None:
                self._contradicted |= self._last_out is not None and pts < self._last_out
                self._last_out = pts
            which = wanted.get(pts)
            if frame.is_corrupt:
                own = seconds[index] if pts is None else self._track.seconds(pts)
                self.damage.event(own, index=index if which is None else which)
            if which is not None:
                self.canvas.show(rows[which], frame, seconds[which])

    def _find_end(self) -> None:
        """The file is read to its end: the last frame is known."""
        if not self._held:
            return
        last = max(self._held, key=lambda p: p.pts or 0)
        length = (last.duration or 0) * self._track.tick_seconds or self._track.period_seconds
        self.end_seconds = self._seconds(last) + length

    def end(self) -> float:
        """End of the video on the clip clock, edit lists included; infinite where not reached."""
        edit = self.canvas.media.video_presented
        slack = 0.0 if edit is None else edit.slack_seconds
        return (
            self._track.limit_seconds
            if self.end_seconds > self._track.limit_seconds + slack
            else self.end_seconds
        )

    def gap(self, begin_seconds: float, end_seconds: float) -> tuple[float, float] | None:
        """The first stretch of more than `_GAP_SECONDS` without a new frame that reaches into the
        seconds [begin, end), of the packets that were read."""
        seconds = np.sort([self._seconds(packet) for packet in self._held])
        for low, high in zip(seconds[:-1].tolist(), seconds[1:].tolist(), strict=True):
            if high - low > _GAP_SECONDS and low < end_seconds and high > begin_seconds:
                return low + self._track.period_seconds, high
        return None

    def _is_past(self, packet: Packet) -> bool:
        """True when no later packet can hold a frame that is wanted."""
        dts = packet.dts
        if dts is None:  # Matroska, for some packets after a seek
            is_past = self._seconds(packet) > self._until + 1
        else:
            is_past = self._track.seconds(dts) > self._until
        self._num_beyond += is_past
        return is_past and (self._is_reordered or self._num_beyond > MAX_REORDERED)

    def _seconds(self, packet: Packet) -> float:
        assert packet.pts is not None
        return self._track.seconds(packet.pts)


def _stretches(
    wanted: list[int], is_key: list[bool], seconds: list[float]
) -> list[tuple[int, int]]:
    """Which packets, in the order of decoding, the wanted ones need: first and last of each run.

    `wanted` ascend.
    """
    keys = [at for at, is_key_frame in enumerate(is_key) if is_key_frame]
    runs: list[tuple[int, int]] = []
    for index in wanted:
        place = bisect_right(keys, index) - 1
        while place >= 0 and seconds[keys[place]] > seconds[index]:
            place -= 1
        if place < 0:
            raise SeekMissed
        begin = keys[place]
        if runs and begin <= runs[-1][1] + _WORTH_A_RESTART:
            runs[-1] = (min(runs[-1][0], begin), index)
        else:
            runs.append((begin, index))
    return runs


def may_reorder(stream: VideoStream) -> bool:
    """True when the header says that frames are shown in another order than they are decoded."""
    context = stream.codec_context
    return context.name in _REORDERING and context.has_b_frames


def is_hidden(packet: Packet, stream: VideoStream) -> bool:
    """True for frames that only others refer to: VP8 packs them like any other."""
    return stream.codec_context.name == "vp8" and not bytes(packet)[0] >> 4 & 1
