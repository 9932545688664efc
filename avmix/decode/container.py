"""Open a file without trusting it, choose its streams, and fix where time zero is."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import av
import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from avmix.decode.errors import MediaOpenError, UnsupportedMediaError

S = TypeVar("S", VideoStream, AudioStream)

# Playlists, concat scripts and image sequences can make libav read other files: none is here.
_FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,wav,mp3,flac"
_INDEXED = {"mov", "matroska"}
"""Demuxers whose seeking was found exact; every other one is read from its beginning."""


@dataclass(frozen=True, slots=True)
class Media:
    """An open file, its chosen streams and its clock."""

    path: str
    container: InputContainer
    video: VideoStream | None
    audio: AudioStream | None
    zero_seconds: float
    """Time of the first presented picture on the container's clock: zero of the clip clock."""
    indexed: bool
    """True when seeking can be trusted."""
    in_output_order: bool
    """True when pictures carry no usable time, only the order in which the decoder returns them."""


@contextmanager
def open_media(path: str) -> Iterator[Media]:
    """Open `path` for reading and close it in the end.

    Raises OSError as the system does, `MediaOpenError` when it is not an accepted media file.
    """
    _check_regular(path)
    try:
        container = av.open(
            # With the prefix a name such as `http:x.mp4` or `-` is a file name and nothing else.
            "file:" + os.path.abspath(path),
            mode="r",
            container_options={
                "format_whitelist": _FORMATS,
                "protocol_whitelist": "file",
                # The simple edit lists keep the frames before an edit, with times below zero, so
                # that the picture on the screen at the edit is there and the sound is not shifted.
                "advanced_editlist": "0",
            },
            metadata_errors="replace",
        )
    except av.error.FFmpegError as error:
        reason = error.strerror or type(error).__name__
        raise MediaOpenError(
            path,
            f"cannot be opened as media ({reason}); it may be incomplete, or of another type than "
            "its name says",
        ) from error
    with container:
        yield _describe(path, container)


def _check_regular(path: str) -> None:
    mode = os.stat(path).st_mode
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise MediaOpenError(path, "is not a regular file")
    with open(path, "rb") as file:  # raises what the system says of directories and permissions
        if not file.read(1):
            raise MediaOpenError(path, "is empty (0 bytes)")


def _describe(path: str, container: InputContainer) -> Media:
    names = set(container.format.name.split(","))
    pictures = [s for s in container.streams.video if not _is_cover(s)]
    video = _default_of(path, pictures)
    audio = _default_of(path, list(container.streams.audio))
    zero = 0.0
    if video is not None:
        video.codec_context.thread_count = 1  # frame threads hang when reading stops early
        if video.start_time is not None and video.time_base is not None:
            zero = float(video.start_time * video.time_base)
    if audio is not None:
        audio.codec_context.thread_count = 1
    if "mov" in names:
        zero = max(zero, 0.0)  # what an edit list cuts away has times below zero
    in_output_order = "avi" in names
    return Media(
        path=path,
        container=container,
        video=video,
        audio=audio,
        zero_seconds=0.0 if in_output_order else zero,
        indexed=bool(names & _INDEXED),
        in_output_order=in_output_order,
    )


def _is_cover(stream: Stream) -> bool:
    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def _default_of(path: str, streams: list[S]) -> S | None:
    if not streams:
        return None
    flagged = [s for s in streams if s.disposition & Disposition.default]
    chosen = (flagged or streams)[0]
    if chosen.codec_context is None:
        raise UnsupportedMediaError(
            path, f"no decoder for its {chosen.type} stream in this build of libav; transcode it"
        )
    return chosen
