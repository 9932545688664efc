"""Atomic file writes, and disk errors that name the file."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

PARTIAL = ".partial"
"""Ending of what is being written."""
DISK_REFUSES = (errno.ENOSPC, errno.EROFS, errno.EDQUOT)
"""Errors after which nothing can be written any more."""


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that becomes `path` when the block ends, all of it on the disk: a kill at any instant
    leaves the old file or the new one.

    Until then it has a name of its own, so that two writers cannot mix what they write; after an
    error in the block it is deleted. Raises OSError that names `path`.
    """
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing_path(path) as partial, partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def replacing_path(path: Path) -> Iterator[Path]:
    """A name of its own for what becomes `path` when the block ends, and is deleted after an error
    in it: for programs and libraries that open files themselves."""
    partial = partial_of(path)
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def replace_text(path: Path, text: str) -> None:
    """Write all of `text` or nothing, as `replacing`."""
    with replacing(path) as file:
        file.write(text.encode())


def partial_of(path: Path) -> Path:
    """Beside `path`; no two calls give the same name, in whichever process."""
    return path.with_name(f"{path.name}.{uuid4().hex[:12]}{PARTIAL}")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """A full disk is reported where something is written, without a word about what; with it."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def remove_partial(folder: Path, of: str = "*") -> None:
    """Delete what killed writers of the files, or folders, that the pattern `of` means left in
    `folder`. Only for who holds these alone."""
    for path in folder.glob(f"{of}.*{PARTIAL}"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
