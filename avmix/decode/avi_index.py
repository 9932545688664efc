"""Detection of missing chunks in AVI files, which count video and audio instead of timestamping
them."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from av.packet import Packet

_HEADER_BYTES = 8
_LIST_HEADER_BYTES = 12
_MIN_INDEX = 2
"""Entries that libav makes by itself while it opens a file that has no index."""
_MAX_CHUNKS = 1000
"""That hold no data, one after the other; a header has some dozens."""

LATE_SAMPLES = {"mp3": 1105, "mp2": 481, "aac": 1024, "ac3": 256, "eac3": 256}
"""By how much audio in AVI comes late, by libav's name of the codec: what its encoders put before
the first sample (LAME for MP3; of AAC other encoders up to 2,112). In other containers the times
allow for it; AVI cannot say it."""


@dataclass(slots=True)
class AviOrder:
    """Checks that each packet is the next one of its stream, by the index of the file or, where it
    has none (it was cut, or never had one), by the chain of its chunks."""

    path: str
    _places: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By stream the number of the chunk that comes next, and how many bytes of it have been read:
    long chunks of uncompressed audio come in several packets."""
    _has_index: dict[int, bool] = field(default_factory=dict)
    """By stream; asked once, because libav adds to an index what it reads."""
    _chunks: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """By stream the chunks of a file without an index, as far as they were looked for: where the
    header begins, and the size of the data."""
    _walk: Iterator[tuple[int, int, int]] | None = None

    def is_next(self, packet: Packet) -> bool:
        """True when nothing was lost or put in before `packet`, which was just read."""
        stream = packet.stream
        number, num_read = self._places.get(stream.index, (0, 0))
        index = stream.index_entries
        if self._has_index.setdefault(stream.index, len(index) > _MIN_INDEX):
            if packet.pos is None or number >= len(index):
                self._places[stream.index] = (number + 1, 0)
                return True
            pos, size = index[number].pos, index[number].size
        else:
            if packet.pos is None or not packet.size:
                return True
            chunk = self._chunk(stream.index, number)
            if chunk is None:
                return False
            pos, size = chunk
        is_next = packet.pos == pos + _HEADER_BYTES + num_read
        is_next &= num_read + packet.size <= size
        is_part = is_next and num_read + packet.size < size
        self._places[stream.index] = (
            (number, num_read + packet.size) if is_part else (number + 1, 0)
        )
        return is_next

    def _chunk(self, stream: int, number: int) -> tuple[int, int] | None:
        """A chunk of a stream, counted from 0; None where the chain ends before."""
        if self._walk is None:
            self._walk = _chain(self.path)
        chunks = self._chunks.setdefault(stream, [])
        while len(chunks) <= number:
            found = next(self._walk, None)
            if found is None:
                return None
            other, pos, size = found
            self._chunks.setdefault(other, []).append((pos, size))
        return chunks[number]


def _chain(path: str) -> Iterator[tuple[int, int, int]]:
    """Stream, place of the header and size of every chunk that holds data, in order of the file."""
    at = num_others = 0
    with open(path, "rb") as file:
        while num_others < _MAX_CHUNKS:
            file.seek(at)
            head = file.read(_HEADER_BYTES)
            if len(head) < _HEADER_BYTES:
                return
            kind, size = struct.unpack("<4sI", head)
            num_others += 1
            if kind in (b"LIST", b"RIFF"):
                at += _LIST_HEADER_BYTES
                continue
            if kind[:2].isdigit() and kind[2:] not in (b"ix", b"pc") and size:
                num_others = 0
                yield int(kind[:2]), at, size
            elif not kind.isascii() or not kind.strip(b"\0"):
                return
            at += _HEADER_BYTES + size + size % 2
