"""AVI files count pictures and sound instead of timing them: nothing may be missing in between."""

import struct
from dataclasses import dataclass, field

from av.packet import Packet

_HEADER_BYTES = 8
_LIST_HEADER_BYTES = 12
_MIN_INDEX = 2
"""Entries that libav makes by itself while it opens a file that has no index."""
_MAX_CHUNKS = 1000
"""Between two packets; there is one or none in a file that is well."""

LATE_SAMPLES = {"mp3": 1105, "mp2": 481, "aac": 1024, "ac3": 256, "eac3": 256}
"""By how much audio in AVI comes late, by libav's name of the codec: what its encoders put before
the first sample (LAME for MP3; of AAC other encoders up to 2,112). In other containers the times
allow for it; AVI cannot say it."""


@dataclass(slots=True)
class AviOrder:
    """Whether each packet is the one that comes next: by the index of the file, or, where it has
    none (it was cut, or never had one), by the chain of its chunks."""

    path: str
    _places: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By stream the number of the entry of its index that comes next, and how many bytes of it have
    been read: long chunks of uncompressed audio come in several packets."""
    _has_index: dict[int, bool] = field(default_factory=dict)
    """By stream; asked once, because libav adds to an index what it reads."""
    _last_byte: int | None = None
    """Where the data of the last packet end, in bytes."""
    _end: int | None = None
    """Where the chunk after the last packet begins, in bytes."""

    def is_next(self, packet: Packet) -> bool:
        """True when nothing was lost or put in before `packet`, which was just read."""
        stream = packet.stream
        number, num_read = self._places.get(stream.index, (0, 0))
        index = stream.index_entries
        has_index = self._has_index.setdefault(stream.index, len(index) > _MIN_INDEX)
        if not has_index:
            return packet.pos is None or self._is_chained(packet.pos, packet.size)
        if packet.pos is None or number >= len(index):
            self._places[stream.index] = (number + 1, 0)
            return True
        entry = index[number]
        is_next = packet.pos == entry.pos + _HEADER_BYTES + num_read
        is_next &= num_read + packet.size <= entry.size
        is_part = is_next and num_read + packet.size < entry.size
        self._places[stream.index] = (
            (number, num_read + packet.size) if is_part else (number + 1, 0)
        )
        return is_next

    def _is_chained(self, pos: int, size: int) -> bool:
        """True when the data at `pos` go on with, or follow, the chunk of the last packet."""
        begin, at, last = pos - _HEADER_BYTES, self._end, self._last_byte
        self._last_byte = pos + size
        self._end = self._last_byte + size % 2
        return at is None or pos == last or at == begin or self._chain(at, begin)

    def _chain(self, at: int, begin: int) -> bool:
        """True when chunks of other kinds lead from `at` to `begin`."""
        with open(self.path, "rb") as file:
            for _ in range(_MAX_CHUNKS):
                if at >= begin:
                    break
                file.seek(at)
                head = file.read(_HEADER_BYTES)
                if len(head) < _HEADER_BYTES:
                    return False
                kind, size = struct.unpack("<4sI", head)
                is_list = kind in (b"LIST", b"RIFF")
                at += _LIST_HEADER_BYTES if is_list else _HEADER_BYTES + size + size % 2
        return at == begin
