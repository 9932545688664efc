"""Decoding of a stream that can be read once: a pipe, a camera's output, a file from its start.

What comes out is what comes in, frame after frame and packet of audio after packet, each with its
time; nothing is kept. Damage is found as for files (`Track.decode`).
"""

import math
import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.packet import Packet
from jaxtyping import Float32, UInt8

from avmix.decode.container import FORMATS, decoder_of, read_only
from avmix.decode.downmix import channels_of, check_samples, mono, stereo
from avmix.decode.errors import (
    ClipError,
    DecodeError,
    MediaOpenError,
    TruncatedMediaError,
    UnsupportedMediaError,
)
from avmix.decode.libav_log import LibavLog, capture_libav_log
from avmix.decode.open_file import Media, demuxing
from avmix.decode.request import Limits
from avmix.decode.stream_choice import audio_track_of, default_stream, is_cover
from avmix.decode.video import Canvas, Track, open_video_track

_MOST_BYTES_WITHOUT_PACKET = 64 << 20
"""Data of which none is a packet of the chosen streams: it is garbage from here on."""

_FINE_TICK_SECONDS = 1e-4
_MOST_CUT_OFF_SECONDS = 1e-3


class StalledError(ClipError):
    """Nothing came from the writer of a stream for longer than is waited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFrame:
    """A frame of a stream."""

    image: UInt8[np.ndarray, "h w c"]
    """RGB, upright, its shorter side as asked for."""
    seconds: float
    """On the clock of the container."""
    duration_seconds: float
    is_damaged: bool
    """True where it depends on data that were lost or are damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveAudio:
    """A piece of the audio of a stream, at its own rate."""

    mono: Float32[np.ndarray, " s"]
    sides: Float32[np.ndarray, "2 s"] | None
    """Left and right; None where there is but one channel."""
    rate_hz: int
    seconds: float
    """Of its first sample, on the clock of the container."""


