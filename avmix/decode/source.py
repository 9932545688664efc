"""Media sources other than paths of files: bytes, file objects, URLs and cells of Parquet files,
under the same rules as a path."""

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Protocol, TypeGuard, runtime_checkable

from avmix.decode.errors import ClipError, MediaOpenError, UnsupportedMediaError
from avmix.decode.joined_audio import Joined, join_audio
from avmix.decode.memory_file import memory_file
from avmix.decode.parquet_cells import Cells, cells_of, read_cell
from avmix.decode.request import Limits


@runtime_checkable
class FileObject(Protocol):
    """Protocol of file objects that can be decoded: open files, `io.BytesIO`, those of fsspec."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to a byte position and return it."""
        ...

    def tell(self) -> int:
        """Current byte position."""
        ...


_ACCEPTED = (
    "give a path or URL, the bytes of a whole file (bytes, bytearray, memoryview), or a file "
    "object that is opened for reading bytes and can be sought"
)
_BYTES_PER_READ = 1 << 20
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*(?:::[A-Za-z0-9+.-]+)*)://")
_PROTOCOLS = ("abfs", "az", "file", "gcs", "gs", "hf", "http", "https", "memory", "s3", "s3a")
"""Accepted protocols of URLs. Others of fsspec run programs, log in, or read what a file tells."""

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | FileObject
"""A path or URL, the bytes of a whole file, or a file object that can be sought."""


@contextmanager
def as_file(source: Source, limits: Limits) -> Iterator[str]:
    """A path by which `source` can be read: its own, or that of a copy in memory.

    Every decoder seeks, so a copy is what makes results the same as from the path. A file object is
    read from its first byte, never by more than one byte beyond `limits.max_source_bytes`, and left
    where it stood. A string with `://` that is no file here is a URL: fsspec reads it, never libav,
    and only those of `_PROTOCOLS`. A path that leads into a Parquet file means bytes of it
    (`avmix.decode.parquet_cells`). A `ClipError` raised within names `source`, not the copy.

    Raises TypeError for what is no source, `UnsupportedMediaError` for more than
    `limits.max_source_bytes` and for URLs of other protocols, `MediaOpenError` where a file object
    gives fewer or more bytes than it says it has, and where a URL cannot be read; OSError as the
    file object does, as where it cannot be sought; ImportError where fsspec is missing, or what it
    needs for a protocol.
    """
    if _is_file(source):
        yield os.fspath(source)
        return
    cells = cells_of(source)
    with memory_file() as (path, copy):
        if cells is not None:
            copy.write(media_in_parquet(cells, limits).data)
        elif isinstance(source, str):
            _fetch(source, copy, limits)
        elif isinstance(source, bytes | bytearray | memoryview):
            _check_size(name_of(source), _num_bytes(source), limits)
            copy.write(source if not isinstance(source, memoryview) else source.tobytes())
        elif isinstance(source, io.TextIOBase) or not isinstance(source, FileObject):
            kind = type(source).__name__
            raise TypeError(f"{name_of(source)} is not a media source ({kind}): {_ACCEPTED}")
        else:
            _copy(source, copy, limits)
        copy.flush()
        try:
            yield path
        except ClipError as error:
            rename(error, source)
            raise


def _is_file(source: object) -> TypeGuard[str | os.PathLike[str]]:
    """True for the path of a file; also of one whose name looks like a URL."""
    if cells_of(source) is not None:
        return False
    if isinstance(source, str):
        return _URL.match(source) is None or os.path.exists(source)
    return isinstance(source, os.PathLike)


def media_in_parquet(cells: Cells, limits: Limits) -> Joined:
    """The media file in a row of a Parquet file, with the audio of a further column where `cells`
    names one, the row has it, and the media file has none. Raises as `read_cell` and
    `join_audio`, and `MediaOpenError` where the row has no bytes."""
    name = str(cells)
    video = read_cell(cells, cells.video, limits)
    if not video:
        raise MediaOpenError(name, f"column {cells.video} has no bytes in this row")
    audio = read_cell(cells, cells.audio, limits) if cells.audio else None
    if not audio:
        return Joined(video, is_joined=False)
    return join_audio(name, video, audio, limits)


def _fetch(url: str, copy: BinaryIO, limits: Limits) -> None:
    """Write all bytes behind a URL into `copy`; raises as `as_file`."""
    found = _URL.match(url)
    protocol = found[1].lower() if found else ""
    if protocol not in _PROTOCOLS:
        raise UnsupportedMediaError(
            url,
            f"URLs of {protocol} are not opened, only those of {', '.join(_PROTOCOLS)}; open it "
            "with fsspec and give the file object",
        )
    try:
        import fsspec
    except ImportError:
        raise ImportError(f"{url} needs fsspec: pip install '.[fsspec]' in the checkout") from None
    try:
        # Not `fsspec.open`: it takes a `::` in a name for a chain of URLs, and reads another file.
        system = fsspec.get_filesystem_class(protocol)
        options = system._get_kwargs_from_urls(url)
        with system(**options).open(system._strip_protocol(url), "rb") as file:
            _copy(file, copy, limits, name=url)  # pyright: ignore[reportArgumentType]
    except (ClipError, OSError, ImportError):
        raise
    except Exception as error:  # of whichever client reads this protocol
        raise MediaOpenError(
            url, f"cannot be read: {str(error) or type(error).__name__}"
        ) from error


def _copy(source: FileObject, copy: BinaryIO, limits: Limits, *, name: str = "") -> None:
    """Write all bytes of a file object into `copy`; raises as `as_file`, with its `name`."""
    name = name or name_of(source)
    position = source.tell()
    try:
        said = source.seek(0, os.SEEK_END)
        if not isinstance(said, int):  # `mmap` before Python 3.13
            raise TypeError(f"{name}: seek() gives {said!r}, not a number: {_ACCEPTED}")
        _check_size(name, said, limits)
        source.seek(0)
        left = said + 1  # one more than there should be, to see that it ends
        while left > 0:
            part = source.read(min(left, _BYTES_PER_READ))
            if not isinstance(part, bytes | bytearray | memoryview):
                raise TypeError(
                    f"{name}: read() gives {type(part).__name__}, not bytes: {_ACCEPTED}"
                )
            if not part:
                break
            copy.write(part)
            left -= _num_bytes(part)
    finally:
        source.seek(position)
    if left != 1:
        given = f"more than {said}" if left < 1 else str(said + 1 - left)
        raise MediaOpenError(
            name, f"says that it has {said} bytes, and gives {given}; open it again"
        )


def _check_size(name: str, num_bytes: int, limits: Limits) -> None:
    if num_bytes > limits.max_source_bytes:
        raise UnsupportedMediaError(
            name,
            f"has {num_bytes >> 20} MiB, more than the limit for sources other than "
            "paths; give a path",
        )


def _num_bytes(data: bytes | bytearray | memoryview) -> int:
    return data.nbytes if isinstance(data, memoryview) else len(data)


def rename(error: ClipError, source: Source) -> None:
    """Replace the path in `error` by the name that the caller gave."""
    if not _is_file(source):
        error.path = name_of(source)
        error.args = (error.path, error.problem)


def name_of(source: object) -> str:
    """What errors call `source`: its path, its URL, or what kind of object it is."""
    if isinstance(source, os.PathLike):
        return os.fspath(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return f"<{_num_bytes(source)} bytes>"
    if isinstance(source, str):
        return source
    return str(getattr(source, "name", f"<{type(source).__name__}>"))
