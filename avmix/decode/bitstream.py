"""Bytes that no encoder writes, in packets of compressed pictures: damage that decoders overlook.

H.264 and H.265 forbid three bytes 0, 0, 0 to 2 inside a unit (ISO/IEC 14496-10, 7.4.1), so a hole
of zeros, as half-written files have them, shows at once. The arithmetic coders of VP8, VP9 and AV1
do not forbid long runs of zeros, but do not write them either.
"""

import re
from collections.abc import Callable

# A search tries each zero of a run of them as the first: of a megabyte of zeros that would take
# minutes. Where there are long runs, a slower expression tries the first of each run only.
_FORBIDDEN_IN_UNIT = rb"\x00\x00(?:[\x01\x02]|\x00++[^\x00])"
_FORBIDDEN_IN_STREAM = rb"\x00\x00(?:\x02|\x00++[^\x00\x01])"
"""Here units are separated by 0, 0, 1 with any number of zeros before it."""
_ZEROS_WITHIN = rb"\x00\x00\x00++[^\x00\x01]"
"""23 zero bits only come before a start code (ISO/IEC 13818-2, 6.2.1; 14496-2, 6.2)."""
_LONG_RUN = bytes(64)
_HOLE = bytes(128)


def damage_check(codec: str, extradata: bytes) -> Callable[[bytes], bool]:
    """A check of packets: True when the bytes of one cannot be what an encoder wrote.

    `extradata` of the stream tells whether units follow their length or a start code.
    """
    if codec == "h264" and len(extradata) > 6 and extradata[0] == 1:
        return _units_check((extradata[4] & 3) + 1)
    if codec == "hevc" and len(extradata) > 22 and extradata[0] == 1:
        return _units_check((extradata[21] & 3) + 1)
    if codec in ("h264", "hevc"):
        return _search(_FORBIDDEN_IN_STREAM)
    if codec in ("mpeg1video", "mpeg2video", "mpeg4"):
        return _search(_ZEROS_WITHIN)
    if codec in ("vp8", "vp9", "av1", "libdav1d", "libvpx-vp9"):
        return lambda data: _HOLE in data
    return lambda data: False


def _search(expression: bytes) -> Callable[[bytes], bool]:
    """Whether an expression that begins with zeros is found, in time that grows with the length."""
    fast, safe = re.compile(expression), re.compile(rb"(?<!\x00)" + expression)

    def found(data: bytes) -> bool:
        return (safe if _LONG_RUN in data else fast).search(data) is not None

    return found


def _units_check(length_bytes: int) -> Callable[[bytes], bool]:
    """Each unit of a packet follows its length."""
    search = _search(_FORBIDDEN_IN_UNIT)

    def check(data: bytes) -> bool:
        at, end = 0, len(data)
        while at + length_bytes <= end:
            begin = at + length_bytes
            at = begin + int.from_bytes(data[at:begin])
            if search(data[begin:at]):  # a slice: zeros of the length are not part of it
                return True
        return False

    return check
