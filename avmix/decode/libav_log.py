"""Capture of libav's log, in which it reports much damage that it reports nowhere else."""

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import av.logging

_lock = threading.Lock()
_num_listening = 0
_before: tuple[int | None, bool] = (None, True)


_PATCHED_UP = "concealing"
"""What libav says, for information only, when it makes up parts of a frame."""


class LibavLog:
    """Lines that libav logged in this thread since the last look."""

    def __init__(self, lines: list[tuple[int, str, str]]) -> None:
        """`lines` grows as libav logs."""
        self._lines = lines
        self._num_seen = 0

    def fresh(self, *, but_of: Collection[str] = (), but: tuple[str, ...] = ()) -> bool:
        """True when libav logged errors since the last call, except errors of certain parts.

        `but_of` are names as libav logs them, of a demuxer, a decoder or a parser; `but` is how
        lines begin that do not count.
        """
        if len(self._lines) == self._num_seen:
            return False  # asked some times for every packet: this must cost nothing
        new = self._lines[self._num_seen :]
        self._num_seen += len(new)
        return any(
            level <= av.logging.ERROR or text.startswith(_PATCHED_UP)
            for level, name, text in new
            if name not in but_of and not text.startswith(but)
        )

    def forget(self) -> None:
        """Drop all lines: a stream without an end logs without an end."""
        self._lines.clear()
        self._num_seen = 0

    def last(self) -> str:
        """Last line, or an empty string."""
        return self._lines[-1][2].strip() if self._lines else ""


@contextmanager
def capture_libav_log() -> Iterator[LibavLog]:
    """Collect what libav logs in this thread.

    The level of libav's log belongs to the process: it is set while anybody listens and given back
    when the last one leaves.
    """
    global _num_listening, _before
    with _lock:
        if _num_listening == 0:
            _before = (av.logging.get_level(), av.logging.get_skip_repeated())
            av.logging.set_level(av.logging.INFO)
            av.logging.set_skip_repeated(False)  # else the same damage in two files is one line
        _num_listening += 1
    try:
        with av.logging.Capture(local=True) as lines:
            yield LibavLog(lines)
    finally:
        with _lock:
            _num_listening -= 1
            if _num_listening == 0:
                av.logging.set_level(_before[0])
                av.logging.set_skip_repeated(_before[1])
