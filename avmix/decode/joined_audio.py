"""A video file and a separate audio file, joined in memory into one file that is read as any
other."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from heapq import merge

import av
import av.error
from av.audio.resampler import AudioResampler
from av.packet import Packet

from avmix.decode.container import open_media
from avmix.decode.errors import (
    ClipError,
    MediaOpenError,
    NoAudioStreamError,
    NoVideoStreamError,
    TruncatedMediaError,
    UnsupportedMediaError,
)
from avmix.decode.memory_file import memory_file
from avmix.decode.open_file import Media
from avmix.decode.request import Limits

APART_SECONDS, APART_SHARE = 0.5, 0.1
"""Lengths do not agree where they differ by more than both of these."""
_CODECS = {"s16": ("pcm_s16le", 2), "flt": ("pcm_f32le", 4)}


@dataclass(frozen=True, slots=True)
class Joined:
    """A media file in memory."""

    data: bytes
    is_joined: bool
    """False where the video file has audio of its own: then `data` is that file, unchanged."""


def join_audio(name: str, video: bytes, audio: bytes, limits: Limits) -> Joined:
    """One file of the video of `video` and the audio of `audio`, where `video` has none itself.

    Packets of the video are copied; the audio is decoded and stored as PCM in Matroska, its first
    sample at the first presented frame, because a separate audio file says nothing of where it
    began. Errors are about `name`, and as those of `open_media`; `UnsupportedMediaError` where the
    lengths of the two do not agree, and where frames carry no times or an edit list hides some.
    """
    with memory_file() as (path, copy):
        copy.write(video)
        copy.flush()
        try:
            with open_media(path, limits) as media:
                if media.audio is not None or media.is_audio_unknown:
                    return Joined(video, is_joined=False)
                if media.video is None:
                    raise NoVideoStreamError(name, "has no video stream")
                return Joined(_joined(name, media, audio, limits), is_joined=True)
        except ClipError as error:
            error.path = name  # not the copy
            error.args = (name, error.problem)
            raise
        except av.error.FFmpegError as error:
            raise TruncatedMediaError(
                name, f"cannot be joined with its audio: {error.strerror}"
            ) from error


def _joined(name: str, media: Media, audio: bytes, limits: Limits) -> bytes:
    assert media.video is not None
    if media.in_output_order:
        raise UnsupportedMediaError(
            name, "its frames carry no times, so that its separate audio cannot be joined"
        )
    packets = [packet for packet in media.packets(media.video) if packet.size]
    begin, end = media.zero_seconds, _end_of(name, packets, media.zero_seconds)
    out = io.BytesIO()
    with memory_file() as (path, copy):
        copy.write(audio)
        copy.flush()
        with (
            open_media(path, limits) as separate,
            av.open(out, "w", format="matroska", options={"fflags": "+bitexact"}) as file,
        ):
            if separate.audio is None:
                raise NoAudioStreamError(name, "its separate audio has no audio stream")
            rate, kind = separate.audio.rate, _kind(separate)
            if rate > limits.max_sample_rate:
                raise UnsupportedMediaError(name, f"its audio has {rate} samples / second")
            frames = file.add_stream_from_template(media.video)
            samples = file.add_stream(_CODECS[kind][0], rate=rate)
            samples.layout = separate.audio.layout  # type: ignore[attr-defined]
            # Bytes of a sample of all channels, against the limit of what is decoded.
            size = _CODECS[kind][1] * separate.audio.channels
            most = limits.max_clip_bytes // max(size, 1)
            wave: list[Packet] = []
            num = 0
            for frame in _decoded(separate, kind, rate):
                frame.pts, frame.time_base = num, Fraction(1, rate)
                num += frame.samples
                if num > most:
                    raise UnsupportedMediaError(name, "its separate audio is larger than the limit")
                wave += samples.encode(frame)  # type: ignore[attr-defined]
            wave += samples.encode(None)  # type: ignore[attr-defined]
            _check_lengths(name, end - begin, num / rate)
            for packet in wave:
                assert packet.pts is not None
                packet.pts = packet.dts = packet.pts + round(begin / packet.time_base)
                packet.stream = samples
            for packet in packets:
                packet.stream = frames
            file.mux(list(merge(packets, wave, key=_decoding_seconds)))
    return out.getvalue()


def _kind(separate: Media) -> str:
    """The PCM that holds the samples of a decoder without loss, or nearly."""
    assert separate.audio is not None
    return "s16" if separate.audio.format.name in ("u8", "u8p", "s16", "s16p") else "flt"


def _decoded(separate: Media, kind: str, rate: int) -> Iterator[av.AudioFrame]:
    assert separate.audio is not None
    resampler = AudioResampler(format=kind, layout=separate.audio.layout, rate=rate)
    for packet in separate.packets(separate.audio):
        for frame in packet.decode():
            yield from resampler.resample(frame)  # type: ignore[arg-type]


def _end_of(name: str, packets: list[Packet], zero_seconds: float) -> float:
    """Where the last frame ends, on the clock of the container."""
    if any(packet.pts is None or packet.dts is None for packet in packets):
        raise UnsupportedMediaError(
            name, "some of its frames carry no times, so that its separate audio cannot be joined"
        )
    times = [(float(p.pts * p.time_base), float((p.duration or 0) * p.time_base)) for p in packets]  # type: ignore[operator]
    if not times:
        raise MediaOpenError(name, "its video has no packets")
    if min(times)[0] < zero_seconds - 1e-3:
        raise UnsupportedMediaError(
            name, "an edit list hides its first frames, so that its audio cannot be joined"
        )
    return max(start + length for start, length in times)


def _check_lengths(name: str, video_seconds: float, audio_seconds: float) -> None:
    apart = abs(video_seconds - audio_seconds)
    if apart > max(APART_SECONDS, APART_SHARE * video_seconds):
        raise UnsupportedMediaError(
            name,
            f"its separate audio lasts {audio_seconds:.2f} s, its video {video_seconds:.2f} s: "
            "which seconds belong together cannot be known",
        )


def _decoding_seconds(packet: Packet) -> float:
    assert packet.dts is not None
    return float(packet.dts * packet.time_base)
