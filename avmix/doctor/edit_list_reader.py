"""Report of edit lists of mp4 and mov files, which libav applies only in part and silently.

Read here once more, apart from `avmix.decode`, which is checked against this.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO


@dataclass(frozen=True, slots=True)
class Edit:
    """One line of the edit list of one track."""

    track: int
    """Number of the track; libav's `stream.id`."""
    seconds: float
    """How long it lasts; 0 means to the end in fragmented files."""
    media_time: int
    """First tick of the media that is presented; -1 where nothing is."""


@dataclass(frozen=True, slots=True)
class PresentedStretch:
    """The stretch of a track that its edits present; seconds on the container's clock."""

    begin_seconds: float
    end_seconds: float
    """Infinite where no edit says."""


def presented_of(edits: tuple[Edit, ...], track: int) -> PresentedStretch:
    """What the edits of one track present, if they are the usual: nothing, then one piece."""
    mine = [e for e in edits if e.track == track]
    begin = 0.0
    for edit in mine:
        if edit.media_time >= 0:
            # Lengths are rounded to ticks of the movie, most often milliseconds.
            length = sum(e.seconds for e in mine if e.media_time >= 0) + 0.0015
            return PresentedStretch(begin, begin + length if edit.seconds else math.inf)
        begin += edit.seconds
    return PresentedStretch(-math.inf, math.inf)


def read_edits(path: str) -> tuple[Edit, ...]:
    """All edits of all tracks; () for what is not an mp4 or mov file, or is damaged."""
    edits: list[Edit] = []
    try:
        with open(path, "rb") as file:
            end = file.seek(0, 2)
            for name, begin, stop in _boxes(file, 0, end):
                if name == b"moov":
                    edits += _movie(file, begin, stop)
    except (struct.error, ValueError, IndexError):
        return ()
    return tuple(edits)


def _movie(file: BinaryIO, begin: int, stop: int) -> list[Edit]:
    scale, edits = 1000, []
    for name, low, high in _boxes(file, begin, stop):
        if name == b"mvhd":
            version = _read(file, low, 1)[0]
            (scale,) = struct.unpack(">I", _read(file, low + (20 if version else 12), 4))
        elif name == b"trak":
            inside = {n: (a, b) for n, a, b in _boxes(file, low, high)}
            at = inside.get(b"tkhd", (0, 0))[0]
            at += 20 if _read(file, at, 1)[0] else 12
            (track,) = struct.unpack(">I", _read(file, at, 4))
            for n, a, _ in _boxes(file, *inside.get(b"edts", (0, 0))):
                if n == b"elst":
                    edits += _list(file, a, track, scale or 1000)
    return edits


def _list(file: BinaryIO, at: int, track: int, scale: int) -> list[Edit]:
    version, count = _read(file, at, 1)[0], struct.unpack(">I", _read(file, at + 4, 4))[0]
    form, size = (">Qq", 20) if version else (">Ii", 12)
    rows = []
    for k in range(min(count, 1000)):
        row = _read(file, at + 8 + k * size, struct.calcsize(form))
        length, media_time = struct.unpack(form, row)
        rows.append(Edit(track, length / scale, media_time))
    return rows


def _boxes(file: BinaryIO, begin: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, begin and end of the content of each box between two places."""
    while begin + 8 <= stop:
        size, name = struct.unpack(">I4s", _read(file, begin, 8))
        header = 8
        if size == 1:
            (size,) = struct.unpack(">Q", _read(file, begin + 8, 8))
            header = 16
        size = size or stop - begin
        if size < header:
            raise ValueError(f"a box of {size} bytes")
        yield name, begin + header, min(begin + size, stop)
        begin += size


def _read(file: BinaryIO, at: int, num: int) -> bytes:
    file.seek(at)
    return file.read(num)
