"""Probing: decodes a file once and records its streams, durations, levels and damage for the
manifest."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.packet import Packet
from av.video.frame import VideoFrame

from avmix.decode.audio import channels_of, check_samples, downmixed_channels, mono
from avmix.decode.bitstream import damage_check, parameter_sets
from avmix.decode.container import Media, open_media
from avmix.decode.damage import Damage
from avmix.decode.errors import (
    ClipError,
    DecodeError,
    MediaOpenError,
    TruncatedMediaError,
    UnsupportedMediaError,
)
from avmix.decode.mono_track import cancels
from avmix.decode.pyav import feed_all
from avmix.decode.request import Limits
from avmix.decode.request import Track as AudioTrack
from avmix.decode.selective import is_hidden
from avmix.decode.source import Source, as_file
from avmix.decode.video import Track, open_video_track, period_seconds, quarter_turns
from avmix.media.log_mel_stats import MelTally
from avmix.types import AudioInfo, VideoInfo

_SILENT_PEAK = 1e-4
"""-80 dBFS: dither and codec noise stay below it, everything audible is above."""
_FLOOR_DBFS = -120.0
_LIMITS = Limits()
Check = Literal["fast", "full"]
"""How a file is looked at: its packets and audio, or every frame too."""
_REACH_SECONDS = 0.5
"""Reading goes on for some packets after a window: so long before something that ends reading no
window may end."""
_CUT_SECONDS = 0.5
"""A file is cut off where its header declares so much more than there is."""
_DECLARE = frozenset({"matroska", "flv", "asf"})
"""Containers that declare one length for all streams; mov and avi declare that of each."""


@dataclass(frozen=True, slots=True)
class Bad:
    """A stretch that no window may overlap; seconds on the clip clock."""

    begin_seconds: float
    end_seconds: float
    """Infinite where it goes on to the end of the file."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Contents of a file, and the evidence of damage in it."""

    video: VideoInfo | None
    audio: AudioInfo | None
    bad: tuple[Bad, ...]
    """What damage, another form or an early end takes; of damaged frames only "full" knows."""
    doubts: tuple[str, ...]
    """Signs of damage that packets show, whether or not any frame suffers; each once."""
    is_cut: str
    """Why the file is taken to be cut off; empty where it is not."""
    damaged_audio: str
    """Which audio is lost to damage, and is zeros; empty where none is."""
    stop: ClipError | None
    """What ended reading before the file did."""
    can_be_bared: bool
    """True when damage of frames may be none, which reading "full" and `bare` shows."""


def probe(
    path: Source, audio_track: AudioTrack = None, *, limits: Limits = _LIMITS
) -> tuple[VideoInfo | None, AudioInfo | None]:
    """Probe a whole file: frames are counted from their packets, audio is decoded once.

    `path` may be the bytes of a file, or a file object, as for `decode_clip`; `limits` are what it
    may cost before it is refused.

    A stream that the file does not have is None. `audio_track` is as for `decode_clip`, and noted.
    Raises as `decode_clip` does: OSError, `MediaOpenError` (also where there is neither),
    `TruncatedMediaError` where reading stops with an error, `DecodeError` where the clock starts
    again, a stream yields nothing, or samples that are not finite or beyond `MAX_SAMPLE`,
    `UnsupportedMediaError`.
    """
    with as_file(path, limits) as file:
        found = survey(file, limits=limits, audio_track=audio_track)
        if found.stop is not None:
            raise found.stop
        return found.video, found.audio


def survey(
    path: str,
    check: Check = "fast",
    limits: Limits = _LIMITS,
    *,
    audio_track: AudioTrack = None,
    bare: bool = False,
) -> Survey:
    """Read the whole file once, as decoding does: its packets, its audio, with "full" its frames.

    `audio_track` is as for `decode_clip`, and noted. `bare` leaves out of packets what describes
    frames and is no part of them. Raises as `probe`, but where reading ends early says what came
    before.
    """
    with open_media(path, limits, audio_track=audio_track) as media:
        if media.video is None and media.audio is None:
            raise MediaOpenError(media.path, "has neither a video nor an audio stream")
        if media.is_audio_unknown:
            raise UnsupportedMediaError(
                media.path, "no decoder for its audio stream in this build of libav; transcode it"
            )
        video = (
            None
            if media.video is None
            else _VideoTally(media, scan=_Frames.of(media, check, bare=bare))
        )
        audio = None if media.audio is None else _AudioTally(media)
        stop: ClipError | None = None
        try:
            feed_all(media, video, audio)
        except (TruncatedMediaError, DecodeError) as error:
            if audio is not None and audio.is_broken:
                raise
            stop = error
        if stop is not None and ((video and not video.any_timed) or (audio and not audio.any_seen)):
            raise stop
        found = _survey_of(media, video, audio, stop)
        if found.audio is None or audio_track is None:
            return found
        return replace(found, audio=replace(found.audio, track=_number_of(media)))


