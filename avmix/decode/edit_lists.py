"""Edit lists of mp4 and mov files: which part of a track is presented, and when.

libav's demuxer honours where the first edit begins, and nothing else, in the mode that keeps audio
and video exactly together; the rest is read here. Source: ISO/IEC 14496-12, 8.6.6.
"""

import struct
import zlib
from dataclasses import dataclass
from io import BufferedIOBase, BufferedReader, BytesIO, FileIO

from avmix.decode.container_boxes import MAX_HEADER_BYTES, Box, boxes, content, named, size_of
from avmix.decode.errors import MediaOpenError, UnsupportedMediaError

_BUFFER_BYTES = 1 << 16
"""Read at once: most headers are that small, and boxes are sought in them."""
_MAX_EDITS = 1000
"""Edits of one track; editors write one for each cut. libav takes 24 bytes of memory for each, and
time that grows with their square."""


@dataclass(frozen=True, slots=True)
class Presented:
    """The stretch of a track that is presented, seconds on the clock of the movie header."""

    begin_seconds: float
    end_seconds: float
    """Infinite where the edit goes to the end of the track."""
    slack_seconds: float
    """Both are rounded to ticks of the movie: what is nearer than this is at the end, not after."""


@dataclass(frozen=True, slots=True)
class _Edit:
    seconds: float
    """Length; 0 is "to the end of the track"."""
    media_seconds: float
    """Where in the track it begins; negative for an empty edit."""
    rate: float


def presented(path: str) -> dict[int, Presented]:
    """Presented stretch of each track (by its number) that has an edit list.

    Nothing where the file is no mp4 or mov. Raises `UnsupportedMediaError` where what is presented
    is not one piece at normal speed, or the lists are too long; `MediaOpenError` where they are not
    well formed.
    """
    try:
        with BufferedReader(FileIO(path), _BUFFER_BYTES) as file:
            header = _header(path, file)
            return {} if header is None else _tracks(path, *header)
    except (struct.error, IndexError, ValueError, zlib.error) as error:
        raise MediaOpenError(path, "its edit lists are damaged") from error


def _header(path: str, file: BufferedIOBase) -> tuple[BufferedIOBase, Box] | None:
    """The `moov` box, and the file it is in, or None."""
    moov = next((box for box in boxes(file, 0, size_of(file)) if box.kind == b"moov"), None)
    if moov is None:
        return None
    if moov.end - moov.begin > MAX_HEADER_BYTES:
        raise _too_large(path)
    packed = next((box for box in boxes(file, moov.begin, moov.end) if box.kind == b"cmov"), None)
    return (file, moov) if packed is None else _unpacked(path, file, packed)


def _too_large(path: str) -> UnsupportedMediaError:
    return UnsupportedMediaError(
        path, f"its header is larger than {MAX_HEADER_BYTES >> 20} MiB; transcode it"
    )


def _unpacked(path: str, file: BufferedIOBase, packed: Box) -> tuple[BufferedIOBase, Box]:
    """What QuickTime has compressed (`cmov`)."""
    parts = {
        box.kind: content(file, box, MAX_HEADER_BYTES)
        for box in boxes(file, packed.begin, packed.end)
        if box.kind in (b"dcom", b"cmvd")
    }
    if parts.get(b"dcom") != b"zlib" or b"cmvd" not in parts:
        raise ValueError("a header compressed in an unknown way")
    (size,) = struct.unpack_from(">I", parts[b"cmvd"])
    if size > MAX_HEADER_BYTES:
        raise _too_large(path)
    # libav unpacks no more than that either.
    whole = zlib.decompressobj().decompress(parts[b"cmvd"][4:], max(size, 1))
    moov = named(BytesIO(whole), Box(b"", 0, len(whole)), b"moov")
    if not moov:
        raise ValueError("a compressed header without a movie box")
    return BytesIO(whole), moov[-1]


def _tracks(path: str, file: BufferedIOBase, moov: Box) -> dict[int, Presented]:
    parts_of_film = list(boxes(file, moov.begin, moov.end))
    film_scale = next((_number_in(file, box) for box in parts_of_film if box.kind == b"mvhd"), 0)
    found: dict[int, Presented] = {}
    for trak in (box for box in parts_of_film if box.kind == b"trak"):
        parts = list(boxes(file, trak.begin, trak.end))
        headers = [box for box in parts if box.kind == b"tkhd"]
        edit_lists = [e for b in parts if b.kind == b"edts" for e in named(file, b, b"elst")]
        media_headers = [m for b in parts if b.kind == b"mdia" for m in named(file, b, b"mdhd")]
        for each in edit_lists:
            _check_length(path, file, each)
        if not edit_lists or not media_headers or not headers:
            continue
        edits = _edits(file, edit_lists[-1], film_scale, _number_in(file, media_headers[-1]))
        one = _one_piece(path, edits, 1.5 / film_scale if film_scale else 0.0)
        if one is not None:
            found[_number_in(file, headers[-1])] = one
    return found


def _number_in(file: BufferedIOBase, box: Box) -> int:
    """Ticks per second of a movie or media header; number of the track of a track header."""
    data = content(file, box, 24)
    (number,) = struct.unpack_from(">I", data, 20 if data[0] == 1 else 12)
    return number


def _check_length(path: str, file: BufferedIOBase, edit_list: Box) -> None:
    """Raise `UnsupportedMediaError` for a list that is longer than any that people make."""
    (num_edits,) = struct.unpack_from(">I", content(file, edit_list, 8), 4)
    num_edits = min(num_edits, (edit_list.end - edit_list.begin) // 12)
    if num_edits > _MAX_EDITS:
        raise UnsupportedMediaError(path, f"its edit list has {num_edits} entries; transcode it")


def _edits(file: BufferedIOBase, edit_list: Box, film_scale: int, media_scale: int) -> list[_Edit]:
    if not film_scale or not media_scale:
        return []
    data = content(file, edit_list, 8 + 20 * _MAX_EDITS)
    (num_edits,) = struct.unpack_from(">I", data, 4)
    shape = ">QqhH" if data[0] == 1 else ">IihH"
    size = struct.calcsize(shape)
    num_edits = min(num_edits, (len(data) - 8) // size)
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
