"""Reading of mp4/mov boxes and Matroska elements in place, without trusting the sizes that a
damaged or hostile file declares."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase

MAX_BOXES = 100_000
"""In one box; a track of a phone has 20."""
MAX_HEADER_BYTES = 256 << 20
"""Before or beside the frames of a file."""
EBML, SEGMENT, CLUSTER, TIMECODE = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0xE7
"""Numbers of elements of Matroska."""


@dataclass(frozen=True, slots=True)
class Box:
    """Box of an mp4 file, as byte positions."""

    kind: bytes
    begin: int
    """First byte of its content."""
    end: int
    """Never after that of the box it is in."""


def boxes(file: BufferedIOBase, begin: int, end: int, *, most: int = MAX_BOXES) -> Iterator[Box]:
    """Boxes between `begin` and `end`, in order, up to the first invalid one.

    Raises ValueError where there are more than `most`.
    """
    for _ in range(most):
        file.seek(begin)
        head = file.read(16)
        if begin + 8 > end or len(head) < 8:
            return
        size, kind = struct.unpack_from(">I4s", head)
        length = 8
        if size == 1 and len(head) == 16:
            (size,) = struct.unpack_from(">Q", head, 8)
            length = 16
        stop = begin + size if size else end
        if stop < begin + length:
            return
        yield Box(kind, begin + length, min(stop, end))
        if stop > end:
            return
        begin = stop
    raise ValueError(f"more than {most} boxes in one")


def named(file: BufferedIOBase, box: Box, kind: bytes) -> list[Box]:
    """Child boxes of a given kind."""
    return [inner for inner in boxes(file, box.begin, box.end) if inner.kind == kind]


def content(file: BufferedIOBase, box: Box, most: int) -> bytes:
    """Content of a box, at most its first `most` bytes."""
    file.seek(box.begin)
    return file.read(min(box.end - box.begin, most))


def size_of(file: BufferedIOBase) -> int:
    """Size of the file, bytes."""
    return file.seek(0, 2)


@dataclass(frozen=True, slots=True)
class Element:
    """Element of a Matroska file, as byte positions."""

    kind: int
    """Its number, with the mark of its length."""
    begin: int
    """First byte of its content."""
    size: int | None
    """Bytes of its content; None where the end is unknown."""


def element(file: BufferedIOBase, at: int) -> Element:
    """Element at the byte `at`; ValueError, IndexError where there is none."""
    file.seek(at)
    head = file.read(16)
    kind, length = _number(head, 0, keep_mark=True)
    size, size_length = _number(head, length, keep_mark=False)
    is_open = size == (1 << 7 * size_length) - 1
    return Element(kind, at + length + size_length, None if is_open else size)


def bytes_before_clusters(file: BufferedIOBase) -> int:
    """Bytes of a Matroska file before its first cluster; 0 for any other file.

    Elements without number count as more than there may be.
    """
    at, num_bytes = 0, size_of(file)
    try:
        for _ in range(MAX_BOXES):
            here = element(file, at)
            if at == 0 and here.kind != EBML:
                return 0
            if here.kind == CLUSTER:
                return at
            at = min(here.begin + (0 if here.kind == SEGMENT else here.size or 0), num_bytes)
    except (ValueError, IndexError):
        return at  # no element any more: libav decides
    return MAX_HEADER_BYTES + 1


def _number(data: bytes, at: int, *, keep_mark: bool) -> tuple[int, int]:
    """A number of EBML, and of how many bytes."""
    if not data[at]:
        raise ValueError("no number of EBML")
    length = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + length])
    return (value if keep_mark else value & ((1 << 7 * length) - 1)), length
