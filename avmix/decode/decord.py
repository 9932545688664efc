"""Frames from decord, audio from PyAV.

decord counts frames from the nearest keyframe and never says which one it returned. So it is
used only where counting cannot go wrong, and where its own list of times agrees with the packets.
"""

from dataclasses import dataclass

import numpy as np
from av.packet import Packet
from decord import VideoReader
from decord._ffi.base import _LIB, DECORDError, DECORDLimitReachedError
from jaxtyping import UInt8

from avmix.decode.errors import ClipError
from avmix.decode.foreign_libav_log import ForeignLibavLog
from avmix.decode.frame_index import clips, failure, index_of, refusal
from avmix.decode.open_file import Media
from avmix.decode.request import Request
from avmix.types import Clip

_LOG = ForeignLibavLog(_LIB)

_PIXEL_FORMATS = {"yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p"}
"""What decord gives the colours that PyAV gives it: 8 bits, nothing transparent."""
_FRESH_START = {"h264": range(5, 6), "hevc": range(16, 22), "vp9": None}
"""Codecs of which each packet is one frame shown, and the units (type of NAL) of a frame from
which decoding gives all that follow. Of other codecs a packet may hold no frame, or two."""
_TOLERANCE_SECONDS = 0.0005
_RECOVERED = 1e-9
"""Share of frames that decord may replace by copies of others before it raises: none."""


def decode(request: Request) -> list[Clip | ClipError]:
    """One outcome per window; see `decode_clips`.

    Raises `UnsupportedMediaError` for everything that decord does not do exactly as PyAV.
    """
    index = index_of(request, _Plain.of)
    if index.pixel_format not in _PIXEL_FORMATS:
        raise refusal(index.path, f"decord is not used for {index.pixel_format} frames")
    if index.num_video_streams > 1:
        raise refusal(index.path, "has several videos, and decord cannot be told which")
    num_errors = _LOG.num_errors
    try:
        reader = VideoReader(index.file, num_threads=1, fault_tol=_RECOVERED)  # pyright: ignore[reportArgumentType]
        told = reader.get_frame_timestamp(range(len(reader)))[:, 0]
    except _FAILURES as error:
        raise failure(index, "decord", error) from error
    if len(told) != len(index.seconds):
        raise refusal(
            index.path, f"decord finds {len(told)} frames where there are {len(index.seconds)}"
        )
    # It counts from its first frame, in single precision.
    wrong = np.abs(told - index.seconds) > _TOLERANCE_SECONDS
    if wrong.any():
        raise refusal(
            index.path,
            f"decord gives frame {int(np.argmax(wrong))} the time {told[wrong][0]:.3f} s, it is "
            f"{index.seconds[wrong][0]:.3f} s",
        )

    def read(numbers: list[int]) -> UInt8[np.ndarray, "n h w c"]:
        try:
            batch = reader.get_batch(numbers)
        except _FAILURES as error:
            raise failure(index, "decord", error) from error
        if _LOG.num_errors > num_errors:
            raise refusal(index.path, "decord finds it damaged")
        # The type depends on a setting of the process that other libraries change.
        return batch.asnumpy() if hasattr(batch, "asnumpy") else np.asarray(batch)

    return clips(request, index, read)


# ValueError: a name that is no UTF-8. AssertionError: a file without a frame.
_FAILURES = (DECORDError, DECORDLimitReachedError, RuntimeError, ValueError, AssertionError)


@dataclass(slots=True)
class _Plain:
    """Looks at packets, and refuses a stream in which frames cannot be counted from each key.

    After a seek, decoders leave out what they have no reference for: frames that are shown before
    the keyframe they follow in the file, and those of a refresh that takes several frames.
    """

    path: str
    codec: str
    length_size: int
    """Bytes of the length before each unit of a packet; 0 where packets have no units."""
    _key_pts: int | None = None

    @classmethod
    def of(cls, media: Media) -> "_Plain":
        """For the frames of `media`."""
        assert media.video is not None
        context = media.video.codec_context
        codec, extra = context.codec.canonical_name, bytes(context.extradata or b"")
        if codec not in _FRESH_START:
            raise refusal(media.path, f"decord is not used for {codec} frames")
        length_size = 0
        if codec != "vp9":
            at = 4 if codec == "h264" else 21
            if len(extra) <= at or extra[0] != 1:
                raise refusal(media.path, f"its {codec} stream has no header of the usual form")
            length_size = extra[at] % 4 + 1
        return cls(media.path, codec, length_size)

    def __call__(self, packet: Packet) -> None:
        """Take the next packet in order of decoding."""
        assert packet.pts is not None
        kinds = self._units(packet) if self.length_size else []
        if packet.is_keyframe:
            fresh = _FRESH_START[self.codec]
            if fresh is not None and not any(kind in fresh for kind in kinds):
                raise refusal(self.path, "has keyframes that need others before them")
            # decord seeks with the time of presentation where the file goes by that of decoding.
            if self._key_pts is not None and (packet.dts or packet.pts) <= self._key_pts:
                raise refusal(self.path, "its keyframes are too near to one another")
            self._key_pts = packet.pts
        elif self._key_pts is None:
            raise refusal(self.path, "does not begin with a keyframe")
        elif packet.pts < self._key_pts:
            raise refusal(self.path, "shows frames before the keyframe that they follow")

    def _units(self, packet: Packet) -> list[int]:
        """Types of the units of a packet, which have to fill it exactly."""
        data, kinds, at = memoryview(packet), [], 0
        while at + self.length_size < len(data):
            size = int.from_bytes(data[at : at + self.length_size], "big")
            head = data[at + self.length_size]
            kinds.append(head & 31 if self.codec == "h264" else head >> 1 & 63)
            at += self.length_size + size
        if at != len(data):
            raise refusal(self.path, "is damaged: the parts of a frame do not fit together")
        return kinds
