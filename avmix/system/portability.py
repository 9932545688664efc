"""Fallbacks for what not every operating system provides.

Linux has all of it. macOS lacks `sched_getaffinity` and `memfd_create`; Windows also `fcntl`, the
fork server, timers by signal and groups of processes.
"""

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_LOCKED_BYTE = 1 << 40
"""Where Windows locks a file: beyond its text, which others are to read."""
SIGKILL = getattr(signal, "SIGKILL", 9)
SIGALRM = getattr(signal, "SIGALRM", 14)


def usable_cores() -> int:
    """Cores that this process may run on; all of the machine where the system does not say."""
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def lock_file(descriptor: int) -> None:
    """Lock an open file for this process, until it is closed or the process ends.

    Raises OSError with EWOULDBLOCK or EACCES where another process holds it.
    """
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    try:
        msvcrt: Any = __import__("msvcrt")
    except ImportError:  # neither: nothing can be known of others
        return
    os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
    msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)


def child_context(preload: Sequence[str]) -> "ForkServerContext | SpawnContext":
    """Where child processes come from: a server that has imported `preload` and forks; where there
    is none, a new interpreter for each child, which takes seconds to import."""
    try:
        context = multiprocessing.get_context("forkserver")
    except ValueError:
        return multiprocessing.get_context("spawn")
    context.set_forkserver_preload(list(preload))
    return context


def alarm(seconds: float) -> None:
    """End this process by the kernel after `seconds`, 0: not any more. Nothing where the system has
    no such timer: then the parent alone watches."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def by_default(*names: str) -> None:
    """Give signals, by name, their default meaning; those that the system has."""
    for name in names:
        if (number := getattr(signal, name, None)) is not None:
            signal.signal(number, signal.SIG_DFL)


def memory_file() -> tuple[int, str]:
    """A descriptor of an empty file for memory that processes share, and its path; the path is
    empty where the file has no name and nothing is left behind whoever is killed."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("avmix-loader"), ""
    descriptor, path = tempfile.mkstemp(prefix="avmix-loader-")
    with suppress(OSError):  # Windows: an open file keeps its name
        os.unlink(path)
        return descriptor, ""
    return descriptor, path
