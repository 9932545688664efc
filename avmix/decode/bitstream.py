"""Bitstream checks: bytes in packets of compressed video that no encoder writes and decoders
overlook.

H.264 and H.265 forbid three bytes 0, 0, 0 to 2 inside a unit (ISO/IEC 14496-10, 7.4.1), so a hole
of zeros, as half-written files have them, shows at once. The arithmetic coders of VP8, VP9 and AV1
do not forbid long runs of zeros, but do not write them either.
"""

import re
from collections.abc import Callable, Iterator

# A search tries each zero of a run of them as the first: of a megabyte of zeros that would take
# minutes. Where there are long runs, a slower expression tries the first of each run only.
_FORBIDDEN_IN_UNIT = rb"\x00\x00(?:[\x01\x02]|\x00++[^\x00])"
_FORBIDDEN_IN_STREAM = rb"\x00\x00(?:\x02|\x00++[^\x00\x01])"
"""Here units are separated by 0, 0, 1 with any number of zeros before it."""
_ZEROS_WITHIN = rb"\x00\x00\x00++[^\x00\x01]"
"""23 zero bits only come before a start code (ISO/IEC 13818-2, 6.2.1; 14496-2, 6.2)."""
_TWO_ZEROS = bytes(2)
"""Begin whatever is forbidden; most units have none."""
_LONG_RUN = bytes(64)
_HOLE = bytes(128)
_SET = rb"\x00\x00\x01(%b(?:(?!\x00\x00[\x00\x01]).){3,256})"
_SETS = {
    "h264": re.compile(_SET % b"[\x07\x27\x47\x67]", re.DOTALL),
    "hevc": re.compile(_SET % b"\x42", re.DOTALL),
}
"""How sequence parameter sets are found after a start code."""
_SIZE = re.compile(rb"\x00\x00\x01\xb3(...)", re.DOTALL)
"""Width and height, 12 bits each (ISO/IEC 13818-2, 6.2.2.1)."""
_IDR = 5
_START_CODES = (b"\0\0\1", b"\0\0\0\1")
_BEFORE_SLICES = {"h264": {6, 7, 8, 9, 14}, "hevc": {32, 33, 34, 35, 39}}
"""Types of units that stand before the slices they describe: SEI, parameter sets, delimiters, the
prefix of scalable H.264 (ISO/IEC 14496-10, table 7-1; 23008-2, table 7-1)."""


def damage_check(codec: str, extradata: bytes) -> Callable[[bytes], bool]:
    """Return a check of packets: True when the bytes cannot be what an encoder wrote.

    `extradata` of the stream tells whether units follow their length or a start code.
    """
    length_bytes = bytes_of_lengths(codec, extradata)
    if length_bytes:
        return _units_check(length_bytes, codec)
    if codec in ("h264", "hevc"):
        return _search(_FORBIDDEN_IN_STREAM)
    if codec in ("mpeg1video", "mpeg2video", "mpeg4"):
        return _search(_ZEROS_WITHIN)
    if codec in ("vp8", "vp9", "av1", "libdav1d", "libvpx-vp9"):
        return lambda data: _HOLE in data
    return lambda data: False


def parameter_sets(codec: str, extradata: bytes) -> Callable[[bytes], bytes]:
    """Return a function from a keyframe's packet to its description of the frame format; empty
    where there is none.

    Of H.264 and H.265 the sequence parameter sets, of MPEG-1 and MPEG-2 the size of frames.
    """
    length_bytes = bytes_of_lengths(codec, extradata)
    if codec in ("mpeg1video", "mpeg2video"):
        return lambda data: b"".join(_SIZE.findall(data))
    if codec not in _SETS:
        return lambda data: b""
    is_set = _SETS[codec]

    def found(data: bytes) -> bytes:
        parts = [data]
        # As in `_units_check` there may be start codes without a length, or one for several units.
        if length_bytes and not _has_start_codes(data, codec, length_bytes):
            each = (data[begin:end] for begin, end in units(data, length_bytes))
            parts = [_START_CODES[0] + unit for unit in each if _may_be_several(unit, codec)]
        return b"".join(dict.fromkeys(one for part in parts for one in is_set.findall(part)))

    return found


def bytes_of_lengths(codec: str, extradata: bytes) -> int:
    """Bytes of the length field of each unit of H.264 or H.265; 0 where start codes are used."""
    if codec == "h264" and len(extradata) > 6 and extradata[0] == 1:
        return (extradata[4] & 3) + 1
    if codec == "hevc" and len(extradata) > 22 and extradata[0] == 1:
        return (extradata[21] & 3) + 1
    return 0


def units(data: bytes, length_bytes: int) -> Iterator[tuple[int, int]]:
    """Byte range of each unit of a packet with length fields."""
    at, end = 0, len(data)
    while at + length_bytes <= end:
        begin = at + length_bytes
        at = begin + int.from_bytes(data[at:begin])
        yield begin, at


def refers_to_earlier(data: bytes, codec: str, extradata: bytes) -> bool:
    """True for a key frame of H.264 after which frames may refer to ones before it (no IDR)."""
    if codec != "h264":
        return False
    length_bytes = bytes_of_lengths(codec, extradata)
    if length_bytes:
        begins = [begin for begin, end in units(data, length_bytes) if begin < end]
    else:
        begins = [match.end() for match in re.finditer(rb"\x00\x00\x01", data)]
    return not any(data[at] & 0x1F == _IDR for at in begins if at < len(data))


def _search(expression: bytes) -> Callable[[bytes], bool]:
    """Whether an expression that begins with zeros is found, in time that grows with the length."""
    fast, safe = re.compile(expression), re.compile(rb"(?<!\x00)" + expression)

    def found(data: bytes) -> bool:
        return (safe if _LONG_RUN in data else fast).search(data) is not None

    return found


def _units_check(length_bytes: int, codec: str) -> Callable[[bytes], bool]:
    """Each unit of a packet follows its length.

    Some writers state one length for several units, of which start codes separate those behind the
    first: phones for a prefix unit and its slice, others for a delimiter and all that follows. Some
    leave packets of a stream, or all of them, as they were: start codes without a length. libav
    decodes these as they are meant.
    """
    search, search_several = _search(_FORBIDDEN_IN_UNIT), _search(_FORBIDDEN_IN_STREAM)

    def check(data: bytes) -> bool:
        if _has_start_codes(data, codec, length_bytes):
            return search_several(data)
        at, end = 0, len(data)
        while at + length_bytes <= end:  # as `units`: this runs for every packet
            begin = at + length_bytes
            at = begin + int.from_bytes(data[at:begin])
            if data.find(_TWO_ZEROS, begin, at) < 0:
                continue
            unit = data[begin:at]  # a slice: zeros of the length are not part of it
            if (search_several if _may_be_several(unit, codec) else search)(unit):
                return True
        return False

    return check


def _has_start_codes(data: bytes, codec: str, length_bytes: int) -> bool:
    """True for a packet with start codes in place of lengths: as a length it would be that of a
    unit of one byte. Of H.265 libav takes it so."""
    code = _START_CODES[1]
    return codec == "h264" and length_bytes == len(code) and data.startswith(code)


def _may_be_several(unit: bytes, codec: str) -> bool:
    """True when start codes may separate several units in what one length is stated for."""
    head = unit[0] if unit else 0
    kind = head & 0x1F if codec == "h264" else head >> 1 & 0x3F
    return kind in _BEFORE_SLICES[codec] or unit.startswith(_START_CODES)
