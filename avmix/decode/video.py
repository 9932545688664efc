"""The frames of a clip: right in time, in shape and in colour."""

import math
import re
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import av.error
import numpy as np
from av.codec.context import CodecContext
from av.filter import Graph
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import Float64, UInt8

from avmix.decode.bitstream import damage_check, refers_to_earlier
from avmix.decode.errors import DecodeError, UnsupportedMediaError
from avmix.decode.open_file import Media
from avmix.decode.strip_metadata import metadata_filter

# Whole numbers: PyAV looks each member of an enumeration up, for every frame.
_SCALE = int(Interpolation.BILINEAR)
_EXACT = int(Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT)
_FULL_RANGE = int(ColorRange.JPEG)
_ITU709, _ITU601 = int(Colorspace.ITU709), int(Colorspace.ITU601)
_MATRICES = {
    1: _ITU709,
    4: int(Colorspace.FCC),
    5: _ITU601,
    6: _ITU601,
    7: int(Colorspace.SMPTE240M),
    9: int(Colorspace.BT2020),
    10: int(Colorspace.BT2020),
}
"""YUV matrices as frames name them (AVColorSpace), and as swscale does."""


class _Own(threading.local):
    """Scalers of one thread, kept from file to file: setting them up for other sizes and formats
    takes as long as several small frames, and what they give does not depend on what was before.
    """

    def __init__(self) -> None:
        self.scaler, self.painter, self.looker = (VideoReformatter() for _ in range(3))


_own = _Own()

_MAX_UNKNOWN = 8
"""Kinds of side data of one frame that PyAV may not know."""

Verdict = Literal["sound", "said", "certain"]
"""Of a packet: nothing tells of damage, a line in libav's log does, or more than that does."""


class SeekMissed(Exception):
    """Seeking did not land where decoding can begin: try from farther back."""


_STUFFED = {"mpeg1video", "mpeg2video"}
"""Codecs whose frames may end with zeros that fill them up to a constant rate. That a decoder finds
bits left over there is then no sign of damage."""
_STUFFING = bytes(3)
_LATE_ORDERS = ("mmco: unref ",)
"""What libav says where a frame of H.264 is to be forgotten that is not there."""
_MAX_LATE = 16
"""Frames after the first of a file that may order so: as many as a decoder remembers."""
_NOTICE_LESS = "crccheck+buffer"


@dataclass(slots=True)
class Track:
    """The video stream, its decoder and its clock: what both ways to the frames need."""

    media: Media
    stream: VideoStream
    decoder: VideoCodecContext
    tick_seconds: float
    limit_seconds: float
    """Frames from here on are cut away, by an edit list or because the file is taken to end."""
    is_broken: Callable[[bytes], bool]
    """For the bytes of a packet."""
    bared: Callable[[Packet], Packet] | None
    """Leaves out of a packet what describes frames and is no part of them; None to leave it in."""
    is_stuffed: bool = False
    """True when a frame ended with zeros that fill it up."""
    _num_late: int = 0
    """Of so many packets more it is no damage that they order to forget frames that are not there:
    the file was cut before a key frame that these followed."""

    @property
    def epsilon_seconds(self) -> float:
        """How late a frame may be and still count as shown."""
        return epsilon_seconds(self.tick_seconds)

    @property
    def period_seconds(self) -> float:
        """From frame to frame, for frames that do not say how long they last."""
        return period_seconds(self.stream)

    def seconds(self, ticks: int) -> float:
        """A time of the container on the clip clock."""
        return ticks * self.tick_seconds - self.media.zero_seconds

    def decode(self, packet: Packet | None) -> tuple[list[VideoFrame], Verdict]:
        """What the decoder gives for a packet, or at the end (None), and what tells of damage."""
        self.media.check_time()
        frames, damaged = [], False
        if packet is not None:
            self._num_late = _MAX_LATE if self._is_cut_before(packet) else self._num_late - 1
        if packet is not None and self.bared is not None:
            packet = self.bared(packet)
        try:
            frames = self.decoder.decode(packet)
        except av.error.EOFError:
            pass
        except av.error.FFmpegError:
            damaged = True
        said = self.media.libav_log.fresh(but=_LATE_ORDERS if self._num_late > 0 else ())
        if packet is not None:
            data = bytes(packet)
            damaged |= packet.is_corrupt or self.is_broken(data)
            self.is_stuffed |= data.endswith(_STUFFING)
        return frames, "certain" if damaged else "said" if said else "sound"

    def _is_cut_before(self, packet: Packet) -> bool:
        """True for the first key frame of a file if frames before it were cut away."""
        ticks = packet.dts if packet.pts is None else packet.pts
        if not packet.is_keyframe or ticks is None or self.seconds(ticks) > self.epsilon_seconds:
            return False
        context = self.stream.codec_context
        return refers_to_earlier(bytes(packet), context.name, context.extradata or b"")

    def may_be_harmless(self, *, only_said: bool) -> bool:
        """True when what tells of damage may be about something else than frames, so that decoding
        `bare` shows whether it is; `only_said` when nothing but libav's log tells."""
        if self.stream.codec_context.name in _STUFFED:
            return self.is_stuffed
        return only_said and metadata_filter(self.stream) is not None


