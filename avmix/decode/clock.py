"""Whether the clock of a file starts again in the middle, as in recordings joined byte by byte.

Seeking goes by time: in such a file it ends in either of them. What is looked at here needs
no decoder: the times of clusters or fragments, which are few; of MPEG-TS those of every packet, for
which the whole file is read, once per process. What a file holds is not to be trusted: little of it
is in memory at a time, and the limit of time is looked at on the way.
"""

import math
import struct
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import BinaryIO

import numpy as np
from jaxtyping import Int64, UInt8

from avmix.decode.edits import boxes
from avmix.decode.perfile import PerFile

_SYNC = 0x47
_WRAP = 1 << 33
"""Ticks of 90 kHz after which the clock of MPEG-TS begins at 0 again; libav knows."""
_SLACK_TICKS = 9000
_PACKET_FORMS = ((188, 0), (192, 4), (204, 0))
"""Of MPEG-TS: bytes of a packet, and where in it the sync byte is."""
_BLOCK_PACKETS = 1 << 17
_BLOCK_BYTES = 1 << 24
_EBML, _SEGMENT, _CLUSTER, _TIMECODE = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0xE7
_CLUSTER_BYTES = _CLUSTER.to_bytes(4)
_MAX_FRAGMENT_BYTES = 16 << 20
"""Of the header of one; it has some bytes for each of its frames."""
_PARTS_PER_LOOK = 1000

_found: PerFile[bool] = PerFile()


def restarts(path: str, format_name: str, check_time: Callable[[], None]) -> bool:
    """True when time goes backward somewhere in `path`, or when that cannot be told.

    `format_name` is libav's. A file is looked at once per process, and again when it has changed.
    `check_time`, which is called on the way, raises at the limit of time.
    """
    return _found.get(path, lambda: _restarts(path, format_name, check_time), format_name)


def _restarts(path: str, format_name: str, check_time: Callable[[], None]) -> bool:
    try:
        with open(path, "rb") as file:
            if "mpegts" in format_name:
                return _transport_restarts(file, check_time)
            if "matroska" in format_name:
                times = _cluster_times(file, check_time)
                return any(
                    a is None or b is None or b < a for a, b in pairwise([*times, math.inf])
                )
            return _fragments_restart(file, check_time)
    except (struct.error, IndexError, ValueError):
        return True


