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


@dataclass(slots=True)
class AviOrder:
    """Whether each packet is the one that comes next: by the index of the file, or, where it has
    none (it was cut, or never had one), by the chain of its chunks."""

    path: str
    _num_packets: dict[int, int] = field(default_factory=dict)
    _has_index: dict[int, bool] = field(default_factory=dict)
    """By stream; asked once, because libav adds to an index what it reads."""
    _end: int | None = None
    """Where the chunk after the last packet begins, in bytes."""

    def is_next(self, packet: Packet) -> bool:
        """True when nothing was lost or put in before `packet`, which was just read."""
        stream = packet.stream
        number = self._num_packets.get(stream.index, 0)
        self._num_packets[stream.index] = number + 1
        index = stream.index_entries
        has_index = self._has_index.setdefault(stream.index, len(index) > _MIN_INDEX)
        if packet.pos is None:
            return True
        if has_index:
            if number >= len(index):
                return True
            entry = index[number]
            return (packet.pos, packet.size) == (entry.pos + _HEADER_BYTES, entry.size)
        begin, at = packet.pos - _HEADER_BYTES, self._end
        self._end = packet.pos + packet.size + packet.size % 2
        return at is None or at == begin or self._chain(at, begin)

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
