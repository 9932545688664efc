"""First bytes of a file, checked before libav opens it."""

import os
import stat

from avmix.decode.container_boxes import MAX_HEADER_BYTES, bytes_before_clusters
from avmix.decode.errors import MediaOpenError, UnsupportedMediaError

_HEAD_BYTES = 12
_IMAGE_BRANDS = {b"jp2 ", b"jpx ", b"jxl "}
"""Of files that begin like an mp4 and are none."""


def checked_head(path: str) -> bytes:
    """The first bytes of a file; raises where it is not a regular one, or empty."""
    mode = os.stat(path).st_mode
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise MediaOpenError(path, "is not a regular file")
    # Raises what the system says of directories and permissions.
    with open(path, "rb", buffering=0) as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        raise MediaOpenError(path, "is empty (0 bytes)")
    return head


def is_mp4(head: bytes) -> bool:
    """True for mp4, mov and their relatives, which libav knows by the same bytes (`mov_probe`):
    asking each of its demuxers takes a sixth of the time to open a small file."""
    return head[4:8] == b"ftyp" and head[8:12] not in _IMAGE_BRANDS


def check_matroska(path: str) -> None:
    """Raise `UnsupportedMediaError` where there is more before the first cluster than any file
    needs: libav takes all of it into memory."""
    with open(path, "rb") as file:
        if bytes_before_clusters(file) > MAX_HEADER_BYTES:
            raise UnsupportedMediaError(
                path, f"its header is larger than {MAX_HEADER_BYTES >> 20} MiB; transcode it"
            )
