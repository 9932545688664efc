"""Stream tallies of a whole file: length, rates, loudness and damage of each stream."""

import math
from dataclasses import dataclass, field

import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.packet import Packet
from av.video.frame import VideoFrame

from avmix.decode.downmix import channels_of, check_samples, downmixed_channels, mono
from avmix.decode.errors import DecodeError
from avmix.decode.mono_track import cancels
from avmix.decode.open_file import Media
from avmix.decode.selective import is_hidden
from avmix.decode.video import period_seconds, quarter_turns
from avmix.media.frame_scan import Bad, FrameScan, PacketScan
from avmix.media.log_mel_stats import MelTally
from avmix.types import AudioInfo, VideoInfo

_SILENT_PEAK = 1e-4
"""-80 dBFS: dither and codec noise stay below it, everything audible is above."""
_FLOOR_DBFS = -120.0
REACH_SECONDS = 0.5
"""Reading goes on for some packets after a window: so long before something that ends reading no
window may end."""


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
    """Of the packet that was read last, on the clip clock; infinite where there is none."""
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
class VideoTally(_Tally):
    """Of the video: the times of its packets, its first frame, and what `scan` finds."""

    scan: "FrameScan | PacketScan" = field(kw_only=True)
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
        """What a manifest holds of it; raises `DecodeError` where no frame was decoded."""
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
class AudioTally(_Tally):
    """Of the audio, all of which is decoded."""

    is_broken: bool = False
    """True when samples are not finite, or far beyond full scale."""
    _start_seconds: float | None = None
    _rate: int = 0
    _channels: int = 0
    _num_samples: int = 0
    _energy: float = 0.0
    """Of the mono mix."""
    _first: float = 0.0
    """Of the first channel."""
    _each: float = 0.0
    """The mean over channels."""
    _peak: float = 0.0
    """Of all channels."""
    _mel: MelTally = field(default_factory=MelTally)
    _num_damaged: int = 0
    _damaged_seconds: float = 0.0
    """Of the first place."""
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
                begin - REACH_SECONDS,
                end + REACH_SECONDS,
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
            # As far as is known by now: a file that cancels does so from its first sound on.
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
        if self._others and begin < self._others[-1][1] + 2 * REACH_SECONDS:
            first, _, rate = self._others[-1]
            self._others[-1] = (first, end, rate)
        else:
            self.doubts.append(f"the sample rate changes at {begin:.2f} s")
            self._others.append((begin, end, frame.sample_rate))
        return True

    def info(self) -> AudioInfo:
        """What a manifest holds of it; raises `DecodeError` where nothing was decoded."""
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
