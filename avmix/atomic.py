"""Files that are there whole or not at all, and errors of the disk that name the file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

PARTIAL = ".partial"
"""Ending of what is being written."""


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that becomes `path` when the block ends, all of it on the disk: a kill at any instant
    leaves the old file or the new one.

    Until then it has a name of its own, so that two writers cannot mix what they write; after an
    error in the block it is deleted. Raises OSError that names `path`.
    """
    partial = path.with_name(f"{path.name}.{uuid4().hex[:12]}{PARTIAL}")
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """A full disk is reported where something is written, without a word about what; with it."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def remove_partial(folder: Path) -> None:
    """Delete what killed writers left in `folder`. Only for who holds it alone."""
    for path in folder.glob(f"*{PARTIAL}"):
        path.unlink(missing_ok=True)