def track_of(media: Media, *, bare: bool = False) -> Track:
    """The video of a file that has one; `bare` to leave out what is no part of frames, or not to
    look for it."""
    assert media.video is not None
    assert media.video.time_base is not None
    assert media.decoder is not None
    edit, context = media.video_presented, media.video.codec_context
    return Track(
        media=media,
        stream=media.video,
        decoder=_lenient(media.video) if bare and context.name in _STUFFED else media.decoder,
        tick_seconds=float(media.video.time_base),
        limit_seconds=min(
            math.inf if edit is None else edit.end_seconds - media.zero_seconds,
            media.until_seconds,
        ),
        is_broken=damage_check(context.name, context.extradata or b""),
        bared=metadata_filter(media.video) if bare else None,
    )


def _lenient(stream: VideoStream) -> VideoCodecContext:
    """A decoder that does not look for bits left over."""
    decoder = CodecContext.create(stream.codec_context.name, "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_count = 1
    decoder.extradata = stream.codec_context.extradata
    decoder.options = {"err_detect": _NOTICE_LESS}
    return decoder


@dataclass(slots=True)
class Canvas:
    """One RGB frame for each wanted time, filled in any order."""

    media: Media
    times: Float64[np.ndarray, " t"]
    """Wanted times, ascending, seconds on the clip clock."""
    short_side: int | None
    audio_bytes: int = 0
    """Of the windows of these frames: the limit is for both."""
    out: UInt8[np.ndarray, "t h w c"] | None = None
    seconds: Float64[np.ndarray, " t"] = field(init=False)
    """Real time of each frame; not a number where there is none yet."""
    interlaced: bool = False
    """True when a frame consists of two fields of different moments."""
    _stored: tuple[int, int] = (0, 0)
    """Width and height of the last frame as it is stored, and as it is wanted before rotation."""
    _target: tuple[int, int] = (0, 0)
    _upright: Callable[[np.ndarray], np.ndarray] | None = None

    def take_over(self, other: "Canvas") -> None:
        """What frames say of themselves, from an earlier reading of the same window."""
        self._upright, self.interlaced = other._upright, other.interlaced

    def __post_init__(self) -> None:
        """Nothing is painted yet."""
        self.seconds = np.full(len(self.times), np.nan)

    def show(self, rows: Sequence[int], frame: VideoFrame, seconds: float) -> None:
        """`frame`, which begins at `seconds`, is what is on the screen at the times of `rows`."""
        image = self._rgb(frame)
        if self.out is None:
            size = len(self.times) * image.size
            if size + self.audio_bytes > self.media.limits.max_clip_bytes:
                raise UnsupportedMediaError(
                    self.media.path,
                    f"{len(self.times)} frames of {image.shape[1]} x {image.shape[0]} are "
                    f"{size >> 20} MiB; ask for fewer or smaller ones (short_side)",
                )
            self.out = np.empty((len(self.times), *image.shape), np.uint8)
        if image.shape != self.out.shape[1:]:
            raise DecodeError(
                self.media.path,
                f"the size of the frames changes at {seconds:.3f} s; transcode the file",
            )
        for row in rows:  # nearly always one; an array as index copies much slower
            self.out[row] = image
            self.seconds[row] = seconds
        self.interlaced |= frame.interlaced_frame

    def _rgb(self, frame: VideoFrame) -> UInt8[np.ndarray, "h w c"]:
        assert self.media.video is not None
        size = frame.width, frame.height
        if size != self._stored:
            self._stored, self._target = size, target_size(self.media, frame, self.short_side)
        width, height = self._target
        if self._upright is None:
            self._upright = _upright(self.media.path, frame)  # the same for all of a file
        upright = self._upright
        matrix, levels = _matrix(frame), _range(frame)
        if frame.format.name in ("yuv420p", "yuvj420p"):
            # Scaling first and converting then is more than twice as fast as both in one call, and
            # nearer to the exact colours than that call is at the same price.
            if self._target != size:
                frame = _own.scaler.reformat(
                    frame,
                    width=width,
                    height=height,
                    interpolation=_SCALE,
                    threads=1,
                    src_colorspace=matrix,
                    src_color_range=levels,
                    dst_colorspace=matrix,
                    dst_color_range=levels,
                )
            scaled = _own.painter.reformat(
                frame,
                format="rgb24",
                interpolation=_SCALE,
                threads=1,
                src_colorspace=matrix,
                src_color_range=levels,
                dst_color_range=_FULL_RANGE,
            )
        else:
            scaled = _own.painter.reformat(
                frame,
                width=width,
                height=height,
                format="rgb24",
                interpolation=_EXACT,
                threads=1,
                src_colorspace=matrix,
                src_color_range=levels,
                dst_color_range=_FULL_RANGE,
            )
        return upright(_pixels(scaled))


def _pixels(frame: VideoFrame) -> UInt8[np.ndarray, "h w c"]:
    """What an RGB frame holds, not copied: its rows end with bytes of no pixel."""
    plane: Any = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(frame.height, plane.line_size)
    return rows[:, : 3 * frame.width].reshape(frame.height, frame.width, 3)


def display_matrix(path: str, frame: VideoFrame) -> tuple[int, ...] | None:
    """How the file wants its frames turned and mirrored: nine numbers (AVDisplayMatrix).

    Raises `UnsupportedMediaError` where they cannot be read.
    """
    # Asked for its side data a frame becomes part of a reference cycle and stays in memory until
    # Python looks for those, hence a copy of a few bytes, which keeps the matrix.
    tiny = _own.looker.reformat(
        frame,
        width=16,
        height=16,
        format="gray",
        interpolation=Interpolation.POINT,  # the fastest to set up
        threads=1,
    )
    for _ in range(_MAX_UNKNOWN):
        try:
            matrix = tiny.side_data.get("DISPLAYMATRIX")
            break
        except ValueError as error:  # of PyAV, for kinds that are newer than it (EXIF, LCEVC)
            number = re.match(r"(\d+) ", str(error))
            if number is None:
                raise UnsupportedMediaError(
                    path, f"its side data cannot be read: {error}"
                ) from error
            tiny = _without_side_data(tiny, int(number[1]))
    else:
        raise UnsupportedMediaError(path, "its side data cannot be read")
    return None if matrix is None else struct.unpack("=9i", bytes(matrix)[:36])


def _without_side_data(frame: VideoFrame, kind: int) -> VideoFrame:
    """The frame without its side data of one kind (AVFrameSideDataType)."""
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25)
    )
    remove = graph.add("sidedata", f"mode=delete:type={kind}")
    sink = graph.add("buffersink")
    source.link_to(remove)
    remove.link_to(sink)
    graph.configure()
    graph.push(frame)
    pulled = graph.pull()
    assert isinstance(pulled, VideoFrame)
    return pulled


