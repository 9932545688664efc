"""torchcodec backend: frames and their timestamps by torchcodec, audio by PyAV.

torchcodec uses the FFmpeg libraries of the system (`apt-get install ffmpeg`). 0.11 goes with torch
2.11 only, later versions with any from 2.11 on. Its wheels of PyPI need the CUDA libraries that
come with the torch of PyPI; beside a torch for CPUs only, its wheel must be for CPUs as well.
"""

import ctypes

import numpy as np
import torch
from jaxtyping import UInt8

from avmix.decode.errors import ClipError
from avmix.decode.foreign_libav_log import ForeignLibavLog
from avmix.decode.frame_index import clips, failure, index_of, refusal
from avmix.decode.request import Request
from avmix.types import Clip

try:
    # Without the extra it is not there; with it, the module does not say what it exports.
    from torchcodec.decoders import (
        VideoDecoder,  # pyright: ignore[reportMissingImports, reportPrivateImportUsage]
    )
except (ImportError, RuntimeError, OSError) as error:  # RuntimeError: FFmpeg is missing
    raise ImportError(
        'backend="torchcodec" needs the torchcodec that goes with this torch '
        "(pip install '.[torchcodec]' in the checkout) and FFmpeg 4 to 9 (apt-get install ffmpeg)"
    ) from error

_LIBRARIES = [name for name in torch.ops.loaded_libraries if "libtorchcodec_core" in name]
if not _LIBRARIES:
    raise ImportError('this torchcodec is unknown to backend="torchcodec"; install 0.17.0')
_LOG = ForeignLibavLog(*map(ctypes.CDLL, _LIBRARIES))

_PIXEL_FORMATS = {
    "yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p",
    "yuv420p10le", "yuv422p10le", "gbrp",
}  # fmt: skip
"""What was found to have the colours that PyAV gives it."""
_TOLERANCE_SECONDS = 2e-6
"""Less than half a tick of any container."""


def decode(request: Request) -> list[Clip | ClipError]:
    """One outcome per window; see `decode_clips`.

    Raises `UnsupportedMediaError` for everything that torchcodec does not do exactly as PyAV.
    """
    index = index_of(request)
    if index.pixel_format not in _PIXEL_FORMATS:
        raise refusal(index.path, f"torchcodec is not used for {index.pixel_format} frames")
    num_errors = _LOG.num_errors
    try:
        decoder = VideoDecoder(
            index.file,
            stream_index=index.stream_index,
            dimension_order="NHWC",
            num_ffmpeg_threads=1,
            seek_mode="exact",
            device="cpu",
        )
    except (RuntimeError, ValueError) as error:  # ValueError: a name that is no UTF-8
        raise failure(index, "torchcodec", error) from error
    if len(decoder) != len(index.seconds):
        raise refusal(
            index.path,
            f"torchcodec finds {len(decoder)} frames where there are {len(index.seconds)}",
        )

    def read(numbers: list[int]) -> UInt8[np.ndarray, "n h w c"]:
        try:
            batch = decoder.get_frames_at(numbers)
        except RuntimeError as error:
            raise failure(index, "torchcodec", error) from error
        if _LOG.num_errors > num_errors:
            raise refusal(index.path, "torchcodec finds it damaged")
        told = batch.pts_seconds.numpy() - index.zero_seconds
        wrong = np.abs(told - index.seconds[numbers]) > _TOLERANCE_SECONDS
        if wrong.any():
            raise refusal(
                index.path,
                f"torchcodec gives the frame of {told[wrong][0]:.3f} s for that of "
                f"{index.seconds[numbers][wrong][0]:.3f} s",
            )
        return batch.data.numpy()

    return clips(request, index, read)
