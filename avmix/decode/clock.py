"""Whether the clock of a file starts again in the middle, as in recordings joined byte by byte.

Seeking goes by time: in such a file it ends in either of them. What is looked at here needs
no decoder: the times of clusters or fragments, which are few; of MPEG-TS those of every packet, for
which the whole file is read, once per process.
"""

import math
import mmap
import os
import struct
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

import numpy as np
from jaxtyping import UInt8

from avmix.decode.edits import boxes

_SYNC = 0x47
_WRAP = 1 << 33
"""Ticks of 90 kHz after which the clock of MPEG-TS begins at 0 again; libav knows."""
_SLACK_TICKS = 9000
_EBML, _SEGMENT, _CLUSTER, _TIMECODE = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0xE7
_CLUSTER_BYTES = _CLUSTER.to_bytes(4)


def restarts(path: str, format_name: str) -> bool:
    """True when time goes backward somewhere in `path`, or when that cannot be told.

    `format_name` is libav's. A file is looked at once per process, and again when it has changed.
    """
    info = os.stat(path)
    return _restarts(path, format_name, info.st_size, info.st_mtime_ns, info.st_ino, info.st_dev)


@lru_cache(maxsize=1 << 16)
def _restarts(path: str, format_name: str, *identity: int) -> bool:
    del identity
    try:
        with (
            open(path, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            if "mpegts" in format_name:
                return _transport_restarts(np.frombuffer(data, np.uint8))
            if "matroska" in format_name:
                times = list(_cluster_times(data))
                return any(a is None or b is None or b < a for a, b in pairwise([*times, math.inf]))
            return _fragments_restart(data)
    except (struct.error, IndexError, ValueError):
        return True


def _transport_restarts(data: UInt8[np.ndarray, " n"]) -> bool:
    """By the clock references (PCR) of each program; True where the packets are not in step."""
    for size, lead in ((188, 0), (192, 4), (204, 0)):
        whole = data[: len(data) // size * size].reshape(-1, size)[:, lead : lead + 11]
        if len(whole) and (whole[:, 0] == _SYNC).all():
            break
    else:
        return True
    has = (whole[:, 3] & 0x20 > 0) & (whole[:, 4] >= 7) & (whole[:, 5] & 0x10 > 0)
    heads = whole[has].astype(np.int64)
    if not len(heads):
        return True
    pids = (heads[:, 1] & 0x1F) << 8 | heads[:, 2]
    ticks = heads[:, 6] << 25 | heads[:, 7] << 17 | heads[:, 8] << 9 | heads[:, 9] << 1
    for pid in np.unique(pids):
        steps = np.diff(ticks[pids == pid]) % _WRAP
        if ((steps > _WRAP // 2) & (steps < _WRAP - _SLACK_TICKS)).any():
            return True
    return False


def _cluster_times(data: mmap.mmap) -> Iterator[int | None]:
    """The time of each cluster of a Matroska file; None where another file begins."""
    at, inside = 0, False
    while at < len(data):
        element, at = _number(data, at, keep_mark=True)
        size, begin = _number(data, at, keep_mark=False)
        is_open = size == (1 << 7 * (begin - at)) - 1
        if element == _SEGMENT and not inside:
            inside, at = True, begin
            continue
        if element in (_SEGMENT, _EBML) and inside:
            yield None
            return
        if element == _CLUSTER:
            yield _time_of(data, begin)
            if is_open:
                at = data.find(_CLUSTER_BYTES, begin)
                if at < 0:
                    return
                continue
        elif is_open:
            yield None
            return
        at = begin + size


def _time_of(data: mmap.mmap, at: int) -> int | None:
    """What the timecode says, which is among the first elements of a cluster."""
    for _ in range(4):
        element, at = _number(data, at, keep_mark=True)
        size, at = _number(data, at, keep_mark=False)
        if element == _TIMECODE:
            return int.from_bytes(data[at : at + size])
        at += size
    return None


def _number(data: mmap.mmap, at: int, *, keep_mark: bool) -> tuple[int, int]:
    """A number of EBML, and where it ends; ValueError where there is none."""
    if not data[at]:
        raise ValueError(f"no number of EBML at byte {at}")
    length = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + length])
    return (value if keep_mark else value & ((1 << 7 * length) - 1)), at + length


def _fragments_restart(data: mmap.mmap) -> bool:
    """By the decode time (tfdt) of each track in each fragment."""
    last: dict[int, int] = {}
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, at + 8)
        if size < 8:
            break
        if kind == b"moof":
            for inner, body in boxes(memoryview(data[at + 8 : at + size])):
                parts = dict(boxes(body)) if inner == b"traf" else {}
                if b"tfhd" not in parts or b"tfdt" not in parts:
                    continue
                (track,) = struct.unpack_from(">I", parts[b"tfhd"], 4)
                form = ">Q" if parts[b"tfdt"][0] else ">I"
                (time,) = struct.unpack_from(form, parts[b"tfdt"], 4)
                if time < last.get(track, 0):
                    return True
                last[track] = time
        at += size
    return False
