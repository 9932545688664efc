"""Opening of containers: limits, choice of streams, and the origin of the clip clock."""

import hashlib
import math
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Literal, TypeVar

import av
import av.error
from av.audio.stream import AudioStream
from av.codec import codecs_available
from av.codec.context import CodecContext
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from avmix.decode.container_boxes import MAX_HEADER_BYTES, bytes_before_clusters
from avmix.decode.edit_lists import Presented, presented
from avmix.decode.errors import (
    DecodeError,
    MediaOpenError,
    NoAudioStreamError,
    TruncatedMediaError,
    UnsupportedMediaError,
)
from avmix.decode.libav_log import LibavLog, capture_libav_log
from avmix.decode.per_file_cache import PerFile
from avmix.decode.request import Limits, Track

S = TypeVar("S", VideoStream, AudioStream)

# Playlists, concat scripts and image sequences can make libav read other files: none is here.
_FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,wav,mp3,flac"
_SEEK_BACK_SECONDS = {"mov": (0.3, 3.0, 10.0), "matroska": (0.3, 3.0, 10.0), "mpegts": (2.5, 10.0)}
"""Demuxers that can seek, and how far before a window to aim; where that is not enough, farther.
The last has no index and lands between keyframes. Every other one is read from its beginning."""

_BACKWARD_SECONDS = 0.1
"""By how much times of decoding may go backward: some writers let them jitter by a packet."""
_MAX_PENDING_BYTES = 32 << 20
"""Read at most, while a file is opened, to find its first key frame."""

_BYTES_PER_HASH = 1 << 20
_PACKETS_PER_LOOK = 16
"""At the clock, while packets are read; decoding looks at it for every frame."""
_COVER = Disposition.attached_pic | Disposition.timed_thumbnails
_HEAD_BYTES = 12
_IMAGE_BRANDS = {b"jp2 ", b"jpx ", b"jxl "}
"""Brands of images in files that begin like an mp4."""
_GUESSED = frozenset({"mpeg1video", "mpeg2video"})
_VP9 = "libvpx-vp9"
_NOTICE = "crccheck+bitstream+buffer"
"""Checks that libav leaves out by default: checksums, and bits that are left over or missing at the
end of a frame, which is how most damage of older codecs shows."""
_OPTIONS = {"ac3": {"cons_noisegen": "1"}, "eac3": {"cons_noisegen": "1"}}
"""Options of decoders: the noise that AC-3 leaves to them follows from the frame that it belongs
to, not from how many were decoded before. libav's decoder of AAC has no such option."""