def _number_of(media: Media) -> int:
    """Which of the audio tracks of the file is read."""
    assert media.audio is not None
    tracks = [stream.index for stream in media.container.streams.audio]
    return tracks.index(media.audio.index)


def _survey_of(
    media: Media, video: "_VideoTally | None", audio: "_AudioTally | None", stop: ClipError | None
) -> Survey:
    tallies = [tally for tally in (video, audio) if tally is not None]
    bad = [b for tally in tallies for b in tally.bad()]
    if stop is not None:
        at = min(tally.latest_seconds for tally in tallies)
        bad.append(Bad(at - _REACH_SECONDS, math.inf, stop.problem))
    is_cut = _cut_off(media, video, audio)
    doubts = [*(doubt for tally in tallies for doubt in tally.doubts), is_cut]
    if stop is not None:
        doubts.append(stop.problem)
    return Survey(
        video=None if video is None else video.info(),
        audio=None if audio is None else audio.info(),
        bad=tuple(bad),
        doubts=tuple(dict.fromkeys(filter(None, doubts))),
        is_cut=is_cut,
        damaged_audio="" if audio is None else audio.damaged(),
        stop=stop,
        can_be_bared=video is not None and video.scan.can_be_bared,
    )


def _cut_off(media: Media, video: "_VideoTally | None", audio: "_AudioTally | None") -> str:
    """Why a file is taken to have been longer, by what its header declares; empty where it is not.

    Elsewhere libav takes lengths from what is there.
    """
    own, declared, there = media.container.format.name.split(",")[0], None, 0.0
    if own in ("mov", "avi") and video is not None:
        stream = media.video
        assert stream is not None
        assert stream.time_base is not None
        if stream.duration is not None:
            ticks = max(stream.duration, stream.frames if own == "avi" else 0)
            declared, there = float(ticks * stream.time_base), video.length_seconds
    elif own in _DECLARE and all(s in (media.video, media.audio) for s in media.container.streams):
        tallies = [tally for tally in (video, audio) if tally is not None]
        if media.container.duration is not None:
            declared = media.container.duration / av.time_base
            there = max(tally.data_end_seconds for tally in tallies)
    if declared is None or declared <= there + _CUT_SECONDS:
        return ""
    return f"it is cut off: the header declares {declared:.2f} s, the data end at {there:.2f} s"


@dataclass(slots=True)
class _Tally:
    """What the packets of one stream say of their times."""

    media: Media
    gathered: bool = False
    done: bool = False
    """Neither is ever true: the whole file is read."""
    doubts: list[str] = field(default_factory=list)
    data_end_seconds: float = -math.inf
    """Where the last packet ends, on the container's clock."""
    latest_seconds: float = math.inf
    """Time of the packet read last, on the clip clock; infinite where there is none."""
    _begin_seconds: float | None = None

    def _note(self, packet: Packet) -> None:
        """Take the times of a packet that holds data."""
        if packet.is_corrupt:
            self.doubts.append("a packet is incomplete")
        ticks = packet.dts if packet.pts is None else packet.pts
        if ticks is None:
            return
        tick = float(packet.time_base)
        begin, length = ticks * tick, (packet.duration or 0) * tick
        # Where the file does not say how long a packet lasts, it is as long as the one before.
        if not length and self._begin_seconds is not None:
            length = max(begin - self._begin_seconds, 0.0)
        self._begin_seconds = begin
        self.data_end_seconds = max(self.data_end_seconds, begin + length)
        told = ticks if packet.dts is None else packet.dts
        self.latest_seconds = told * tick - self.media.zero_seconds


