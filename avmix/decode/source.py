"""Media that are no file: bytes, or a file object, read under the same rules as a path."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import BinaryIO, Protocol, runtime_checkable

from avmix.decode.errors import ClipError, UnsupportedMediaError
from avmix.decode.request import Limits


@runtime_checkable
class FileObject(Protocol):
    """What a source has to be able to do: open files, `io.BytesIO`, those of fsspec."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a byte; where that is."""
        ...

    def tell(self) -> int:
        """Where it stands."""
        ...


Source = str | os.PathLike[str] | bytes | bytearray | memoryview | FileObject
"""A path, the bytes of a whole file, or a file object that can be sought."""


@contextmanager
def as_file(source: Source, limits: Limits) -> Iterator[str]:
    """A path by which `source` can be read: its own, or that of a copy in memory.

    Every decoder seeks, so a copy is what makes results the same as from the path. A file object is
    read from its first byte, and left where it stood. Raises `UnsupportedMediaError` for more than
    `limits.max_source_bytes`; a `ClipError` raised within names `source`, not the copy.
    """
    if isinstance(source, str | os.PathLike):
        yield os.fspath(source)
        return
    name = _name(source)
    whole = BytesIO(source) if isinstance(source, bytes | bytearray | memoryview) else source
    with _nameable() as (path, copy):
        position = whole.tell()
        num_bytes = whole.seek(0, os.SEEK_END)
        if num_bytes > limits.max_source_bytes:
            whole.seek(position)
            raise UnsupportedMediaError(
                name,
                f"has {num_bytes >> 20} MiB, more than the limit for what is no file of its own; "
                "give a path",
            )
        whole.seek(0)
        shutil.copyfileobj(whole, copy)
        whole.seek(position)
        copy.flush()
        try:
            yield path
        except ClipError as error:
            rename(error, source)
            raise


def rename(error: ClipError, source: Source) -> None:
    """Let `error` name what the caller gave."""
    if not isinstance(source, str | os.PathLike):
        error.path = _name(source)
        error.args = (error.path, error.problem)


def _name(source: bytes | bytearray | memoryview | FileObject) -> str:
    if isinstance(source, bytes | bytearray | memoryview):
        return f"<{len(source)} bytes>"
    return str(getattr(source, "name", f"<{type(source).__name__}>"))


@contextmanager
def _nameable() -> Iterator[tuple[str, BinaryIO]]:
    """An empty file and a path by which it can be opened: in memory where the system can."""
    if sys.platform == "linux":
        with os.fdopen(os.memfd_create("avmix"), "w+b") as file:
            yield f"/proc/self/fd/{file.fileno()}", file
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "copy")
            with open(path, "w+b") as file:
                yield path, file