@dataclass(slots=True)
class PipeReader:
    """Bytes of a file descriptor, for libav: limited in time, never sought."""

    descriptor: int
    name: str
    stall_seconds: float
    """How long is waited for the next bytes."""
    num_since_packet: int = 0
    """Bytes since the last packet came out of the demuxer."""
    is_interrupted: bool = False
    """True after Ctrl-C while it waited: libav's callback cannot pass that on."""
    _waits: bool = field(default=sys.platform != "win32")

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size`; none at the end. Raises `StalledError` where nothing
        comes for too long, and `DecodeError` where no packet is found in what comes."""
        if self.is_interrupted:
            return b""
        try:
            if self._waits and not select.select([self.descriptor], [], [], self.stall_seconds)[0]:
                raise StalledError(self.name, f"nothing came for {self.stall_seconds:g} s")
            data = os.read(self.descriptor, size)
        except KeyboardInterrupt:
            self.is_interrupted = True
            return b""
        self.num_since_packet += len(data)
        if self.num_since_packet > _MOST_BYTES_WITHOUT_PACKET:
            raise DecodeError(
                self.name, f"no media packet in the last {_MOST_BYTES_WITHOUT_PACKET >> 20} MiB"
            )
        return data


@dataclass(slots=True)
class _AudioClock:
    """Times of frames of audio, of which libav counts those up that the stream does not time.

    MPEG-TS times every tenth frame or so. Of a pipe libav adds up lengths that it has cut off to
    whole ticks, until it knows the stream: a tenth of a millisecond is lost until the next time.
    """

    _told: float = -math.inf
    _length: float = 0.0
    _counted: float = 0.0

    def time_of(self, told: float, length: float, tick: float) -> float:
        """Time of the next frame, which the container says is at `told`."""
        step = told - self._told - self._length
        self._counted += self._length
        is_counted = tick < _FINE_TICK_SECONDS and abs(step) <= tick
        if not is_counted or abs(told - self._counted) > _MOST_CUT_OFF_SECONDS:
            self._counted = told
        self._told, self._length = told, length
        return self._counted


@dataclass(slots=True)
class LiveSource:
    """An open stream and what it has."""

    reader: PipeReader
    media: Media
    short_side: int
    is_reading_audio: bool
    _log: LibavLog
    _track: Track | None = None
    _canvas: Canvas | None = None
    _shape: tuple[int, int] = (0, 0)
    _is_damaged: bool = False
    _begun: bool = False
    _rate: int = 0
    _clock: _AudioClock = field(default_factory=_AudioClock)

    @property
    def has_video(self) -> bool:
        """True where it has frames that are read."""
        return self._track is not None

    @property
    def has_audio(self) -> bool:
        """True where it has audio that is read."""
        return self.is_reading_audio and self.media.audio is not None

    def __iter__(self) -> Iterator[LiveFrame | LiveAudio]:
        """Frames and audio in the order of the stream, until it ends.

        Raises KeyboardInterrupt after Ctrl-C; `StalledError`; `TruncatedMediaError` where reading
        stops with an error, and `ClipError` for what cannot be supported on the way.
        """
        streams = [s for s in (self.media.video if self.has_video else None,
                               self.media.audio if self.has_audio else None) if s]  # fmt: skip
        try:
            with demuxing(self.reader.name, self.media.limits):
                for packet in self.media.container.demux(*streams):
                    if self.reader.is_interrupted:
                        break
                    self.reader.num_since_packet = 0
                    if packet.stream.type == "video":
                        yield from self._frames(packet)
                    else:
                        yield from self._audio(packet)
                    self._log.forget()  # else hours of a bad stream would fill the memory
        except av.error.FFmpegError as error:
            if not self.reader.is_interrupted:
                raise TruncatedMediaError(
                    self.reader.name, f"reading stops early: {error.strerror}"
                ) from error
        if self.reader.is_interrupted:
            raise KeyboardInterrupt

    def _frames(self, packet: Packet) -> Iterator[LiveFrame]:
        assert self._track is not None
        if packet.size and not self._begun:
            if not packet.is_keyframe:
                return  # what lies before the first key frame cannot be decoded
            self._begun = True
        if packet.size and packet.is_keyframe:
            self._is_damaged = False
        frames, verdict = self._track.decode(packet if packet.size else None)
        self._is_damaged |= verdict != "intact"
        for frame in frames:
            if frame.pts is None:
                continue  # a frame without a time is at none
            seconds = self._track.seconds(frame.pts)
            length = (frame.duration or 0) * self._track.tick_seconds
            yield LiveFrame(
                image=self._image(frame, seconds),
                seconds=seconds,
                duration_seconds=length or self._track.period_seconds,
                is_damaged=self._is_damaged or bool(frame.is_corrupt),
            )

    def _image(self, frame: av.VideoFrame, seconds: float) -> np.ndarray:
        if self._canvas is None or self._shape != (frame.width, frame.height):
            self._canvas = Canvas(self.media, np.zeros(1), self.short_side)
            self._shape = frame.width, frame.height
        if frame.width * frame.height > self.media.limits.max_pixels:
            raise UnsupportedMediaError(self.reader.name, "its frames become too large")
        self._canvas.show([0], frame, seconds)
        assert self._canvas.out is not None
        return self._canvas.out[0].copy()

    def _audio(self, packet: Packet) -> Iterator[LiveAudio]:
        audio = self.media.audio
        assert audio is not None
        frames: list[AudioFrame] = []
        try:
            if not packet.is_corrupt:
                frames = audio.codec_context.decode(packet if packet.size else None)
        except av.error.EOFError:
            pass
        except av.error.FFmpegError:
            return
        if self._log.fresh():
            return  # a gap, not noise
        for frame in frames:
            if frame.pts is None or not frame.samples:
                continue
            if not 0 < frame.sample_rate <= self.media.limits.max_sample_rate:
                raise UnsupportedMediaError(
                    self.reader.name, f"its audio claims {frame.sample_rate} samples a second"
                )
            if self._rate not in (0, frame.sample_rate):
                raise UnsupportedMediaError(
                    self.reader.name,
                    f"the sample rate changes from {self._rate} to {frame.sample_rate} Hz",
                )
            self._rate = frame.sample_rate
            channels, layout = channels_of(frame), frame.layout.name
            check_samples(self.reader.name, *channels)
            sides = stereo(channels, layout) if len(channels) > 1 else None
            tick, length = float(audio.time_base or 0), frame.samples / frame.sample_rate
            yield LiveAudio(
                mono=mono(channels, layout), sides=sides, rate_hz=frame.sample_rate,
                seconds=self._clock.time_of(frame.pts * tick, length, tick),
            )  # fmt: skip


@contextmanager
def open_live(
    descriptor: int,
    name: str,
    *,
    short_side: int,
    modalities: Literal["both", "video", "audio"] = "both",
    stall_seconds: float = 30.0,
    limits: Limits = Limits(),  # noqa: B008  frozen
) -> Iterator[LiveSource]:
    """Context manager: read the stream behind a file descriptor, which stays open.

    The containers are those of files; nothing but the descriptor is read. Raises `MediaOpenError`
    where it is no accepted media stream, `StalledError` where nothing comes for `stall_seconds`,
    `UnsupportedMediaError` where it is more than `limits` allow; KeyboardInterrupt.
    """
    reader = PipeReader(descriptor, name, stall_seconds)
    with capture_libav_log() as log:
        try:
            container = av.open(
                reader, mode="r",
                container_options={"format_whitelist": FORMATS, "protocol_whitelist": "",
                                   "max_streams": str(limits.max_streams)},
                metadata_errors="replace",
            )  # fmt: skip
        except (av.error.FFmpegError, ValueError, OverflowError) as error:
            if reader.is_interrupted:
                raise KeyboardInterrupt from None
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise MediaOpenError(
                name,
                f"cannot be opened as a stream ({reason}); MPEG-TS and Matroska can be read from "
                "a pipe, mp4 only in fragments",
            ) from error
        with container:
            if reader.is_interrupted:
                raise KeyboardInterrupt
            yield _source(reader, container, log, short_side, modalities, limits)


def _source(
    reader: PipeReader,
    container: InputContainer,
    log: LibavLog,
    short_side: int,
    modalities: Literal["both", "video", "audio"],
    limits: Limits,
) -> LiveSource:
    video = audio = None
    if modalities != "audio":
        frames = [s for s in container.streams.video if not is_cover(s)]
        video = default_stream(reader.name, frames)
    if modalities != "video":
        audio = audio_track_of(reader.name, list(container.streams.audio), None)
        audio = None if audio is None or audio.codec_context is None else audio
    if video is None and audio is None:
        raise MediaOpenError(reader.name, f"has no stream to read of modalities {modalities}")
    read_only(reader.name, container, video, audio, limits)
    endless = Limits(max_pixels=limits.max_pixels, max_sample_rate=limits.max_sample_rate,
                     max_clip_bytes=limits.max_clip_bytes, seconds=math.inf)  # fmt: skip
    media = Media(
        path=reader.name, container=container, video=video, audio=audio, is_audio_unknown=False,
        decoder=None if video is None else decoder_of(video), zero_seconds=0.0,
        video_presented=None, audio_presented=None, seek_back_seconds=(), in_output_order=False,
        counted=False, damaged_at_start=False, pending=[], libav_log=log, limits=endless,
        began_at=time.monotonic(), until_seconds=math.inf,
    )  # fmt: skip
    track = None if video is None else open_video_track(media)
    log.forget()
    return LiveSource(reader=reader, media=media, short_side=short_side,
                      is_reading_audio=audio is not None, _log=log, _track=track)  # fmt: skip