@dataclass(slots=True)
class _VideoTally(_Tally):
    scan: "_Frames | _Packets" = field(kw_only=True)
    _ticks: list[int] = field(default_factory=list)
    _num_untimed: int = 0
    _last_length: int = 0
    """Ticks for which the packet that is presented last is shown; 0 where it does not say."""
    _first: VideoFrame | None = None

    @property
    def any_timed(self) -> bool:
        """True when there are frames."""
        return bool(self._ticks or self._num_untimed)

    @property
    def length_seconds(self) -> float:
        """From the first packet, or time 0 where that is earlier, to the end of the last."""
        stream = self.media.video
        assert stream is not None
        assert stream.time_base is not None
        if not self._ticks:
            return self._num_untimed * period_seconds(stream)
        tick = float(stream.time_base)
        last = max(self._ticks) * tick + (self._last_length * tick or period_seconds(stream))
        return last - min(min(self._ticks) * tick, self.media.zero_seconds)

    def note_break(self) -> None:
        """Something between the last packet and the next could not be read, or was lost."""
        self.doubts.append("between two packets something cannot be read, or is lost")
        self.scan.note_break()

    def bad(self) -> list[Bad]:
        """What no window may touch."""
        return self.scan.bad()

    def feed(self, packet: Packet) -> None:
        """Take the next packet of the stream; the empty one at the end."""
        stream = self.media.video
        assert stream is not None
        if packet.size:
            self._note(packet)
        if packet.size and not is_hidden(packet, stream):
            ticks = packet.dts if self.media.in_output_order else packet.pts
            if ticks is None:
                self._num_untimed += 1
            else:
                if not self._ticks or ticks > max(self._ticks[-32:]):
                    self._last_length = packet.duration or 0
                self._ticks.append(ticks)
        if packet.size == 0 and packet.dts is not None:
            return  # the frame before is shown again
        frames = self.scan.feed(packet, self._first is None)
        if self._first is None and frames:
            self._first = frames[0]
        self.doubts += self.scan.doubts
        self.scan.doubts.clear()

    def info(self) -> VideoInfo:
        stream = self.media.video
        assert stream is not None
        assert stream.time_base is not None
        if self._first is None:
            raise DecodeError(self.media.path, "no frame could be decoded")
        tick, period = float(stream.time_base), period_seconds(stream)
        times = np.sort(np.array(self._ticks, np.float64)) * tick - self.media.zero_seconds
        # What an edit list cuts away lies before zero; the last frame before the cut is shown.
        times = times[np.append(times[1:] > tick / 2, True)] if len(times) else times
        end = times[-1] + (self._last_length * tick or period) if len(times) else 0.0
        edit = self.media.video_presented
        if edit is not None:
            limit = edit.end_seconds - self.media.zero_seconds
            times = times[(times < limit) | (times <= 0)]
            end = limit if end > limit + edit.slack_seconds else end
        steps = np.diff(times)
        num_frames = len(times) + self._num_untimed
        duration = num_frames * period if self._num_untimed else float(end)
        turns = quarter_turns(self._first)
        size = (self._first.width, self._first.height)
        return VideoInfo(
            fps=num_frames / duration,
            num_frames=num_frames,
            width=size[turns % 2],
            height=size[1 - turns % 2],
            start_seconds=self.media.zero_seconds,
            duration_seconds=duration,
            codec=stream.codec_context.name,
            rotation=turns * 90,
            # Rounding to the tick makes neighbouring steps differ by up to two.
            vfr=bool(len(steps) and np.ptp(steps) > max(2.5 * tick, 0.001)),
        )