def _transport_restarts(file: BinaryIO, check_time: Callable[[], None]) -> bool:
    """By the clock references (PCR) of each program; True where the packets are not in step."""
    head = file.read(3 * 204)
    fits = (
        (size, lead) for size, lead in _PACKET_FORMS if set(head[lead::size]) == {_SYNC}
    )
    size, lead = next(fits, (0, 0))
    if not size:
        return True
    file.seek(0)
    last: dict[int, int] = {}
    while True:
        check_time()
        data = np.frombuffer(file.read(size * _BLOCK_PACKETS), np.uint8)
        packets = data[: len(data) // size * size].reshape(-1, size)[:, lead : lead + 11]
        if not len(packets):
            return not last
        if not (packets[:, 0] == _SYNC).all():
            return True
        pids, ticks = _references(packets)
        for pid in np.unique(pids):
            own = ticks[pids == pid]
            steps = np.diff(own, prepend=last.get(int(pid), int(own[0]))) % _WRAP
            if ((steps > _WRAP // 2) & (steps < _WRAP - _SLACK_TICKS)).any():
                return True
            last[int(pid)] = int(own[-1])


def _references(
    packets: UInt8[np.ndarray, "n 11"],
) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
    """Of those that have one: the number (PID) of the stream, and the clock, ticks of 90 kHz."""
    has = (packets[:, 3] & 0x20 > 0) & (packets[:, 4] >= 7) & (packets[:, 5] & 0x10 > 0)
    heads = packets[has].astype(np.int64)
    pids = (heads[:, 1] & 0x1F) << 8 | heads[:, 2]
    return pids, heads[:, 6] << 25 | heads[:, 7] << 17 | heads[:, 8] << 9 | heads[:, 9] << 1


def _cluster_times(file: BinaryIO, check_time: Callable[[], None]) -> Iterator[int | None]:
    """The time of each cluster of a Matroska file; None where another file begins."""
    inside, num_seen, num_bytes = False, 0, file.seek(0, 2)
    file.seek(0)
    while file.tell() < num_bytes:
        if num_seen % _PARTS_PER_LOOK == 0:
            check_time()
        num_seen += 1
        element, size = _element(file)
        if element == _SEGMENT and not inside:
            inside = True
            continue
        if element in (_SEGMENT, _EBML) and inside:
            yield None
            return
        begin = file.tell()
        if element == _CLUSTER:
            yield _time_of(file)
            if size is None:
                if not _find_cluster(file, begin, check_time):
                    return
                continue
        elif size is None:
            yield None
            return
        file.seek(begin + size)


def _time_of(file: BinaryIO) -> int | None:
    """What the timecode says, which is among the first elements of a cluster."""
    for _ in range(4):
        element, size = _element(file)
        if size is None:
            return None
        if element == _TIMECODE:
            return int.from_bytes(file.read(min(size, 8)))
        file.seek(size, 1)
    return None


def _find_cluster(file: BinaryIO, at: int, check_time: Callable[[], None]) -> bool:
    """Go to the next cluster from `at` on; False where there is none."""
    while True:
        check_time()
        file.seek(at)
        data = file.read(_BLOCK_BYTES)
        found = data.find(_CLUSTER_BYTES)
        if found >= 0:
            file.seek(at + found)
            return True
        if len(data) < _BLOCK_BYTES:
            return False
        at += len(data) - len(_CLUSTER_BYTES) + 1


def _element(file: BinaryIO) -> tuple[int, int | None]:
    """The kind and size of an element of EBML; None for one whose end is not known.

    Raises ValueError where there is none.
    """
    kind, _ = _number(file, keep_mark=True)
    size, length = _number(file, keep_mark=False)
    return kind, None if size == (1 << 7 * length) - 1 else size


def _number(file: BinaryIO, *, keep_mark: bool) -> tuple[int, int]:
    """A number of EBML, and of how many bytes; IndexError, ValueError where there is none."""
    first = file.read(1)[0]
    if not first:
        raise ValueError("no number of EBML")
    length = 9 - first.bit_length()
    value = int.from_bytes(bytes([first]) + file.read(length - 1))
    return (value if keep_mark else value & ((1 << 7 * length) - 1)), length


def _fragments_restart(file: BinaryIO, check_time: Callable[[], None]) -> bool:
    """By the decode time (tfdt) of each track in each fragment."""
    last: dict[int, int] = {}
    num_seen, num_bytes = 0, file.seek(0, 2)
    file.seek(0)
    while len(head := file.read(8)) == 8:
        if num_seen % _PARTS_PER_LOOK == 0:
            check_time()
        num_seen += 1
        size, kind = struct.unpack(">I4s", head)
        left = size - 8
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
            left = size - 16
        if not 0 <= left <= num_bytes - file.tell():
            break
        if kind != b"moof":
            file.seek(left, 1)
            continue
        if left > _MAX_FRAGMENT_BYTES:
            return True
        for inner, body in boxes(memoryview(file.read(left))):
            parts = dict(boxes(body)) if inner == b"traf" else {}
            if b"tfhd" not in parts or b"tfdt" not in parts:
                continue
            (track,) = struct.unpack_from(">I", parts[b"tfhd"], 4)
            form = ">Q" if parts[b"tfdt"][0] else ">I"
            (time,) = struct.unpack_from(form, parts[b"tfdt"], 4)
            if time < last.get(track, 0):
                return True
            last[track] = time
    return False