def _upright(path: str, frame: VideoFrame) -> Callable[[np.ndarray], np.ndarray]:
    """What turns, or mirrors, a stored frame (h, w, c) as the file says it is to be seen."""
    matrix = display_matrix(path, frame)
    if matrix is None:
        return lambda image: image
    a, b, _, c, d, *_ = matrix
    swap = abs(b) > abs(a)  # x and y change places: a quarter turn
    down, right = (b, c) if swap else (d, a)
    rows, columns = (slice(None, None, -1 if sign < 0 else 1) for sign in (down, right))
    return lambda image: (image.transpose(1, 0, 2) if swap else image)[rows, columns]


def quarter_turns(frame: VideoFrame) -> int:
    """Counter-clockwise quarter turns that put the frame upright."""
    return round(frame.rotation / 90) % 4


def epsilon_seconds(tick_seconds: float) -> float:
    """How late a frame may be and still count as shown.

    Its time and that of the first frame are rounded to ticks, by half a tick each. Containers
    that count milliseconds are allowed half of one only: most begin at an exact one.
    """
    return min(tick_seconds, 0.0005) + 1e-6


def period_seconds(stream: VideoStream) -> float:
    """Seconds from frame to frame, for frames that do not say how long they last."""
    rate = stream.average_rate or stream.guessed_rate
    return 1 / float(rate) if rate else 0.04


def target_size(media: Media, frame: VideoFrame, short_side: int | None) -> tuple[int, int]:
    """Width and height, in pixels before rotation."""
    if short_side is None:
        return frame.width, frame.height
    assert media.video is not None
    # Pixels that are not square are made so: the shape on the screen is what counts.
    aspect = float(media.video.sample_aspect_ratio or 1) or 1.0
    width, height = frame.width * aspect, frame.height
    scale = short_side / min(width, height)
    size = max(round(width * scale), short_side), max(round(height * scale), short_side)
    if size[0] * size[1] > media.limits.max_pixels:
        raise UnsupportedMediaError(
            media.path, f"its shape is {size[0]} x {size[1]} with a short side of {short_side}"
        )
    return size


def _matrix(frame: VideoFrame) -> int:
    """Colorspace of the frame; where the file does not say, players go by the size."""
    known = _MATRICES.get(frame.colorspace)
    if known is not None:
        return known
    large = frame.width >= 1280 or frame.height > 576
    return _ITU709 if large else _ITU601


def _range(frame: VideoFrame) -> int:
    """Of its levels (ColorRange)."""
    told = frame.color_range
    if told in (ColorRange.MPEG, ColorRange.JPEG):
        return int(told)
    return int(ColorRange.JPEG if frame.format.name.startswith("yuvj") else ColorRange.MPEG)
