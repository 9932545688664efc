"""Execution of an external program for one clip: no shell, a time limit, and no process left
behind."""

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from avmix.synth.synthetic_set import SynthError

PLACES = ("input_video", "input_audio", "text", "output", "seed", "duration")
"""What stands between braces in a command."""
_TAIL_BYTES = 64_000
_PLACE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramResult:
    """What became of a child process."""

    exit_code: int | None
    """None: it was ended at the limit of time."""
    seconds: float
    """Wall clock."""
    problem: str
    """What went wrong, in one line; empty where it ended with 0."""


def parse_command(text: str) -> tuple[str, ...]:
    """The arguments of a command line, places not yet filled.

    Raises `SynthError` where it has a place that is not known, none for the output, or an open
    quote.
    """
    try:
        arguments = tuple(shlex.split(text))
    except ValueError as error:
        raise SynthError(f"--command {text!r}: {error}") from None
    places = places_of(arguments)
    unknown = sorted(places - set(PLACES))
    if unknown:
        known = ", ".join("{" + name + "}" for name in PLACES)
        raise SynthError(f"--command: {{{unknown[0]}}} is not known; there are: {known}")
    if "output" not in places:
        raise SynthError("--command: needs {output}, the file that the program is to write")
    return arguments


def places_of(arguments: Sequence[str]) -> set[str]:
    """Names of all places in a command."""
    return {name for argument in arguments for name in _PLACE.findall(argument)}


def filled(arguments: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """Every argument with its places filled; what is put there is one argument, whatever is in
    it, and is not looked at again."""
    return [_PLACE.sub(lambda m: values[m[1]], argument) for argument in arguments]


def run_child(arguments: Sequence[str], *, log: Path, limit_seconds: float) -> ProgramResult:
    """Run a program to its end, or to `limit_seconds`; then all of its process group is killed.

    The last 64 kB of what it says, on both channels together, are kept in `log`.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with log.open("wb") as said:
        try:
            child = subprocess.Popen(
                list(arguments),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own, so that its children end with it
            )
        except OSError as error:
            problem = f"cannot be started: {arguments[0]}: {error.strerror}"
            return ProgramResult(exit_code=None, seconds=0.0, problem=problem)
        try:
            code = child.wait(limit_seconds)
            problem = "" if code == 0 else f"exit code {code}"
        except subprocess.TimeoutExpired:
            code, problem = None, f"over the time limit: {limit_seconds:g} s"
        finally:
            # Also after a good end: what it left running would write to files that are ours now.
            with suppress(ProcessLookupError, PermissionError):
                if hasattr(os, "killpg"):
                    os.killpg(child.pid, signal.SIGKILL)
                else:
                    child.kill()
            child.wait()
    _keep_tail(log)
    return ProgramResult(
        exit_code=code, seconds=round(time.monotonic() - began, 3), problem=problem
    )


def last_line(log: Path) -> str:
    """The last thing that a program said, for a message; empty where it said nothing."""
    lines = log.read_bytes().decode(errors="replace").split("\n") if log.exists() else []
    said = [line.strip() for line in lines if line.strip()]
    return said[-1][:200] if said else ""


def _keep_tail(log: Path) -> None:
    size = log.stat().st_size
    if size > _TAIL_BYTES:
        with log.open("rb") as file:
            file.seek(size - _TAIL_BYTES)
            tail = file.read()
        log.write_bytes(b"(the beginning is left out)\n" + tail)
