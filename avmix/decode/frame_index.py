"""What decord and torchcodec share: which frames are wanted, by PyAV's reading of the container.

Neither library can be trusted with time, so both are asked for frames by number only. Number and
time of every frame are taken from the packets, which PyAV reads without decoding; a backend has
to agree with them, or refuses. Audio comes from PyAV in both: decord moves it, torchcodec closes
gaps in it, and decodes it from the start of the file for every window.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import av.error
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from jaxtyping import Float64, UInt8

from avmix.decode.bitstream import damage_check
from avmix.decode.container import open_media
from avmix.decode.errors import (
    ClipError,
    ClipRangeError,
    DecodeError,
    UnsupportedMediaError,
)
from avmix.decode.file_hash import verify_hash
from avmix.decode.file_reader import check_streams
from avmix.decode.open_file import Media
from avmix.decode.pyav import decode_audio_windows
from avmix.decode.request import Request
from avmix.decode.selective import may_reorder
from avmix.decode.stream_choice import is_cover
from avmix.decode.video import (
    Canvas,
    display_matrix,
    epsilon_seconds,
    period_seconds,
    quarter_turns,
    target_size,
)
from avmix.types import Clip

Read = Callable[[list[int]], UInt8[np.ndarray, "n h w c"]]
"""Numbers of frames, ascending, to these frames: upright, as large as they are stored."""
Look = Callable[[Packet], None]
"""Sees every packet of the frames in order of decoding; raises what `refusal` returns."""

_FORMATS = {"mov", "matroska"}
"""Others have times that the libraries get wrong (MPEG-TS and PS), or none at all (AVI)."""
_TAGGED = {1, 4, 5, 6, 7, 9, 10}
"""YUV matrices (AVColorSpace) that everybody reads alike; 2 is "not said", 0 is RGB."""
_PLAIN_LEVELS = 1.5
_OTHER_LEVELS = 4.0
"""How far the mean of a frame may be from PyAV's. Found: 0 for plain 4:2:0, up to 3 for others of
saturated colours; a range or a matrix taken for another is 5 to 15."""
_CHUNK = 16
"""Frames decoded before they are scaled: they may be large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameIndex:
    """All frames of one file, by number in order of presentation."""

    path: str
    """As asked for: errors name it."""
    file: str
    """Absolute path."""
    stream_index: int
    """Of the video stream, among all streams."""
    seconds: Float64[np.ndarray, " n"]
    """When each appears, on the clip clock: ascending from 0."""
    end_seconds: float
    """When the last one goes."""
    epsilon_seconds: float
    """A frame may begin this late and still count as shown."""
    zero_seconds: float
    """Zero of the clip clock on the container's clock."""
    pixel_format: str
    size: tuple[int, int]
    """Width and height as stored, upright."""
    target: tuple[int, int]
    """Width and height asked for, upright."""
    first: UInt8[np.ndarray, "h w c"]
    """The first frame as PyAV gives it, at its stored size."""
    num_video_streams: int
    """Without cover art."""
    has_audio: bool

    @property
    def last_start(self) -> float:
        """From here on a window is after the end: every frame of it would be held."""
        return self.end_seconds - self.epsilon_seconds

    def numbers(self, times: Float64[np.ndarray, " t"]) -> list[int]:
        """For each time the last frame that begins at or before it."""
        found = np.searchsorted(self.seconds, times + self.epsilon_seconds, side="right") - 1
        return [int(number) for number in found]


def refusal(path: str, why: str) -> UnsupportedMediaError:
    """The error of a backend that cannot do right what PyAV can."""
    return UnsupportedMediaError(path, f'{why}; use backend="pyav"')


