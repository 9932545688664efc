"""Bytes that no encoder writes, in packets of compressed pictures: damage that decoders overlook.

H.264 and H.265 forbid three bytes 0, 0, 0 to 2 inside a unit (ISO/IEC 14496-10, 7.4.1), so a hole
of zeros, as half-written files have them, shows at once. The arithmetic coders of VP8, VP9 and AV1
do not forbid long runs of zeros, but do not write them either.
"""

import re
from collections.abc import Callable

_FORBIDDEN_IN_UNIT = re.compile(rb"\x00\x00(?:[\x01\x02]|\x00+[^\x00])")
_FORBIDDEN_IN_STREAM = re.compile(rb"\x00\x00(?:\x02|\x00+[^\x00\x01])")
"""Here units are separated by 0, 0, 1 with any number of zeros before it."""
_ZEROS_WITHIN = re.compile(rb"\x00\x00\x00+[^\x00\x01]")
"""23 zero bits only come before a start code (ISO/IEC 13818-2, 6.2.1; 14496-2, 6.2)."""
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
        return lambda data: _FORBIDDEN_IN_STREAM.search(data) is not None
    if codec in ("mpeg1video", "mpeg2video", "mpeg4"):
        return lambda data: _ZEROS_WITHIN.search(data) is not None
    if codec in ("vp8", "vp9", "av1", "libdav1d", "libvpx-vp9"):
        return lambda data: _HOLE in data
    return lambda data: False


def _units_check(length_bytes: int) -> Callable[[bytes], bool]:
    """Each unit of a packet follows its length."""
    search = _FORBIDDEN_IN_UNIT.search

    def check(data: bytes) -> bool:
        at, end = 0, len(data)
        while at + length_bytes <= end:
            begin = at + length_bytes
            at = begin + int.from_bytes(data[at:begin])
            if search(data, begin, at):
                return True
        return False

    return check
