"""Commands of avmix in processes of their own, that end with this one."""

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from avmix.system.printing import printable, shortened

_LONGEST = 300


class Interrupted(Exception):
    """A command was stopped because this process is about to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A command that has ended."""

    code: int
    seconds: float
    cpu_seconds: float
    """Of it and of those of its processes that it has waited for; where the system does not say,
    `seconds`."""
    last_line: str


class Children:
    """Commands that run, so that all of them can be stopped."""

    def __init__(self) -> None:
        """None yet."""
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def start(self, words: list[str], log: Path | None) -> subprocess.Popen[bytes]:
        """Start `avmix WORDS`. Raises `Interrupted` after `stop`."""
        command = [sys.executable, "-m", "avmix.leaderboard.tethered", *words]
        with self._lock:
            if self._stopped:
                raise Interrupted
            if log is None:
                child = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                )  # fmt: skip
            else:
                with log.open("ab") as file:
                    child = subprocess.Popen(
                        command, stdin=subprocess.PIPE, stdout=file, stderr=file
                    )
            self._running.add(child)
            return child

    def ended(self, child: subprocess.Popen[bytes]) -> None:
        """It has been waited for. Raises `Interrupted` where it was `stop` that ended it."""
        with self._lock:
            self._running.discard(child)
            if self._stopped:
                raise Interrupted

    def stop(self) -> None:
        """End all of them, and start none any more."""
        with self._lock:
            self._stopped = True
            for child in self._running:
                if child.stdin is not None:
                    child.stdin.close()


def run_avmix(
    words: list[str], *, log: Path | None = None, children: Children | None = None
) -> Done:
    """Run `avmix WORDS` and wait for its end; what it prints is appended to `log`. Raises
    `Interrupted` where `children` was stopped."""
    children = children or Children()
    began = time.perf_counter()
    said = b""
    at = log.stat().st_size if log is not None and log.exists() else 0
    child = children.start(words, log)
    if child.stdout is not None:
        said = child.stdout.read()
        child.stdout.close()
    cpu = _wait(child)
    seconds = time.perf_counter() - began
    if child.stdin is not None:
        child.stdin.close()
    children.ended(child)
    if log is not None:
        with log.open("rb") as file:
            file.seek(at)
            said = file.read()
    lines = said.decode(errors="replace").strip().splitlines()
    last = shortened(printable(lines[-1].strip()), _LONGEST) if lines else "no word"
    return Done(code=child.returncode, seconds=seconds, cpu_seconds=cpu or seconds, last_line=last)


def _wait(child: subprocess.Popen[bytes]) -> float:
    """CPU seconds; 0 where the system does not say."""
    if not hasattr(os, "wait4"):
        child.wait()
        return 0.0
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime
