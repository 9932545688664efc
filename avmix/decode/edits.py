"""Edit lists of mp4 and mov files: which part of a track is presented, and when.

libav's demuxer honours where the first edit begins, and nothing else, in the mode that keeps sound
and picture exactly together; the rest is read here. Source: ISO/IEC 14496-12, 8.6.6.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from avmix.decode.errors import MediaOpenError, UnsupportedMediaError

_MAX_HEADER_BYTES = 256 << 20
_CONTAINERS = {b"moov", b"trak", b"edts", b"mdia"}


@dataclass(frozen=True, slots=True)
class Presented:
    """The stretch of a track that is shown, seconds on the clock of the film."""

    begin_seconds: float
    end_seconds: float
    """Infinite where the edit goes to the end of the track."""
    slack_seconds: float
    """Both are rounded to ticks of the film: what is nearer than this is at the end, not after."""


@dataclass(frozen=True, slots=True)
class _Edit:
    seconds: float
    """Length; 0 is "to the end of the track"."""
    media_seconds: float
    """Where in the track it begins; negative for an empty edit."""
    rate: float


def presented(path: str) -> dict[int, Presented]:
    """For each track (by its number) that has an edit list, what of it is presented.

    Raises `UnsupportedMediaError` where that is not one piece at normal speed, `MediaOpenError`
    where the lists are not well formed.
    """
    try:
        header = _header(path)
        return {} if header is None else _tracks(path, header)
    except (struct.error, IndexError) as error:
        raise MediaOpenError(path, "its edit lists are damaged") from error


def _header(path: str) -> bytes | None:
    """The contents of the `moov` box, or None."""
    with open(path, "rb") as file:
        while len(head := file.read(8)) == 8:
            size, kind = struct.unpack(">I4s", head)
            length = 8
            if size == 1:
                (size,) = struct.unpack(">Q", file.read(8))
                length = 16
            if kind == b"moov" and (size == 0 or length <= size <= _MAX_HEADER_BYTES):
                return file.read(_MAX_HEADER_BYTES if size == 0 else size - length)
            if size < length:
                return None  # to the end of the file, or damaged: libav decides
            file.seek(size - length, 1)
    return None


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each box of an mp4, in order."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        length = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, at + 8)
            length = 16
        size = size or len(data) - at
        if size < length:
            return
        yield kind, data[at + length : at + size]
        at += size


def _tracks(path: str, moov: bytes) -> dict[int, Presented]:
    parts_of_film = list(boxes(moov))
    film_scale = next((_time_scale(data) for kind, data in parts_of_film if kind == b"mvhd"), 0)
    found: dict[int, Presented] = {}
    for trak in (data for kind, data in parts_of_film if kind == b"trak"):
        parts = dict(_nested(trak))
        if b"elst" not in parts or b"tkhd" not in parts or b"mdhd" not in parts:
            continue
        media_scale = _time_scale(parts[b"mdhd"])
        edits = _edits(parts[b"elst"], film_scale, media_scale)
        one = _one_piece(path, edits, 1.5 / film_scale if film_scale else 0.0)
        if one is not None:
            found[_track_number(parts[b"tkhd"])] = one
    return found


def _nested(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    for kind, inner in boxes(data):
        yield kind, inner
        if kind in _CONTAINERS:
            yield from _nested(inner)


def _time_scale(data: bytes) -> int:
    (scale,) = struct.unpack_from(">I", data, 20 if data[0] == 1 else 12)
    return scale


def _track_number(data: bytes) -> int:
    (number,) = struct.unpack_from(">I", data, 20 if data[0] == 1 else 12)
    return number


def _edits(data: bytes, film_scale: int, media_scale: int) -> list[_Edit]:
    if not film_scale or not media_scale:
        return []
    (num_edits,) = struct.unpack_from(">I", data, 4)
    shape = ">QqhH" if data[0] == 1 else ">IihH"
    size = struct.calcsize(shape)
    edits = []
    for k in range(min(num_edits, (len(data) - 8) // size)):
        length, media, whole, part = struct.unpack_from(shape, data, 8 + k * size)
        start = -1.0 if media < 0 else media / media_scale
        edits.append(_Edit(length / film_scale, start, whole + part / 65536))
    return edits


def _one_piece(path: str, edits: list[_Edit], tick_seconds: float) -> Presented | None:
    """Empty edits, then one stretch of the track; further edits that continue it count as one."""
    advice = "transcode the file (ffmpeg -i IN -c:v libx264 -c:a aac OUT), or cut it in one piece"
    begin, pieces = 0.0, [edit for edit in edits if edit.media_seconds >= 0]
    for edit in edits:
        if edit.media_seconds >= 0:
            break
        begin += edit.seconds
    if not pieces:
        return None
    first = edits.index(pieces[0])
    between = [e for e in edits[first : first + len(pieces)] if e.media_seconds < 0 and e.seconds]
    if between:
        raise UnsupportedMediaError(path, f"its edit list has a pause in the middle; {advice}")
    end = pieces[0].media_seconds
    for edit in pieces:
        if edit.rate != 1:
            raise UnsupportedMediaError(path, f"its edit list plays at {edit.rate:g}x; {advice}")
        if abs(edit.media_seconds - end) > tick_seconds:
            raise UnsupportedMediaError(path, f"its edit list joins several pieces; {advice}")
        end = edit.media_seconds + edit.seconds
    to_the_end = pieces[-1].seconds == 0
    length = end - pieces[0].media_seconds
    return Presented(begin, float("inf") if to_the_end else begin + length, tick_seconds)