def failure(index: FrameIndex, backend: str, error: Exception) -> UnsupportedMediaError:
    """What `backend` says of the file, in one line and without the place in its source."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    said = re.sub(r"^\[[\d:]+\] \S+: ", "", first)
    return refusal(index.path, f"{backend} cannot read it ({said})")


def index_of(request: Request, look: Callable[[Media], Look] | None = None) -> FrameIndex:
    """Read the packets of the file, and decode its first frame for what only frames tell.

    Raises what `decode_clips` raises for the file as a whole; `UnsupportedMediaError` where the
    times of the frames are not plain, or anything looks damaged.
    """
    path = request.path
    if request.origin == "container":
        raise refusal(path, 'origin="container" is read by PyAV only')
    if request.sha256 is not None:
        verify_hash(path, request.sha256, request.limits)
    with open_media(path, request.limits, audio_track=request.audio_track) as media:
        check_streams(media, request)
        names = media.container.format.name.split(",")
        if not _FORMATS & set(names):
            raise refusal(path, f"only mp4, mov, mkv and webm are read so, this is {names[0]}")
        assert media.video is not None
        if media.video.codec_context.codec.canonical_name == "vp9" and request.sha256 is None:
            raise refusal(path, "is VP9, in which only PyAV notices damage: give its sha256")
        first, seconds, end = _read(media, look(media) if look else _accept)
        _check_frames(path, first)
        width, height = first.width, first.height
        target = target_size(media, first, request.short_side)
        if quarter_turns(first) % 2:
            width, height, target = height, width, (target[1], target[0])
        _check_bytes(request, target)
        return FrameIndex(
            path=path,
            file=os.path.abspath(path),
            stream_index=media.video.index,
            seconds=seconds,
            end_seconds=end,
            epsilon_seconds=epsilon_seconds(float(media.video.time_base or 0)),
            zero_seconds=media.zero_seconds,
            pixel_format=first.format.name,
            size=(width, height),
            target=target,
            first=_painted(media, first),
            num_video_streams=sum(not is_cover(stream) for stream in media.container.streams.video),
            has_audio=media.audio is not None,
        )


def clips(request: Request, index: FrameIndex, read: Read) -> list[Clip | ClipError]:
    """One outcome per window, as `decode_clips` returns them; `read` is the backend."""
    begun = [start for start in request.starts_seconds if start < index.last_start]
    numbers = {start: index.numbers(request.times(start)) for start in begun}
    # The first frame is always read, to be compared with PyAV's.
    wanted = sorted({0, *(number for window in numbers.values() for number in window)})
    frames = _frames(index, wanted, read)
    # Too little audio is one window's problem, not the file's: it is looked at below.
    audio = decode_audio_windows(replace(request, starts_seconds=tuple(begun), min_audio_valid=0.0))
    audio_of = dict(zip(begun, audio, strict=True))
    outcomes: list[Clip | ClipError] = []
    for start in request.starts_seconds:
        outcome = _range_error(request, index, start) or audio_of[start]
        if not isinstance(outcome, ClipError):
            outcome = _limit_error(request, index, start, outcome[1]) or outcome
        if isinstance(outcome, ClipError):
            outcomes.append(outcome)
            continue
        waveform, valid = outcome
        rows = np.searchsorted(wanted, numbers[start])
        outcomes.append(
            Clip(
                video=frames[rows],
                audio=waveform,
                pts_seconds=index.seconds[numbers[start]],
                start_seconds=start,
                duration_seconds=request.duration_seconds,
                sample_rate=request.sample_rate,
                audio_valid=valid,
                num_held=_num_held(request, index, start),
                interlaced=False,
            )
        )
    return outcomes


def _num_held(request: Request, index: FrameIndex, start: float) -> int:
    return int(np.sum(request.times(start) >= index.last_start))


def _range_error(request: Request, index: FrameIndex, start: float) -> ClipRangeError | None:
    if start < index.last_start:
        return None
    return ClipRangeError(
        request.path,
        f"the window begins at {start:.3f} s, the video ends at {index.end_seconds:.3f} s",
    )


def _limit_error(
    request: Request, index: FrameIndex, start: float, audio_valid: float
) -> ClipRangeError | None:
    num_held = _num_held(request, index, start)
    if request.max_held is not None and num_held > request.max_held:
        return ClipRangeError(
            request.path,
            f"{num_held} of {len(request.times(start))} frames lie after the end at "
            f"{index.end_seconds:.3f} s, max_held is {request.max_held}",
        )
    if index.has_audio and request.audio != "skip" and audio_valid < request.min_audio_valid:
        return ClipRangeError(
            request.path,
            f"only {audio_valid:.3f} of the window at {start:.3f} s has audio, min_audio_valid is "
            f"{request.min_audio_valid}",
        )
    return None


def _read(media: Media, look: Look) -> tuple[VideoFrame, Float64[np.ndarray, " n"], float]:
    """The first frame, the times of all, and the end of the last."""
    assert media.video is not None
    assert media.decoder is not None
    tick = float(media.video.time_base or 0)
    context = media.video.codec_context
    is_broken = damage_check(context.name, context.extradata or b"")
    first: VideoFrame | None = None
    ticks: list[int] = []
    end, last = 0.0, -np.inf
    try:
        for packet in media.packets(media.video):
            if first is None:
                first = next(iter(media.decoder.decode(packet if packet.size else None)), None)
            if packet.size == 0:
                continue
            _check_packet(media, packet)
            if is_broken(bytes(packet)):
                raise refusal(media.path, "is damaged: it has bytes that no encoder writes")
            look(packet)
            assert packet.pts is not None
            ticks.append(packet.pts)
            if packet.pts > last:
                last, end = packet.pts, (packet.pts + (packet.duration or 0)) * tick
    except av.error.FFmpegError as error:
        raise refusal(media.path, f"is damaged, or not complete ({error.strerror})") from error
    if first is None or not ticks:
        raise DecodeError(media.path, "no frame could be decoded")
    _check_log(media)
    if end == last * tick:
        end += period_seconds(media.video)
    edit = media.video_presented
    if edit is not None and end > edit.end_seconds + edit.slack_seconds:
        end = edit.end_seconds
    _check_times(media, ticks, end)
    if len(ticks) > 1 and ticks == sorted(ticks) and may_reorder(media.video):
        raise refusal(media.path, "may have times of decoding in place of those of presentation")
    seconds = np.sort(np.array(ticks, np.float64)) * tick - media.zero_seconds
    return first, seconds, end - media.zero_seconds


def _check_packet(media: Media, packet: Packet) -> None:
    if packet.pts is None:
        raise refusal(media.path, "has video without a time")
    if packet.is_corrupt or packet.is_discard:
        raise refusal(media.path, "is damaged, or not complete")
    _check_log(media)
    if packet.has_sidedata("new_extradata"):
        raise refusal(media.path, "its coding changes on the way")


def _check_log(media: Media) -> None:
    if media.libav_log.fresh():
        raise refusal(media.path, f"is damaged, or not complete ({media.libav_log.last()})")


def _accept(packet: Packet) -> None:
    """Nothing to look at."""


def _check_times(media: Media, ticks: list[int], end_seconds: float) -> None:
    assert media.video is not None
    tick = float(media.video.time_base or 0)
    if len(set(ticks)) != len(ticks):
        raise refusal(media.path, "has two frames at the same time")
    first = min(ticks) * tick - media.zero_seconds
    if abs(first) > epsilon_seconds(tick) or max(ticks) * tick >= end_seconds:
        raise refusal(media.path, "its edit list cuts frames away")
    if media.video.frames > len(ticks):
        raise refusal(
            media.path, f"declares {media.video.frames} frames and has {len(ticks)}: it is cut"
        )


def _check_frames(path: str, first: VideoFrame) -> None:
    """Refuse what the libraries turn, or colour, in another way than PyAV's side does."""
    if first.is_corrupt:
        raise refusal(path, "its first frame is damaged")
    if first.rotation % 90 or _mirrored(path, first):
        raise refusal(path, "its frames are to be shown mirrored, or askew")
    if first.interlaced_frame:
        raise refusal(path, "its frames are interlaced")
    rgb = first.format.name.startswith(("gbr", "rgb", "bgr"))
    large = first.width >= 1280 or first.height > 576
    if not rgb and first.colorspace not in _TAGGED and (first.colorspace != 2 or large):
        raise refusal(path, "does not say which YUV matrix its frames have")


