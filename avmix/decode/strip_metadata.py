"""Removal of metadata (SEI, EXIF and the like) from packets of compressed video.

Cameras and re-streamers write such descriptions (SEI, EXIF) badly, and libav's log then tells of
errors as it does of damage. Whether the frames are concerned shows when they are decoded without.
"""

from collections.abc import Callable

from av.bitstream import BitStreamFilterContext
from av.packet import Packet
from av.video.stream import VideoStream

from avmix.decode.bitstream import bytes_of_lengths, units

_FILTERS = {"h264": "filter_units=remove_types=6", "hevc": "filter_units=remove_types=39-40"}
_SEI = {"h264": (range(6, 7), 0, 0x1F), "hevc": (range(39, 41), 1, 0x3F)}
"""Types of such units, and where their first byte has them (ISO/IEC 14496-10, 7.3.1; 23008-2,
7.3.1.2)."""
_MARK, _START, _SCAN = 0xFF, 0xD8, 0xDA
_DESCRIBING = {*range(0xE1, 0xEE), 0xEF, 0xFE}
"""Segments of JPEG: applications' own and comments, but not APP0 (fields) and APP14 (colours)."""


def metadata_filter(stream: VideoStream) -> Callable[[Packet], Packet] | None:
    """Return a function that removes metadata from packets of `stream`; None where there is
    none."""
    name = stream.codec_context.name
    if name in _SEI:
        length_bytes = bytes_of_lengths(name, stream.codec_context.extradata or b"")
        if length_bytes:
            return _without_units(length_bytes, *_SEI[name])
        return _filtered(BitStreamFilterContext(_FILTERS[name], stream))
    return _bare_jpeg if name == "mjpeg" else None


def _without_units(
    length_bytes: int, types: range, shift: int, mask: int
) -> Callable[[Packet], Packet]:
    """Units follow their lengths: the filter of libav would write start codes."""

    def bared(packet: Packet) -> Packet:
        data = bytes(packet)
        kept = [
            data[begin - length_bytes : end]
            for begin, end in units(data, length_bytes)
            if not (begin < len(data) and data[begin] >> shift & mask in types)
        ]
        return _with_data(packet, b"".join(kept)) if kept else packet

    return bared


def _filtered(context: BitStreamFilterContext) -> Callable[[Packet], Packet]:
    def bared(packet: Packet) -> Packet:
        if not packet.size:
            return packet
        copy = _with_data(packet, bytes(packet))  # the filter takes the data away
        return next(iter(context.filter(copy)), packet)

    return bared


def _bare_jpeg(packet: Packet) -> Packet:
    data = bytes(packet)
    if data[:2] != bytes([_MARK, _START]):
        return packet
    parts, at = [data[:2]], 2
    while at + 4 <= len(data) and data[at] == _MARK and data[at + 1] != _SCAN:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        if data[at + 1] not in _DESCRIBING:
            parts.append(data[at:end])
        at = end
    return _with_data(packet, b"".join([*parts, data[at:]]))


def _with_data(packet: Packet, data: bytes) -> Packet:
    other = Packet(data)
    other.pts, other.dts, other.duration = packet.pts, packet.dts, packet.duration
    other.time_base = packet.time_base
    other.is_keyframe, other.is_corrupt = packet.is_keyframe, packet.is_corrupt
    for side in packet.iter_sidedata():
        other.set_sidedata(side)
    return other
