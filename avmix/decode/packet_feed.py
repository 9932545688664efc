"""Packet loop: feeds the packets of an open file to the takers of frames and audio."""

from typing import Protocol, runtime_checkable

import av.error
from av.packet import Packet

from avmix.decode.avi_index import AviOrder
from avmix.decode.errors import TruncatedMediaError
from avmix.decode.open_file import Media

_UNOPENED = "NULL"
"""libav's name, in its log, of a parser."""


@runtime_checkable
class Taker(Protocol):
    """What packets are fed to."""

    def feed(self, packet: Packet) -> None:
        """Take the next packet of the stream; the empty one at the end."""
        ...

    def note_break(self) -> None:
        """Something between the last packet and the next could not be read, or was lost."""
        ...


@runtime_checkable
class TakesFrames(Taker, Protocol):
    """Of the video."""

    @property
    def gathered(self) -> bool:
        """True when it needs no more packets."""
        ...


@runtime_checkable
class TakesAudio(Taker, Protocol):
    """Of the audio."""

    @property
    def done(self) -> bool:
        """True when it needs no more packets."""
        ...


def feed_all(media: Media, frames: TakesFrames | None, audio: TakesAudio | None) -> None:
    """Feed packets until both have all they need, or the file ends.

    Raises as `Media.packets`, and `TruncatedMediaError` where reading fails.
    """
    taken = ((media.video, frames), (media.audio, audio))
    streams = [stream for stream, taker in taken if stream is not None and taker is not None]
    video = -1 if media.video is None else media.video.index
    lost = media.damaged_at_start
    order = AviOrder(media.path) if media.in_output_order else None
    # What parsers find in the coding of a packet, its decoder will find as well.
    codings = {_UNOPENED, *(stream.codec_context.name for stream in streams)}
    libav_log = media.libav_log
    libav_log.fresh()
    try:
        for packet in media.packets(*streams):
            lost |= order is not None and packet.dts is not None and not order.is_next(packet)
            if libav_log.fresh(but_of=codings) or lost:
                lost = False
                for reader in (frames, audio):
                    if reader is not None:
                        reader.note_break()
            if packet.stream.index == video:  # the flushing packet has no other number
                if frames is not None:
                    frames.feed(packet)
            elif audio is not None:
                audio.feed(packet)
            if (frames is None or frames.gathered) and (audio is None or audio.done):
                return
    except av.error.FFmpegError as error:
        raise TruncatedMediaError(media.path, f"reading stops early: {error.strerror}") from error
