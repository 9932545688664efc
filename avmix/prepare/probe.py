"""Look at a file once and write down what training would otherwise have to guess."""

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.packet import Packet
from av.video.frame import VideoFrame

from avmix.decode.audio import channels_of, check_samples, heard, mono
from avmix.decode.container import Media, open_media
from avmix.decode.errors import (
    DecodeError,
    MediaOpenError,
    TruncatedMediaError,
    UnsupportedMediaError,
)
from avmix.decode.planned import is_hidden
from avmix.decode.request import Limits, Track
from avmix.decode.source import Source, as_file
from avmix.decode.video import period_seconds, quarter_turns
from avmix.mono import cancels
from avmix.prepare.melstats import MelTally
from avmix.types import AudioInfo, Entry, VideoInfo

_SILENT_PEAK = 1e-4
"""-80 dBFS: dither and codec noise stay below it, everything audible is above."""
_FLOOR_DBFS = -120.0


def probe(
    path: Source,
    audio_track: Track = None,
    *,
    limits: Limits = Limits(),  # noqa: B008  frozen
) -> tuple[VideoInfo | None, AudioInfo | None]:
    """Read the whole file: pictures are counted from their packets, sound is decoded once.

    `path` may be the bytes of a file, or a file object, as for `decode_clip`; `limits` are what it
    may cost before it is refused.

    A stream that the file does not have is None. `audio_track` is as for `decode_clip`, and noted.
    Raises as `decode_clip` does: OSError,
    `MediaOpenError` (also where there is neither), `TruncatedMediaError` where reading stops with
    an error, `DecodeError` where a stream yields nothing, or samples that are not finite or beyond
    `MAX_SAMPLE`, `UnsupportedMediaError`.
    """
    with (
        as_file(path, limits) as file,
        open_media(file, limits, audio_track=audio_track) as media,
    ):
        streams = [s for s in (media.video, media.audio) if s is not None]
        if not streams:
            raise MediaOpenError(media.path, "has neither a video nor an audio stream")
        if media.is_audio_unknown:
            raise UnsupportedMediaError(
                media.path, "no decoder for its audio stream in this build of libav; transcode it"
            )
        video, audio = _VideoTally(media), _AudioTally(media)
        try:
            for packet in media.packets(*streams):
                if media.video is not None and packet.stream.index == media.video.index:
                    video.feed(packet)
                else:
                    audio.feed(packet)
        except av.error.FFmpegError as error:
            raise TruncatedMediaError(
                media.path, f"reading stops early: {error.strerror}; get the file again"
            ) from error
        return (
            None if media.video is None else video.info(),
            None if media.audio is None else _of_track(audio.info(), media, audio_track),
        )


def _of_track(info: AudioInfo, media: Media, wanted: Track) -> AudioInfo:
    if wanted is None:
        return info
    tracks = [stream.index for stream in media.container.streams.audio]
    assert media.audio is not None
    return replace(info, track=tracks.index(media.audio.index))


def entry_of(
    path: str | os.PathLike[str],
    root: str | os.PathLike[str],
    *,
    clip_id: str,
    labels: Sequence[str],
    source_id: str,
) -> Entry:
    """The manifest row of a whole file, from its first picture to the end of its last.

    A file without pictures is as long as its sound. `path` must lie below `root`, else ValueError;
    other errors are those of `probe`.
    """
    relative = Path(path).relative_to(root).as_posix()
    video, audio = probe(path)
    longest = video or audio
    assert longest is not None
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Entry(
        clip_id=clip_id,
        path=relative,
        start_seconds=0.0,
        end_seconds=longest.duration_seconds,
        labels=tuple(labels),
        source_id=source_id,
        video=video,
        audio=audio,
        bytes=os.path.getsize(path),
        sha256=sha256,
    )


@dataclass(slots=True)
class _VideoTally:
    media: Media
    _ticks: list[int] = field(default_factory=list)
    _num_untimed: int = 0
    _last_length: int = 0
    """Ticks for which the packet that is presented last is shown; 0 where it does not say."""
    _first: VideoFrame | None = None

    def feed(self, packet: Packet) -> None:
        stream = self.media.video
        assert stream is not None
        if packet.size and not is_hidden(packet, stream):
            ticks = packet.dts if self.media.in_output_order else packet.pts
            if ticks is None:
                self._num_untimed += 1
            else:
                if not self._ticks or ticks > max(self._ticks[-32:]):
                    self._last_length = packet.duration or 0
                self._ticks.append(ticks)
        if packet.size == 0 and packet.dts is not None:
            return  # the picture before is shown again
        if self._first is None:
            self._first = _first_of(packet)  # pictures are needed only for how they are turned

    def info(self) -> VideoInfo:
        stream = self.media.video
        assert stream is not None
        assert stream.time_base is not None
        if self._first is None:
            raise DecodeError(self.media.path, "no picture could be decoded")
        tick, period = float(stream.time_base), period_seconds(stream)
        times = np.sort(np.array(self._ticks, np.float64)) * tick - self.media.zero_seconds
        # What an edit list cuts away lies before zero; the last picture before the cut is shown.
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
class _AudioTally:
    media: Media
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

    def feed(self, packet: Packet) -> None:
        if packet.size == 0 and packet.dts is not None:
            return
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            return  # what remains is counted; a stream of nothing but damage is an error below
        for frame in frames:
            assert isinstance(frame, AudioFrame)
            channels, layout = channels_of(frame), frame.layout.name
            check_samples(self.media.path, *channels)
            wave, each = mono(channels, layout), heard(channels, layout)
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

    def info(self) -> AudioInfo:
        stream = self.media.audio
        assert stream is not None
        if self._start_seconds is None:
            raise DecodeError(self.media.path, "its audio stream holds no sound that decodes")
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


def _first_of(packet: Packet) -> VideoFrame | None:
    try:
        frames = packet.decode()
    except av.error.FFmpegError:
        return None
    return next((f for f in frames if isinstance(f, VideoFrame)), None)
