"""One process per candidate: measured by itself, and killed when it hangs."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import numpy as np
from shared.processes import IMPORTS, ONE_THREAD, cpu_seconds

from decoding.decoders import CANDIDATES, Decoded, Job

_START_SECONDS = 120.0


class Absent(Exception):
    """A candidate is not installed; the message says what is missing."""


class Lost(Exception):
    """The process died or hangs; the message is "crash" or "hang"."""


class Failed(Exception):
    """A candidate raised; the message is what it said."""


class Worker:
    """A process that decodes with one candidate, started again after a crash."""

    def __init__(self, name: str, log: Path, python: str = sys.executable) -> None:
        """Start it; `log` takes what libraries print, `python` is the interpreter.

        Raises `Absent` when the candidate cannot be imported.
        """
        self.name = name
        self._log = log
        self._python = python
        self._start()

    def decode(self, job: Job, limit_seconds: float) -> Decoded:
        """Decode one window. Raises `Failed` or `Lost`."""
        kind, *what = self._ask(("decode", job), limit_seconds)
        if kind == "failed":
            raise Failed(what[0])
        return what[0], what[1]

    def time(self, jobs: Sequence[Job], limit_seconds: float) -> list[tuple[float, float, str]]:
        """CPU seconds, wall seconds and error (or "") of each job, one after the other."""
        self.begin(jobs)
        return self.end(limit_seconds)

    def begin(self, jobs: Sequence[Job]) -> None:
        """Start what `time` does, and go on."""
        self._send(("time", list(jobs)))

    def end(self, limit_seconds: float) -> list[tuple[float, float, str]]:
        """Wait for what was begun."""
        return self._answer(limit_seconds)

    def repeat(self, jobs: Sequence[Job], limit_seconds: float) -> tuple[int, int]:
        """Decode the jobs: resident memory of the process after that, bytes; and how many failed.

        Raises `Lost`.
        """
        return self._ask(("repeat", list(jobs)), limit_seconds)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._pipe.close()

    def restart(self) -> None:
        """A new process, with nothing in its memory."""
        self.close()
        self._start()

    def _start(self) -> None:
        self._pipe, theirs = Pipe()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._python, "-m", "decoding.workers", self.name, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, **IMPORTS, **ONE_THREAD},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        theirs.close()
        missing = self._answer(_START_SECONDS)
        if missing:
            self.close()
            raise Absent(missing)

    def _ask(self, message: Any, limit_seconds: float) -> Any:
        self._send(message)
        return self._answer(limit_seconds)

    def _send(self, message: Any) -> None:
        # A process that died just now may have closed its end already: the answer tells.
        with suppress(BrokenPipeError):
            self._pipe.send(message)

    def _answer(self, limit_seconds: float) -> Any:
        how = "hang"
        try:
            if self._pipe.poll(limit_seconds):
                return self._pipe.recv()
        except (EOFError, ConnectionResetError):
            how = "crash"
        self.restart()
        raise Lost(how)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _serve(name: str, pipe: Connection) -> None:
    candidate = CANDIDATES[name]
    try:
        decode = candidate.load()
    except Exception as error:  # libraries without their own libraries raise anything
        pipe.send(_said(error))
        return
    pipe.send("")

    def error_of(job: Job) -> str:
        try:
            frames, wave = decode(job)
        except Exception as error:  # any library may raise anything
            return _said(error, job)
        if not candidate.delivers:
            return ""
        width, height = job.size or frames.shape[2:0:-1]
        whole = (job.num_frames, height, width, 3), (job.num_samples,)
        if (frames.shape, wave.shape) != whole or frames.dtype != np.uint8:
            return f"delivered {frames.shape} {frames.dtype} and {wave.shape}"
        return ""

    while True:
        try:
            kind, what = pipe.recv()
        except EOFError:
            return
        if kind == "decode":
            try:
                frames, wave = decode(what)
            except Exception as error:  # any library may raise anything
                pipe.send(("failed", _said(error, what)))
            else:
                pipe.send(("decoded", np.ascontiguousarray(frames), wave))
        elif kind == "time":
            rows = []
            for job in what:
                cpu, wall = cpu_seconds(), time.perf_counter()
                error = error_of(job)
                rows.append((cpu_seconds() - cpu, time.perf_counter() - wall, error))
            pipe.send(rows)
        else:
            num_failed = sum(bool(error_of(job)) for job in what)
            pipe.send((_resident_bytes(), num_failed))


def _said(error: BaseException, job: Job | None = None) -> str:
    """The first line, without the folders of this machine."""
    text = str(error).strip()
    if job is not None:
        text = text.replace(job.path, Path(job.path).name)
    lines = text.splitlines()
    return f"{type(error).__name__}: {lines[0][:160] if lines else ''}"


if __name__ == "__main__":
    _serve(sys.argv[1], Connection(int(sys.argv[2])))
