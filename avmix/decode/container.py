"""Opening of containers: limits, choice of streams, and the origin of the clip clock."""

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import av
import av.error
from av.audio.stream import AudioStream
from av.codec import codecs_available
from av.codec.context import CodecContext
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from avmix.decode.edit_lists import Presented, presented
from avmix.decode.errors import MediaOpenError, TruncatedMediaError, UnsupportedMediaError
from avmix.decode.file_head import check_matroska, checked_head, is_mp4
from avmix.decode.libav_log import LibavLog, capture_libav_log
from avmix.decode.open_file import Media, demuxing, too_slow
from avmix.decode.request import Limits, Track
from avmix.decode.stream_choice import audio_track_of, default_stream, is_cover

# Playlists, concat scripts and image sequences can make libav read other files: none is here.
FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,wav,mp3,flac"
_SEEK_BACK_SECONDS = {"mov": (0.3, 3.0, 10.0), "matroska": (0.3, 3.0, 10.0), "mpegts": (2.5, 10.0)}
"""Demuxers that can seek, and how far before a window to aim; where that is not enough, farther.
The last has no index and lands between keyframes. Every other one is read from its beginning."""
_MAX_PENDING_BYTES = 32 << 20
"""Read at most, while a file is opened, to find its first key frame."""
_GUESSED = frozenset({"mpeg1video", "mpeg2video"})
_VP9 = "libvpx-vp9"
_NOTICE = "crccheck+bitstream+buffer"
"""Checks that libav leaves out by default: checksums, and bits that are left over or missing at the
end of a frame, which is how most damage of older codecs shows."""
_OPTIONS = {"ac3": {"cons_noisegen": "1"}, "eac3": {"cons_noisegen": "1"}}
"""Options of decoders: the noise that AC-3 leaves to them follows from the frame that it belongs
to, not from how many were decoded before. libav's decoder of AAC has no such option."""


@contextmanager
def open_media(
    path: str,
    limits: Limits = Limits(),  # noqa: B008  frozen
    origin: Literal["video", "container"] = "video",
    *,
    began_at: float | None = None,
    until_seconds: float = math.inf,
    audio_track: Track = None,
) -> Iterator[Media]:
    """Context manager: open `path` for reading.

    `began_at` is where the limit of time begins, on the monotonic clock; None for now.
    `until_seconds` is where the file is taken to end, on the clip clock.

    Raises OSError as the system does, `MediaOpenError` when it is not an accepted media file,
    `UnsupportedMediaError` when it is more than `limits` allow, or cannot be decoded in sync,
    `NoAudioStreamError` when there is audio, and no such `audio_track`.
    """
    head = checked_head(path)
    edits = presented(path)
    check_matroska(path)
    began_at = time.monotonic() if began_at is None else began_at
    left_seconds = began_at + limits.seconds - time.monotonic()
    if left_seconds <= 0:
        raise too_slow(path, limits)
    with capture_libav_log() as libav_log:
        try:
            container = av.open(
                # With the prefix a name such as `http:x.mp4` or `-` is a file name, nothing else.
                "file:" + os.path.abspath(path),
                mode="r",
                format="mov" if is_mp4(head) else None,
                container_options={
                    "format_whitelist": FORMATS,
                    "protocol_whitelist": "file",
                    # The simple edit lists keep the frames before an edit, with times below zero,
                    # so that the frame on the screen at the edit is there and the audio is not
                    # shifted.
                    "advanced_editlist": "0",
                    "max_streams": str(limits.max_streams),
                },
                metadata_errors="replace",
                # Of opening, and of each read: one may go through gigabytes for the next packet.
                timeout=left_seconds,
            )
        except av.error.ExitError as error:
            raise too_slow(path, limits) from error
        except (av.error.FFmpegError, ValueError, OverflowError) as error:
            if time.monotonic() - began_at > limits.seconds:
                raise too_slow(path, limits) from error
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise MediaOpenError(
                path,
                f"cannot be opened as media ({reason}); it may be incomplete, or of another type "
                "than its name suggests",
            ) from error
        with container:
            if time.monotonic() - began_at > limits.seconds:
                raise too_slow(path, limits)  # what was not read yet would seem not to be there
            yield _describe(
                path,
                container,
                libav_log,
                limits,
                origin,
                edits,
                began_at,
                until_seconds,
                audio_track,
            )


def _describe(
    path: str,
    container: InputContainer,
    libav_log: LibavLog,
    limits: Limits,
    origin: Literal["video", "container"],
    edits: Mapping[int, Presented],
    began_at: float,
    until_seconds: float,
    audio_track: Track,
) -> Media:
    names = set(container.format.name.split(","))
    frames = [s for s in container.streams.video if not is_cover(s)]
    video = default_stream(path, frames)
    # Without a decoder for the audio the frames are as good as ever.
    track = audio_track_of(path, list(container.streams.audio), audio_track)
    is_audio_unknown = track is not None and track.codec_context is None
    audio = None if is_audio_unknown else track
    read_only(path, container, video, audio, limits)
    in_output_order = "avi" in names
    pending: list[Packet] = []
    if video is not None and not in_output_order:
        pending = _to_first_key(path, limits, container, video, audio)
        _check_times(path, names, video, pending)
    counted = bool(names & {"avi", "ogg"})
    return Media(
        path=path,
        container=container,
        video=video,
        audio=audio,
        is_audio_unknown=is_audio_unknown,
        decoder=None if video is None else decoder_of(video),
        zero_seconds=0.0
        if in_output_order
        else _zero_seconds(
            container, video, pending, origin, None if video is None else edits.get(video.id)
        ),
        video_presented=None if video is None else edits.get(video.id),
        audio_presented=None if audio is None else edits.get(audio.id),
        seek_back_seconds=next(
            (_SEEK_BACK_SECONDS[n] for n in names & set(_SEEK_BACK_SECONDS)), ()
        ),
        pending=pending,
        in_output_order=in_output_order,
        counted=counted,
        damaged_at_start=counted and libav_log.fresh(),
        libav_log=libav_log,
        limits=limits,
        began_at=began_at,
        until_seconds=until_seconds,
    )


