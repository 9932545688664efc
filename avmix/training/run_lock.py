"""Lock of a run folder: one training process at a time."""

import errno
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from avmix.system import strict_json
from avmix.system.portability import lock_file

NAME = "run.lock"
"""Name of the lock file; it exists while a process works in the folder."""


class LockedError(ValueError):
    """Another process works in the folder; the message says which, and on which host."""


@contextmanager
def run_folder_lock(folder: Path) -> Iterator[None]:
    """Context manager: lock `folder` for this process; it is created if missing, and removed again
    if nothing was written to it.

    The kernel's lock on the file ends with the process, however that ends, and so tells on one host
    whether the owner is gone; what a process that is gone left behind is taken over. Kernels of two
    hosts may not know of each other's locks: then only the file says that it is held, and only a
    person can know whether its owner is gone.

    Raises `LockedError` where another process holds it, or may.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    file = _opened(path)
    try:
        _write(file)
        yield
    finally:
        _delete(path, file)
        if is_new:
            with suppress(OSError):  # something is in it
                folder.rmdir()


def _delete(path: Path, file: int) -> None:
    """Delete the file and give up the lock."""
    try:
        path.unlink(missing_ok=True)  # while it is held: no other process's file can have this name
        os.close(file)
    except PermissionError:  # Windows deletes no file that is open, also for another by now
        os.close(file)
        with suppress(PermissionError):
            path.unlink(missing_ok=True)


def _opened(path: Path) -> int:
    """A descriptor of the file, which is held; its former owner is gone."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            lock_file(file)
            # Its owner may have deleted it between the two lines above: then another file has, or
            # will have, its name.
            if _is_same(file, path):
                _refuse_other_host(file, path)
                return file
        except OSError as error:
            owner = _owner(file)
            os.close(file)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise LockedError(f"{path.parent}: {_said(owner)} is running in it; wait for its "
                              "end, or choose another run.out") from None  # fmt: skip
        except LockedError:
            os.close(file)
            raise
        os.close(file)


def _refuse_other_host(file: int, path: Path) -> None:
    host, pid = _owner(file)
    if host not in (None, socket.gethostname()):
        raise LockedError(
            f"{path.parent}: {_said((host, pid))} is running in it, or was killed; if it is "
            f"gone, delete {path}"
        )


def _is_same(file: int, path: Path) -> bool:
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    held = os.fstat(file)
    return (held.st_dev, held.st_ino) == (named.st_dev, named.st_ino)


def _write(file: int) -> None:
    os.ftruncate(file, 0)
    text = strict_json.dumps({"host": socket.gethostname(), "pid": os.getpid()}) + "\n"
    os.lseek(file, 0, os.SEEK_SET)
    os.write(file, text.encode())


def _owner(file: int) -> tuple[str | None, int | None]:
    """(host, process) as the file says; None for what it does not say, in its first instant."""
    try:
        os.lseek(file, 0, os.SEEK_SET)
        found = json.loads(os.read(file, 4096))
        return str(found["host"]), int(found["pid"])
    except (ValueError, KeyError, TypeError):
        return None, None


def _said(owner: tuple[str | None, int | None]) -> str:
    host, pid = owner
    return "another process" if host is None else f"process {pid} on {host}"
