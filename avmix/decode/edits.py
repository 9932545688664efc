"""Edit lists of mp4 and mov files: which part of a track is presented, and when.

libav's demuxer honours where the first edit begins, and nothing else, in the mode that keeps sound
and picture exactly together; the rest is read here. Source: ISO/IEC 14496-12, 8.6.6.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from avmix.decode.errors import MediaOpenError, UnsupportedMediaError

_MAX_HEADER_BYTES = 256 << 20
_MAX_BOXES = 100_000
"""In one box; a track of a phone has 20."""
_MAX_EDITS = 1000
"""Of one track; editors write one for each cut. libav takes 24 bytes of memory for each, and time
that grows with their square."""


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

    Nothing where the file is no mp4 or mov. Raises `UnsupportedMediaError` where what is presented
    is not one piece at normal speed, or the lists are too long; `MediaOpenError` where they are not
    well formed.
    """
    try:
        header = _header(path)
        return {} if header is None else _tracks(path, header)
    except (struct.error, IndexError, ValueError, zlib.error) as error:
        raise MediaOpenError(path, "its edit lists are damaged") from error


def _header(path: str) -> memoryview | None:
    """The contents of the `moov` box, or None."""
    with open(path, "rb") as file:
        num_bytes = file.seek(0, 2)
        file.seek(0)
        for _ in range(_MAX_BOXES):
            head = file.read(8)
            if len(head) < 8:
                return None
            size, kind = struct.unpack(">I4s", head)
            length = 8
            if size == 1:
                (size,) = struct.unpack(">Q", file.read(8))
                length = 16
            if kind == b"moov" and (size == 0 or size >= length):
                header = _content(path, file, size - length)
                _check_lists(path, header)
                return _unpacked(path, memoryview(header))
            if not length <= size <= num_bytes:
                return None  # to the end of the file, or damaged: libav decides
            file.seek(size - length, 1)
    raise ValueError(f"more than {_MAX_BOXES} boxes before the header")


def _check_lists(path: str, header: bytes) -> None:
    """Raise `UnsupportedMediaError` where an edit list is too long, wherever in the header it is:
    libav reads those that are out of place, too."""
    at = header.find(b"elst", 4)
    while 0 <= at <= len(header) - 12:
        (size,) = struct.unpack_from(">I", header, at - 4)
        if size <= len(header) - (at - 4):  # else it is some text
            (num_edits,) = struct.unpack_from(">I", header, at + 8)
            # A size of 0 goes to the end, 1 stands for a longer number.
            _check_length(path, min(num_edits, (size if size > 1 else len(header)) // 12))
        at = header.find(b"elst", at + 4)


def _check_length(path: str, num_edits: int) -> None:
    if num_edits > _MAX_EDITS:
        raise UnsupportedMediaError(path, f"its edit list has {num_edits} entries; transcode it")


def _content(path: str, file: BinaryIO, size: int) -> bytes:
    """Of a header of `size` bytes, or negative for all there is, within the limit."""
    data = file.read(min(size, _MAX_HEADER_BYTES + 1) if size >= 0 else _MAX_HEADER_BYTES + 1)
    if len(data) > _MAX_HEADER_BYTES:
        raise _too_large(path)
    return data


def _too_large(path: str) -> UnsupportedMediaError:
    return UnsupportedMediaError(
        path, f"its header is larger than {_MAX_HEADER_BYTES >> 20} MiB; transcode it"
    )


def _unpacked(path: str, moov: memoryview) -> memoryview:
    """The header itself; QuickTime may compress it (`cmov`)."""
    packed = next((data for kind, data in boxes(moov) if kind == b"cmov"), None)
    if packed is None:
        return moov
    parts = dict(boxes(packed))
    if bytes(parts.get(b"dcom", b"")) != b"zlib" or b"cmvd" not in parts:
        raise ValueError("a header compressed in an unknown way")
    (size,) = struct.unpack_from(">I", parts[b"cmvd"])  # libav takes memory for so much
    if size > _MAX_HEADER_BYTES:
        raise _too_large(path)
    # What is more, libav does not unpack.
    whole = zlib.decompressobj().decompress(parts[b"cmvd"][4:], size)
    _check_lists(path, whole)
    header = dict(boxes(memoryview(whole))).get(b"moov")
    if header is None:
        raise ValueError("a compressed header without a film")
    return header


def boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and content of each box of an mp4, in order; ValueError where there are too many."""
    at = 0
    for _ in range(_MAX_BOXES):
        if at + 8 > len(data):
            return
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
    raise ValueError(f"more than {_MAX_BOXES} boxes in one")


def _tracks(path: str, moov: memoryview) -> dict[int, Presented]:
    parts_of_film = list(boxes(moov))
    film_scale = next((_time_scale(data) for kind, data in parts_of_film if kind == b"mvhd"), 0)
    found: dict[int, Presented] = {}
    for trak in (data for kind, data in parts_of_film if kind == b"trak"):
        parts = dict(boxes(trak))
        edit_list = dict(boxes(parts.get(b"edts", _NOTHING))).get(b"elst")
        media_header = dict(boxes(parts.get(b"mdia", _NOTHING))).get(b"mdhd")
        if edit_list is None or media_header is None or b"tkhd" not in parts:
            continue
        edits = _edits(path, edit_list, film_scale, _time_scale(media_header))
        one = _one_piece(path, edits, 1.5 / film_scale if film_scale else 0.0)
        if one is not None:
            found[_track_number(parts[b"tkhd"])] = one
    return found


_NOTHING = memoryview(b"")


def _time_scale(data: memoryview) -> int:
    (scale,) = struct.unpack_from(">I", data, 20 if data[0] == 1 else 12)
    return scale


def _track_number(data: memoryview) -> int:
    (number,) = struct.unpack_from(">I", data, 20 if data[0] == 1 else 12)
    return number


def _edits(path: str, data: memoryview, film_scale: int, media_scale: int) -> list[_Edit]:
    if not film_scale or not media_scale:
        return []
    (num_edits,) = struct.unpack_from(">I", data, 4)
    shape = ">QqhH" if data[0] == 1 else ">IihH"
    size = struct.calcsize(shape)
    num_edits = min(num_edits, (len(data) - 8) // size)
    _check_length(path, num_edits)
    edits = []
    for k in range(num_edits):
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