def _painted(media: Media, frame: VideoFrame) -> UInt8[np.ndarray, "h w c"]:
    canvas = Canvas(media, np.zeros(1), None)
    canvas.show((0,), frame, 0.0)
    assert canvas.out is not None
    return canvas.out[0]


def _check_first(index: FrameIndex, frame: UInt8[np.ndarray, "h w c"]) -> None:
    """Versions of libav do not all believe the same of what a file says about its colours."""
    plain = index.pixel_format in ("yuv420p", "yuvj420p")
    difference = float(np.abs(frame.astype(np.int16) - index.first).mean())
    if difference > (_PLAIN_LEVELS if plain else _OTHER_LEVELS):
        raise refusal(index.path, f"its first frame differs from PyAV's by {difference:.1f} of 255")


def _mirrored(path: str, frame: VideoFrame) -> bool:
    matrix = display_matrix(path, frame)
    if matrix is None:
        return False
    a, b, _, c, d, *_ = matrix
    return a * d - b * c < 0


def _check_bytes(request: Request, target: tuple[int, int]) -> None:
    num = len(request.times(0.0))
    size = num * target[0] * target[1] * 3
    if size > request.limits.max_clip_bytes:
        raise UnsupportedMediaError(
            request.path,
            f"{num} frames of {target[0]} x {target[1]} are {size >> 20} MiB; ask for fewer or "
            "smaller ones (short_side)",
        )


def _frames(index: FrameIndex, wanted: list[int], read: Read) -> UInt8[np.ndarray, "n h w c"]:
    width, height = index.target
    out = np.empty((len(wanted), height, width, 3), np.uint8)
    scaler = VideoReformatter()
    for at in range(0, len(wanted), _CHUNK):
        numbers = wanted[at : at + _CHUNK]
        stored = read(numbers)
        if stored.shape != (len(numbers), index.size[1], index.size[0], 3):
            raise refusal(
                index.path,
                f"frames of {index.size[0]} x {index.size[1]} come as an array {stored.shape}",
            )
        if at == 0:
            _check_first(index, stored[0])
        if index.size == index.target:
            out[at : at + len(numbers)] = stored
            continue
        for row, frame in enumerate(stored, start=at):
            scaled = scaler.reformat(
                VideoFrame.from_ndarray(frame, format="rgb24"),
                width=width,
                height=height,
                interpolation=Interpolation.BILINEAR,
                threads=1,
            )
            out[row] = scaled.to_ndarray()
    return out
