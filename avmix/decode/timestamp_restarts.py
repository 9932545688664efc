"""Detection of timestamps that start again within a file, as in recordings joined byte by byte.

Seeking goes by time: in such a file it ends in either of them. What is looked at here needs
no decoder: the times of clusters or fragments, which are few; of MPEG-TS those of every packet, for
which the whole file is read, once per process. What a file holds is not to be trusted: little of it
is in memory at a time, and the limit of time is looked at on the way.
"""

import math
import struct
import sys
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from itertools import pairwise

import numpy as np
from jaxtyping import Int64, UInt8

from avmix.decode.container_boxes import (
    CLUSTER,
    EBML,
    SEGMENT,
    TIMECODE,
    boxes,
    content,
    element,
    size_of,
)
from avmix.decode.per_file_cache import PerFile

_SYNC = 0x47
_WRAP = 1 << 33
"""Ticks of 90 kHz after which the clock of MPEG-TS begins at 0 again; libav knows."""
_SLACK_TICKS = 9000
_PACKET_FORMS = ((188, 0), (192, 4), (204, 0))
"""Packet forms of MPEG-TS: bytes of a packet, and where in it the sync byte is."""
_BLOCK_PACKETS = 1 << 17
_BLOCK_BYTES = 1 << 24
_CLUSTER_BYTES = CLUSTER.to_bytes(4)
_PARTS_PER_LOOK = 1000

_found: PerFile[bool] = PerFile()


def timestamps_restart(path: str, format_name: str, check_time: Callable[[], None]) -> bool:
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
                return any(a is None or b is None or b < a for a, b in pairwise([*times, math.inf]))
            return _fragments_restart(file, check_time)
    except (struct.error, IndexError, ValueError):
        return True


def _transport_restarts(file: BufferedIOBase, check_time: Callable[[], None]) -> bool:
    """By the clock references (PCR) of each program; True where the packets are not in step."""
    head = file.read(3 * 204)
    fits = ((size, lead) for size, lead in _PACKET_FORMS if set(head[lead::size]) == {_SYNC})
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


def _cluster_times(file: BufferedIOBase, check_time: Callable[[], None]) -> Iterator[int | None]:
    """The time of each cluster of a Matroska file; None where another file begins."""
    at, inside, num_seen, num_bytes = 0, False, 0, size_of(file)
    while at < num_bytes:
        if num_seen % _PARTS_PER_LOOK == 0:
            check_time()
        num_seen += 1
        here = element(file, at)
        if here.kind == SEGMENT and not inside:
            inside, at = True, here.begin
            continue
        if here.kind in (SEGMENT, EBML) and inside:
            yield None
            return
        if here.kind == CLUSTER:
            yield _time_of(file, here.begin, num_bytes)
        elif here.size is None:
            yield None
            return
        at = (
            _next_cluster(file, here.begin, num_bytes, check_time)
            if here.size is None
            else here.begin + here.size
        )


def _time_of(file: BufferedIOBase, at: int, num_bytes: int) -> int | None:
    """What the timecode says, which is among the first elements of a cluster."""
    for _ in range(4):
        if at >= num_bytes:
            return None
        part = element(file, at)
        if part.size is None:
            return None
        if part.kind == TIMECODE:
            return int.from_bytes(_bytes(file, part.begin, min(part.size, 8)))
        at = part.begin + part.size
    return None


def _bytes(file: BufferedIOBase, at: int, size: int) -> bytes:
    """So many bytes from `at` on."""
    file.seek(at)
    return file.read(size)


def _next_cluster(
    file: BufferedIOBase, at: int, num_bytes: int, check_time: Callable[[], None]
) -> int:
    """Where the next cluster from `at` on begins, or the end."""
    while at < num_bytes:
        check_time()
        found = _bytes(file, at, _BLOCK_BYTES).find(_CLUSTER_BYTES)
        if found >= 0:
            return at + found
        at += _BLOCK_BYTES - len(_CLUSTER_BYTES) + 1
    return num_bytes


def _fragments_restart(file: BufferedIOBase, check_time: Callable[[], None]) -> bool:
    """By the decode time (tfdt) of each track in each fragment."""
    last: dict[int, int] = {}
    whole = boxes(file, 0, size_of(file), most=sys.maxsize)  # a chunk may be a frame
    for number, box in enumerate(whole):
        if number % _PARTS_PER_LOOK == 0:
            check_time()
        for inner in boxes(file, box.begin, box.end) if box.kind == b"moof" else ():
            if inner.kind != b"traf":
                continue
            parts = {
                part.kind: content(file, part, 16) for part in boxes(file, inner.begin, inner.end)
            }
            if b"tfhd" not in parts or b"tfdt" not in parts:
                continue
            (track,) = struct.unpack_from(">I", parts[b"tfhd"], 4)
            form = ">Q" if parts[b"tfdt"][0] else ">I"
            (time,) = struct.unpack_from(form, parts[b"tfdt"], 4)
            if time < last.get(track, 0):
                return True
            last[track] = time
    return False