def read_only(
    path: str,
    container: InputContainer,
    video: VideoStream | None,
    audio: AudioStream | None,
    limits: Limits,
) -> None:
    """Let the demuxer drop all other streams, and set up the decoders of these: one thread, all
    checks. Raises `UnsupportedMediaError` for frames larger than the limit."""
    for stream in container.streams:
        if stream is not video and stream is not audio:
            stream.discard = Discard.all
    for stream in (video, audio):
        if stream is not None:
            # Frame threads hang when reading stops early.
            stream.codec_context.thread_count = 1
            name = stream.codec_context.name
            stream.codec_context.options = {"err_detect": _NOTICE, **_OPTIONS.get(name, {})}
    if video is not None:
        context = video.codec_context
        if context.width * context.height > limits.max_pixels:
            raise UnsupportedMediaError(
                path,
                f"its frames are {context.width} x {context.height}, more than the limit of "
                f"{limits.max_pixels} pixels",
            )


def _check_times(path: str, names: set[str], video: VideoStream, packets: Sequence[Packet]) -> None:
    """Raise `UnsupportedMediaError` where libav guesses the times of frames, and guesses wrong.

    ASF may have one time for each frame. Of MPEG-1 and MPEG-2 libav takes it for that of decoding,
    and adds the delay of B-frames, whether there are any or not, to all but the first frame. What
    states both times has that delay at the first frame, too.
    """
    codec = video.codec_context
    if "asf" not in names or codec.name not in _GUESSED or not codec.has_b_frames:
        return
    first = next((p for p in packets if p.stream_index == video.index and p.size), None)
    if first is not None and first.pts is not None and first.pts == first.dts:
        raise UnsupportedMediaError(
            path, f"the times of {codec.name} in ASF may be those of decoding; transcode the file"
        )


def decoder_of(stream: VideoStream) -> VideoCodecContext:
    """libav's own, except for VP9: there libvpx notices nine in ten of the damages that libav's own
    decoder overlooks, at the same cost."""
    context = stream.codec_context
    if (context.name, context.pix_fmt) != ("vp9", "yuv420p") or _VP9 not in codecs_available:
        return context
    other = CodecContext.create(_VP9, "r")
    assert isinstance(other, VideoCodecContext)
    other.thread_count = 1
    other.extradata = context.extradata
    return other


def _to_first_key(
    path: str,
    limits: Limits,
    container: InputContainer,
    video: VideoStream,
    audio: AudioStream | None,
) -> list[Packet]:
    """The packets up to the first key frame; a recording may begin between two.

    Raises `TruncatedMediaError` where reading stops with an error, and as `demuxing`.
    """
    packets: list[Packet] = []
    num_bytes, has_video = 0, False
    streams = [stream for stream in (video, audio) if stream is not None]
    try:
        with demuxing(path, limits):
            for packet in container.demux(*streams):
                packets.append(packet)
                num_bytes += packet.size
                is_video = packet.stream_index == video.index
                if is_video and not has_video and not packet.is_keyframe and packet.size:
                    packet.is_keyframe = _is_decoded_alone(packet, video)
                has_video |= is_video
                is_first_key = is_video and packet.is_keyframe
                if is_first_key or packet.size == 0 or num_bytes > _MAX_PENDING_BYTES:
                    break
    except av.error.FFmpegError as error:
        raise TruncatedMediaError(path, f"reading stops early: {error.strerror}") from error
    return packets


def _is_decoded_alone(packet: Packet, video: VideoStream) -> bool:
    """True when a packet is a key frame that is not marked as one: libav does not know those of
    H.264 in mp4 that have start codes in place of lengths."""
    decoder = CodecContext.create(video.codec_context.name, "r")
    decoder.extradata = video.codec_context.extradata
    decoder.thread_count = 1
    assert isinstance(decoder, VideoCodecContext)
    try:
        frames = [*decoder.decode(packet), *decoder.decode(None)]
    except av.error.FFmpegError:
        return False
    return bool(frames) and frames[0].key_frame and not frames[0].is_corrupt


def _zero_seconds(
    container: InputContainer,
    video: VideoStream | None,
    pending: list[Packet],
    origin: Literal["video", "container"],
    edit: Presented | None,
) -> float:
    if origin == "container":
        return max((container.start_time or 0) / av.time_base, 0.0 if edit else -math.inf)
    if video is None or video.start_time is None or video.time_base is None:
        return 0.0
    start = video.start_time
    packets = [packet for packet in pending if packet.stream_index == video.index]
    if packets and not packets[0].is_keyframe and packets[-1].is_keyframe:
        start = packets[-1].pts or start  # what lies before is not shown: it cannot be decoded
    zero = float(start * video.time_base)
    # What an edit list cuts away at the beginning has times before the edit's.
    return edit.begin_seconds if edit and zero < edit.begin_seconds - edit.slack_seconds else zero