@dataclass(slots=True)
class _AudioTally(_Tally):
    is_broken: bool = False
    """True when samples are not finite, or far beyond full scale."""
    _start_seconds: float | None = None
    _rate: int = 0
    _channels: int = 0
    _num_samples: int = 0
    _energy: float = 0.0
    """Energy of the mono mix."""
    _first: float = 0.0
    """Energy of the first channel."""
    _each: float = 0.0
    """The mean over channels."""
    _peak: float = 0.0
    """Peak of all channels."""
    _mel: MelTally = field(default_factory=MelTally)
    _num_damaged: int = 0
    _damaged_seconds: float = 0.0
    """Time of the first damaged place."""
    _others: list[tuple[float, float, int]] = field(default_factory=list)
    """Begin and end of what has another sample rate than the first frame, and that rate."""

    @property
    def any_seen(self) -> bool:
        """True when any audio was decoded."""
        return self._start_seconds is not None

    def note_break(self) -> None:
        """The video says it, where there is one; audio alone is not used."""

    def damaged(self) -> str:
        """Which audio is lost to damage; empty where none is."""
        if not self._num_damaged:
            return ""
        places = "" if self._num_damaged == 1 else f"in {self._num_damaged} places, first "
        return f"its audio is damaged {places}at {self._damaged_seconds:.2f} s: zeros there"

    def bad(self) -> list[Bad]:
        """What no window may touch: where the sample rate is another than at first."""
        return [
            Bad(
                begin - _REACH_SECONDS,
                end + _REACH_SECONDS,
                f"the sample rate changes from {self._rate} to {rate} Hz at {begin:.2f} s",
            )
            for begin, end, rate in self._others
        ]

    def feed(self, packet: Packet) -> None:
        """Take the next packet of the stream; the empty one at the end."""
        if packet.size == 0 and packet.dts is not None:
            return
        if packet.size:
            self._note(packet)
        frames: list[AudioFrame] = []
        is_damaged = packet.is_corrupt
        try:
            frames = [f for f in packet.decode() if isinstance(f, AudioFrame)]
        except av.error.EOFError:
            pass
        except av.error.FFmpegError:
            is_damaged = True  # what remains is counted; nothing but damage is an error below
        if self.media.libav_log.fresh() or is_damaged:
            if not self._num_damaged:
                self._damaged_seconds = max(min(self.latest_seconds, 1e9), 0.0)
                self.doubts.append("its audio is damaged")
            self._num_damaged += 1
        for frame in frames:
            channels, layout = channels_of(frame), frame.layout.name
            if self._is_other(frame):
                continue
            try:
                check_samples(self.media.path, *channels)
            except DecodeError:
                self.is_broken = True
                raise
            wave, each = mono(channels, layout), downmixed_channels(channels, layout)
            if self._start_seconds is None:
                self._start_seconds = float(frame.time or 0.0)
                self._rate, self._channels = frame.sample_rate, frame.layout.nb_channels
            self._num_samples += len(wave)
            self._energy += float(np.sum(wave.astype(np.float64) ** 2))
            powers = np.sum(each.astype(np.float64) ** 2, axis=1)
            self._first += float(powers[0])
            self._each += float(powers.mean())
            # As far as is known by now: a file that cancels does so from its first audio on.
            left = cancels(self._energy, self._each)
            self._mel.feed(np.ascontiguousarray(each[0]) if left else wave, frame.sample_rate)
            self._peak = max(self._peak, float(np.abs(each).max(initial=0.0)))

    def _is_other(self, frame: AudioFrame) -> bool:
        """True when a frame has another sample rate than the first: it is not counted."""
        if not self._rate or frame.sample_rate == self._rate:
            return False
        begin = self.latest_seconds
        if frame.time is not None:
            begin = frame.time - self.media.zero_seconds
        end = begin + frame.samples / frame.sample_rate
        if self._others and begin < self._others[-1][1] + 2 * _REACH_SECONDS:
            first, _, rate = self._others[-1]
            self._others[-1] = (first, end, rate)
        else:
            self.doubts.append(f"the sample rate changes at {begin:.2f} s")
            self._others.append((begin, end, frame.sample_rate))
        return True

    def info(self) -> AudioInfo:
        stream = self.media.audio
        assert stream is not None
        if self._start_seconds is None:
            raise DecodeError(self.media.path, "its audio stream holds no audio that decodes")
        silent = self._peak < _SILENT_PEAK
        lost = not silent and cancels(self._energy, self._each)
        mean = (self._first if lost else self._energy) / max(self._num_samples, 1)
        log_mel_mean, log_mel_std = self._mel.result() or (None, None)
        return AudioInfo(
            rate_hz=self._rate,
            channels=self._channels,
            start_seconds=self._start_seconds,
            duration_seconds=self._num_samples / self._rate,
            codec=stream.codec_context.name,
            rms_dbfs=max(10 * math.log10(mean), _FLOOR_DBFS) if mean > 0 else _FLOOR_DBFS,
            silent=silent,
            mono_cancels=lost,
            log_mel_mean=None if log_mel_mean is None else round(log_mel_mean, 4),
            log_mel_std=None if log_mel_std is None else round(log_mel_std, 4),
        )


@dataclass(slots=True)
class _Packets:
    """The packets of the video, of which only the first frame is decoded."""

    is_broken: Callable[[bytes], bool]
    """For the bytes of a packet."""
    parameters_of: Callable[[bytes], bytes]
    """What the packet of a key frame says of the form of frames."""
    doubts: list[str] = field(default_factory=list)
    can_be_bared: bool = False
    _parameters: bytes = b""

    @classmethod
    def of(cls, media: Media) -> "_Packets":
        """Packets of the video of `media`, which has one."""
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
class _Frames:
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
        self._track = open_video_track(self.media, bare=self.bare)
        self._damage = Damage(to_the_end=self.media.counted)

    @property
    def can_be_bared(self) -> bool:
        """As `SelectiveFrames.can_be_bared`."""
        harmless = self._track.may_be_harmless(only_said=self._damage.only_said)
        return self._damage.found and not self.bare and harmless

    @staticmethod
    def of(media: Media, check: Check, *, bare: bool) -> "_Frames | _Packets":
        """What `check` asks for."""
        return _Frames(media, bare) if check == "full" else _Packets.of(media)

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
        if verdict != "intact":
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
