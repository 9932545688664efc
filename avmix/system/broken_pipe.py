"""Clean exit when the reader of a command's output has gone, as in `avmix ... | head`."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

_CODE = 128 + 13
"""As a shell says of a program that SIGPIPE ended, which is how others end there."""


@contextmanager
def readers_may_leave() -> Iterator[None]:
    """Context in which a closed standard output or error ends the program, with exit code 141 and
    without a message.

    Python has an OSError for it, which would be taken for one of the files that are worked on. The
    signal itself is not for us: it would also end a download whose server hangs up.
    """
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (None if stream is None else _Output(stream) for stream in streams)  # pyright: ignore
    try:
        yield
    finally:
        try:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
        finally:
            sys.stdout, sys.stderr = streams


class _Output:
    """A stream as it is, but for the end of its reader."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._leave()

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._leave()

    def _leave(self) -> NoReturn:
        # What is in buffers is written somewhere at the end of the interpreter.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        raise SystemExit(_CODE)
