"""Media in Parquet files: which bytes a path within one means, and reading them.

    data/train-00000-of-00004.parquet/3/7/video          row 7 of row group 3, column `video`
    data/train-00000-of-00004.parquet/3/7/video+audio    the same, with the audio of column `audio`
                                                         where the video file has none

Copies of datasets on the Hub hold whole files as bytes: a column is binary, or a struct with a
binary field `bytes`. A row group is read forward, one value at a time, and the place is kept: rows
in order cost one pass; any other row costs the part of its row group before it. Needs pyarrow.
"""

import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from avmix.decode.errors import DecodeError, MediaOpenError, UnsupportedMediaError
from avmix.decode.request import Limits

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

_PATH = re.compile(
    r"(?P<file>.+\.parquet)/(?P<group>\d{1,6})/(?P<row>\d{1,9})/"
    r"(?P<video>\w{1,64})(?:\+(?P<audio>\w{1,64}))?",
    re.ASCII | re.DOTALL,
)
_BYTES_PER_READ = 1 << 20
_MOST_HEADER_BYTES = 64 << 20
"""Of each string in the header of a Parquet file."""
_MOST_COLUMNS = 10_000
_MOST_OPEN = 4
"""Columns whose place in a row group is kept: video and audio of two files."""


@dataclass(frozen=True, slots=True)
class Cells:
    """A row of a Parquet file, and which of its columns hold the clip."""

    file: str
    """Path of the Parquet file."""
    group: int
    """Row group, from 0."""
    row: int
    """Row within the group, from 0."""
    video: str
    """Column of the media file."""
    audio: str = ""
    """Column of the audio that is used where the media file has none; empty: none is."""

    def __str__(self) -> str:
        """The path by which the clip is called."""
        columns = f"{self.video}+{self.audio}" if self.audio else self.video
        return f"{self.file}/{self.group}/{self.row}/{columns}"


def cells_of(path: object) -> Cells | None:
    """What `path` means within a Parquet file; None for any other path."""
    if not isinstance(path, str | os.PathLike):
        return None
    name = os.fspath(path)
    if not isinstance(name, str) or ".parquet" not in name:
        return None
    found = _PATH.fullmatch(PurePath(name).as_posix())
    if found is None or os.path.isdir(found["file"]):
        return None
    return Cells(
        found["file"], int(found["group"]), int(found["row"]), found["video"], found["audio"] or ""
    )


def file_of(path: str) -> str:
    """The file on the disk that has the bytes of `path`: itself, or a Parquet file."""
    cells = cells_of(path)
    return path if cells is None else cells.file


def read_cell(cells: Cells, column: str, limits: Limits) -> bytes | None:
    """Bytes of `column` in the row of `cells`; None where the row has none.

    Raises OSError as the system does, ImportError without pyarrow, `MediaOpenError` for what is no
    Parquet file or lacks the row or column, `DecodeError` where it is damaged, and
    `UnsupportedMediaError` for a value of more than `limits.max_source_bytes`.
    """
    with _lock:
        reader = _reader_of(cells, column)
        try:
            value = reader.value(cells.row)
        except BaseException:
            _open.pop((cells.file, column), None)
            raise
    if value is not None and len(value) > limits.max_source_bytes:
        raise UnsupportedMediaError(
            str(cells), f"column {column} holds {len(value) >> 20} MiB, more than the limit"
        )
    return value


def open_parquet(path: str) -> "ParquetFile":
    """Open a Parquet file with bounds on its header; raises as `read_cell`."""
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise ImportError(
            f"{path} needs pyarrow (pip install '.[parquet]' in the checkout)"
        ) from None
    if not os.path.isfile(path):  # pyarrow reads folders, too
        os.stat(path)
        raise MediaOpenError(path, "is not a regular file")
    try:
        found = ParquetFile(
            path,
            buffer_size=_BYTES_PER_READ,
            pre_buffer=False,
            thrift_string_size_limit=_MOST_HEADER_BYTES,
            page_checksum_verification=True,  # where there are some
        )
    except (pa.ArrowException, ValueError) as error:
        raise MediaOpenError(path, f"is no Parquet file: {_first_line(error)}") from error
    if len(found.schema) > _MOST_COLUMNS:
        raise UnsupportedMediaError(path, f"has {len(found.schema)} columns")
    return found


def leaf_of(file: "ParquetFile", path: str, column: str) -> str:
    """Name of the binary leaf of `column`: itself, or its field `bytes`.

    Raises `MediaOpenError`, which lists the columns, where there is none.
    """
    import pyarrow as pa

    schema = file.schema_arrow
    index = schema.get_field_index(column)  # -1 also where two are called so
    kind = schema.field(index).type if index >= 0 else None
    if kind is not None and _is_binary(kind):
        return column
    if kind is not None and pa.types.is_struct(kind):
        at = kind.get_field_index("bytes")
        if at >= 0 and _is_binary(kind.field(at).type):
            return f"{column}.bytes"
    raise MediaOpenError(
        path,
        f"has no column {column!r} of bytes (binary, or a struct with a field `bytes`); it has: "
        + ", ".join(f"{f.name} {f.type}" for f in list(schema)[:8]),
    )


@dataclass(slots=True)
class _Reader:
    """A column of a row group, read forward."""

    key: tuple[object, ...]
    """The file as it was when it was opened, and the row group."""
    cells: Cells
    column: str
    values: Iterator[Any]
    num_rows: int
    row: int = -1
    """The row that was read last."""
    last: bytes | None = None

    def value(self, row: int) -> bytes | None:
        """Bytes of a row that is not before the last one."""
        import pyarrow as pa

        if row >= self.num_rows:
            raise MediaOpenError(
                str(self.cells), f"row group {self.cells.group} has {self.num_rows} rows"
            )
        try:
            while self.row < row:
                batch = next(self.values)
                self.row += 1
                if self.row == row:
                    self.last = _bytes_of(batch.column(0))
        except (pa.ArrowException, OSError, StopIteration) as error:
            raise DecodeError(
                str(self.cells), f"column {self.column} cannot be read: {_first_line(error)}"
            ) from error
        return self.last


_lock = threading.Lock()
_open: dict[tuple[str, str], _Reader] = {}


def _reader_of(cells: Cells, column: str) -> _Reader:
    """The reader of a column, at this row or before it."""
    info = os.stat(cells.file)
    # After a fork the place in a file is this process's own.
    key = (os.getpid(), info.st_size, info.st_mtime_ns, info.st_ino, info.st_dev, cells.group)
    reader = _open.get((cells.file, column))
    if reader is not None and reader.key == key and reader.row <= cells.row:
        reader.cells = cells
        return reader
    file = open_parquet(cells.file)
    if cells.group >= file.num_row_groups:
        raise MediaOpenError(str(cells), f"the file has {file.num_row_groups} row groups")
    leaf = leaf_of(file, cells.file, column)
    values = file.iter_batches(1, row_groups=[cells.group], columns=[leaf], use_threads=False)
    num_rows = file.metadata.row_group(cells.group).num_rows
    while len(_open) >= _MOST_OPEN:
        del _open[next(iter(_open))]
    reader = _open[cells.file, column] = _Reader(key, cells, column, values, num_rows)
    return reader


def _bytes_of(column: Any) -> bytes | None:
    """The value of a batch of one row."""
    value = column[0].as_py()
    return value["bytes"] if isinstance(value, dict) else value


def _is_binary(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
