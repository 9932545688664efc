"""Decoder state (parameter sets and the like) carried by earlier packets, for decoding that
starts later."""

import re
from dataclasses import dataclass, field

from av.packet import Packet, PacketSideData, PktSideDataT
from av.video.stream import VideoStream

_KINDS: tuple[PktSideDataT, ...] = ("palette", "new_extradata", "param_change")
"""Side data that stay in force until the next of the same kind; demuxers state them once."""
_X264_BUILD = re.compile(rb"x264 - core (\d+)")
_AUDIO_BUILD = 151
"""Earlier builds of x264 wrote 4:4:4 in a way of their own, which libav's decoder repeats."""


@dataclass(slots=True)
class DecoderState:
    """The side data in force, by kind."""

    _found: dict[str, PacketSideData] = field(default_factory=dict)

    def note(self, packet: Packet) -> None:
        """Take over what `packet` sets from here on."""
        for data in packet.iter_sidedata():
            if data.data_type in _KINDS:
                self._found[data.data_type] = data

    def give(self, packet: Packet) -> None:
        """Add to `packet`, with which decoding may begin, what earlier ones have set."""
        for kind, data in self._found.items():
            if not packet.has_sidedata(kind):  # type: ignore[arg-type]
                packet.set_sidedata(data)


def must_be_decoded(first: Packet, stream: VideoStream) -> bool:
    """True when the first packet of a stream says how the decoder has to read all others."""
    context = stream.codec_context
    if context.name != "h264" or context.pix_fmt in ("yuv420p", "yuvj420p", "yuv422p"):
        return False
    build = _X264_BUILD.search(bytes(first))
    return build is not None and int(build[1]) < _AUDIO_BUILD
