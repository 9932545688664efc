"""File hashes: whether a file is still the one whose SHA-256 the manifest holds."""

import hashlib
import time

from avmix.decode.errors import DecodeError, UnsupportedMediaError
from avmix.decode.file_head import checked_head
from avmix.decode.per_file_cache import PerFile
from avmix.decode.request import Limits

_BYTES_PER_HASH = 1 << 20


def verify_hash(path: str, sha256: str, limits: Limits) -> None:
    """Raise `DecodeError` unless the file's content is the one that `sha256` was taken of.

    Raises OSError as the system does, `MediaOpenError` for what is not a regular file (a pipe or a
    device has no end), and `UnsupportedMediaError` where reading takes longer than the limit.

    A file is read once per process, and again when its size or time of change is another.
    """
    checked_head(path)
    found = _hashes.get(path, lambda: _hash(path, limits))
    if found != sha256.lower():
        raise DecodeError(
            path,
            f"is not the file it was: its SHA-256 begins {found[:12]}, {sha256[:12].lower()} was "
            "expected; get the file again, or prepare the dataset again",
        )


_hashes: PerFile[str] = PerFile()


def _hash(path: str, limits: Limits) -> str:
    until, digest = time.monotonic() + limits.seconds, hashlib.sha256()
    with open(path, "rb") as file:
        while data := file.read(_BYTES_PER_HASH):
            digest.update(data)
            if time.monotonic() > until:
                raise UnsupportedMediaError(
                    path,
                    f"taking its SHA-256 takes longer than {limits.seconds:g} s; allow more "
                    "(Limits.seconds), or leave it out",
                )
    return digest.hexdigest()
