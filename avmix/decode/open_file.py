"""An open media file: chosen streams, clock, and reading of packets."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from avmix.decode.edit_lists import Presented
from avmix.decode.errors import DecodeError, UnsupportedMediaError
from avmix.decode.libav_log import LibavLog
from avmix.decode.request import Limits

_BACKWARD_SECONDS = 0.1
"""By how much times of decoding may go backward: some writers let them jitter by a packet."""
_PACKETS_PER_LOOK = 16
"""At the clock, while packets are read; decoding looks at it for every frame."""


@dataclass(frozen=True, slots=True)
class Media:
    """An open file, its chosen streams and its clock."""

    path: str
    container: InputContainer
    video: VideoStream | None
    audio: AudioStream | None
    is_audio_unknown: bool
    """True when there is audio, which this build of libav has no decoder for."""
    decoder: VideoCodecContext | None
    """Of the video stream."""
    zero_seconds: float
    """Time of the first presented frame on the container's clock: zero of the clip clock."""
    video_presented: Presented | None
    """What an edit list leaves of the frames, on the container's clock; None without a list."""
    audio_presented: Presented | None
    """The same for audio."""
    seek_back_seconds: tuple[float, ...]
    """How far before a window to aim when seeking, one try after the other; empty: do not seek."""
    in_output_order: bool
    """True when frames carry no usable time, only the order in which the decoder returns them."""
    counted: bool
    """True when the container counts what it holds, so that a lost part shifts all that follows."""
    damaged_at_start: bool
    """True when libav complained of such a container while it was opened."""
    pending: list[Packet]
    """Read while the file was opened, up to the first key frame."""
    libav_log: LibavLog
    """What libav logged since the file was opened."""
    limits: Limits
    began_at: float
    """When the limit of time began to run; monotonic clock, seconds."""
    until_seconds: float
    """Where the file is taken to end, on the clip clock; infinite where it is whole."""

    @property
    def indexed(self) -> bool:
        """True when seeking can be trusted."""
        return bool(self.seek_back_seconds)

    def packets(self, *streams: VideoStream | AudioStream) -> Iterator[Packet]:
        """The packets of `streams` from where reading stands.

        Raises as `read`, `UnsupportedMediaError` also where reading has taken longer than the limit
        in all, and `DecodeError` where time goes backward: what was shown at a time is then not one
        frame, and the audio of that time may belong to another.
        """
        slack = {s.index: _BACKWARD_SECONDS / float(s.time_base or 1) for s in streams}
        latest: dict[int, float] = dict.fromkeys(slack, -math.inf)
        read = [packet for packet in self.pending if packet.stream_index in slack]
        self.pending.clear()
        is_timed = not self.in_output_order
        # One generator, not one in another: this runs for every packet.
        with demuxing(self.path, self.limits):
            for number, packet in enumerate(chain(read, self.container.demux(*streams))):
                if number % _PACKETS_PER_LOOK == 0:
                    self.check_time()
                if is_timed and (dts := packet.dts) is not None:
                    index = packet.stream_index
                    before = latest[index]
                    if dts >= before:
                        latest[index] = dts
                    elif dts < before - slack[index]:
                        at = before * float(packet.time_base) - self.zero_seconds
                        raise DecodeError(
                            self.path,
                            f"its clock starts again after {at:.3f} s: it is joined from several "
                            "recordings; split it, or transcode it",
                        )
                yield packet

    def read(self, *streams: VideoStream | AudioStream) -> Iterator[Packet]:
        """The packets of `streams`, or of all, from where reading stands, whatever their times.

        Raises `UnsupportedMediaError` where one packet takes longer than the limit of time;
        `DecodeError` where a stream appears in the middle. What else libav raises is not changed.
        """
        indices = {stream.index for stream in streams}
        read = [p for p in self.pending if not indices or p.stream_index in indices]
        self.pending.clear()
        with demuxing(self.path, self.limits):
            yield from chain(read, self.container.demux(*streams))

    def seek(self, ticks: int, stream: VideoStream) -> None:
        """Read on from the key frame before `ticks` of `stream`; raises what libav does."""
        self.pending.clear()
        self.container.seek(ticks, backward=True, stream=stream)

    def check_time(self) -> None:
        """Raise `UnsupportedMediaError` when reading has taken longer than the limit."""
        if time.monotonic() - self.began_at > self.limits.seconds:
            raise too_slow(self.path, self.limits)


@contextmanager
def demuxing(path: str, limits: Limits) -> Iterator[None]:
    """What reading packets raises, as `Media.read` raises it."""
    try:
        yield
    except av.error.ExitError as error:  # the `timeout` of the opening
        raise too_slow(path, limits) from error
    except IndexError as error:  # of PyAV, which knows the streams of the opening only
        raise DecodeError(
            path, "a stream appears in the middle; the file is damaged, or joined from others"
        ) from error


def too_slow(path: str, limits: Limits) -> UnsupportedMediaError:
    """Says that reading took longer than the limit of time."""
    return UnsupportedMediaError(
        path, f"decoding takes longer than {limits.seconds:g} s; transcode it"
    )