@dataclass(frozen=True, slots=True)
class Media:
    """An open file, its chosen streams and its clock."""

    path: str
    container: InputContainer
    video: VideoStream | None
    audio: AudioStream | None
    is_audio_unknown: bool
    """True when there is audio, which this build of libav has no decoder for."""
    decoder: VideoCodecContext | None
    """Decoder of the video stream."""
    zero_seconds: float
    """Time of the first presented frame on the container's clock: zero of the clip clock."""
    video_presented: Presented | None
    """What an edit list leaves of the frames, on the container's clock; None without a list."""
    audio_presented: Presented | None
    """The same for audio."""
    seek_back_seconds: tuple[float, ...]
    """How far before a window to aim when seeking, one try after the other; empty: do not seek."""
    in_output_order: bool
    """True when frames carry no usable time, only the order in which the decoder returns them."""
    counted: bool
    """True when the container counts what it holds, so that a lost part shifts all that follows."""
    damaged_at_start: bool
    """True when libav logged an error of such a container while it was opened."""
    pending: list[Packet]
    """Read while the file was opened, up to the first key frame."""
    libav_log: LibavLog
    """What libav logged since the file was opened."""
    limits: Limits
    began_at: float
    """When the limit of time began to run; monotonic clock, seconds."""
    until_seconds: float
    """Where the file is taken to end, on the clip clock; infinite where it is whole."""

    @property
    def indexed(self) -> bool:
        """True when seeking can be trusted."""
        return bool(self.seek_back_seconds)

    def packets(self, *streams: VideoStream | AudioStream) -> Iterator[Packet]:
        """Packets of `streams` from the current position.

        Raises as `read`, `UnsupportedMediaError` also where reading has taken longer than the limit
        in all, and `DecodeError` where time goes backward: what was shown at a time is then not one
        frame, and the audio of that time may belong to another.
        """
        slack = {s.index: _BACKWARD_SECONDS / float(s.time_base or 1) for s in streams}
        latest: dict[int, float] = dict.fromkeys(slack, -math.inf)
        read = [packet for packet in self.pending if packet.stream_index in slack]
        self.pending.clear()
        is_timed = not self.in_output_order
        # One generator, not one in another: this runs for every packet.
        with _demuxing(self.path, self.limits):
            for number, packet in enumerate(chain(read, self.container.demux(*streams))):
                if number % _PACKETS_PER_LOOK == 0:
                    self.check_time()
                if is_timed and (dts := packet.dts) is not None:
                    index = packet.stream_index
                    before = latest[index]
                    if dts >= before:
                        latest[index] = dts
                    elif dts < before - slack[index]:
                        at = before * float(packet.time_base) - self.zero_seconds
                        raise DecodeError(
                            self.path,
                            f"its clock starts again after {at:.3f} s: it is joined from several "
                            "recordings; split it, or transcode it",
                        )
                yield packet

    def read(self, *streams: VideoStream | AudioStream) -> Iterator[Packet]:
        """Packets of `streams`, or of all, from the current position, whatever their times.

        Raises `UnsupportedMediaError` where one packet takes longer than the limit of time;
        `DecodeError` where a stream appears in the middle. What else libav raises is not changed.
        """
        indices = {stream.index for stream in streams}
        read = [p for p in self.pending if not indices or p.stream_index in indices]
        self.pending.clear()
        with _demuxing(self.path, self.limits):
            yield from chain(read, self.container.demux(*streams))

    def seek(self, ticks: int, stream: VideoStream) -> None:
        """Seek to the keyframe before `ticks` of `stream`; raises what libav does."""
        self.pending.clear()
        self.container.seek(ticks, backward=True, stream=stream)

    def check_time(self) -> None:
        """Raise `UnsupportedMediaError` when reading has taken longer than the limit."""
        if time.monotonic() - self.began_at > self.limits.seconds:
            raise _too_slow(self.path, self.limits)


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
    head = _checked_head(path)
    edits = presented(path)
    _check_matroska(path)
    began_at = time.monotonic() if began_at is None else began_at
    left_seconds = began_at + limits.seconds - time.monotonic()
    if left_seconds <= 0:
        raise _too_slow(path, limits)
    with capture_libav_log() as libav_log:
        try:
            container = av.open(
                # With the prefix a name such as `http:x.mp4` or `-` is a file name, nothing else.
                "file:" + os.path.abspath(path),
                mode="r",
                format="mov" if _is_film(head) else None,
                container_options={
                    "format_whitelist": _FORMATS,
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
            raise _too_slow(path, limits) from error
        except (av.error.FFmpegError, ValueError, OverflowError) as error:
            if time.monotonic() - began_at > limits.seconds:
                raise _too_slow(path, limits) from error
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise MediaOpenError(
                path,
                f"cannot be opened as media ({reason}); it may be incomplete, or of another type "
                "than its name suggests",
            ) from error
        with container:
            if time.monotonic() - began_at > limits.seconds:
                raise _too_slow(path, limits)  # what was not read yet would seem not to be there
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


def verify_hash(path: str, sha256: str, limits: Limits) -> None:
    """Raise `DecodeError` unless the file's SHA-256 is `sha256`.

    Raises OSError as the system does, `MediaOpenError` for what is not a regular file (a pipe or a
    device has no end), and `UnsupportedMediaError` where reading takes longer than the limit.

    A file is read once per process, and again when its size or time of change is another.
    """
    _checked_head(path)
    found = _hashes.get(path, lambda: _hash(path, limits))
    if found != sha256.lower():
        raise DecodeError(
            path,
            f"has changed: its SHA-256 begins {found[:12]}, expected {sha256[:12].lower()}; "
            "get the file again, or prepare the dataset again",
        )


_hashes: PerFile[str] = PerFile()


def _hash(path: str, limits: Limits) -> str:
    until, digest = time.monotonic() + limits.seconds, hashlib.sha256()
    with open(path, "rb") as file:
        while data := file.read(_BYTES_PER_HASH):
            digest.update(data)
            if time.monotonic() > until:
                raise UnsupportedMediaError(
                    path,
                    f"taking its SHA-256 takes longer than {limits.seconds:g} s; allow more "
                    "(Limits.seconds), or leave it out",
                )
    return digest.hexdigest()


@contextmanager
def _demuxing(path: str, limits: Limits) -> Iterator[None]:
    """What reading packets raises, as `Media.read` raises it."""
    try:
        yield
    except av.error.ExitError as error:  # the `timeout` of the opening
        raise _too_slow(path, limits) from error
    except IndexError as error:  # of PyAV, which knows the streams of the opening only
        raise DecodeError(
            path, "a stream appears in the middle; the file is damaged, or joined from others"
        ) from error


def _too_slow(path: str, limits: Limits) -> UnsupportedMediaError:
    return UnsupportedMediaError(
        path, f"decoding takes longer than {limits.seconds:g} s; transcode it"
    )


def _checked_head(path: str) -> bytes:
    """The first bytes of a file; raises where it is not a regular one, or empty."""
    mode = os.stat(path).st_mode
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise MediaOpenError(path, "is not a regular file")
    # Raises what the system says of directories and permissions.
    with open(path, "rb", buffering=0) as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        raise MediaOpenError(path, "is empty (0 bytes)")
    return head


def _is_film(head: bytes) -> bool:
    """True for mp4, mov and their relatives, which libav knows by the same bytes (`mov_probe`):
    asking each of its demuxers takes a sixth of the time to open a small file."""
    return head[4:8] == b"ftyp" and head[8:12] not in _IMAGE_BRANDS


def _check_matroska(path: str) -> None:
    """Raise `UnsupportedMediaError` where there is more before the first cluster than any file
    needs: libav takes all of it into memory."""
    with open(path, "rb") as file:
        if bytes_before_clusters(file) > MAX_HEADER_BYTES:
            raise UnsupportedMediaError(
                path, f"its header is larger than {MAX_HEADER_BYTES >> 20} MiB; transcode it"
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
    video = _default_of(path, frames)
    # Without a decoder for the audio the frames are as good as ever.
    track = _track_of(path, list(container.streams.audio), audio_track)
    is_audio_unknown = track is not None and track.codec_context is None
    audio = None if is_audio_unknown else track
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
        decoder=None if video is None else _video_decoder(video),
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


def _video_decoder(stream: VideoStream) -> VideoCodecContext:
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

    Raises `TruncatedMediaError` where reading stops with an error, and as `_demuxing`.
    """
    packets: list[Packet] = []
    num_bytes, has_video = 0, False
    streams = [stream for stream in (video, audio) if stream is not None]
    try:
        with _demuxing(path, limits):
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


def is_cover(stream: Stream) -> bool:
    """True for cover art and thumbnails, which libav counts among the videos."""
    return bool(stream.disposition & _COVER)


def _flagged(streams: list[S]) -> list[S]:
    """The streams that players take: those flagged as default, or all."""
    if len(streams) == 1:
        return streams
    return [s for s in streams if s.disposition & Disposition.default] or streams


def _track_of(path: str, streams: list[AudioStream], wanted: Track) -> AudioStream | None:
    """The audio track that is asked for; None where the file has no audio at all."""
    if not streams:
        return None
    if wanted is None:
        return _flagged(streams)[0]
    found = [
        stream
        for number, stream in enumerate(streams)
        if number == wanted or str(stream.language or "").casefold() == str(wanted).casefold()
    ]
    if not found:
        has = "; ".join(f"{n}: {_track_words(stream)}" for n, stream in enumerate(streams))
        raise NoAudioStreamError(path, f"has no audio track {wanted!r}; it has {has}")
    return found[0]


def _track_words(stream: AudioStream) -> str:
    context = stream.codec_context
    codec = "no decoder"
    if context is not None:
        codec = f"{context.name}, {context.channels} channel{'s' * (context.channels != 1)}"
    title = f" {stream.metadata['title']!r}" if stream.metadata.get("title") else ""
    return f"{stream.language or 'no language'}, {codec}{title}"


def _default_of(path: str, streams: list[S]) -> S | None:
    if not streams:
        return None
    chosen = _flagged(streams)[0]
    if chosen.codec_context is None:
        raise UnsupportedMediaError(
            path, f"no decoder for its {chosen.type} stream in this build of libav; transcode it"
        )
    return chosen
