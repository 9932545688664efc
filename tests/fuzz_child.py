"""Decode in a process that may crash or hang, and be told what came of it."""

import multiprocessing
import resource
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from avmix.decode import ClipError, Limits, decode_audio, decode_clip, decode_clips
from avmix.media.probe import probe
from tests.fuzz_media import FPS

DURATION_SECONDS = 0.8
LIMIT_SECONDS = 20.0
"""For all windows of one file together."""
_MOST_SENT_BYTES = 64 << 20
_MOST_MORE_BYTES = 6 << 30
"""Memory that a child may ask for: a safeguard of the machine, far above what is judged."""

Lost = Literal["crash", "hang"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What decoding one window came to."""

    error: str = ""
    """Type and message of what was raised; empty when a clip was returned."""
    promised_error: bool = False
    """The error is one that the public call promises, and names the file."""
    video: Any = None
    """Frames (t, h, w, 3); only their shape where they are more than can be right."""
    pts_seconds: Any = None
    num_held: int = 0
    seconds: float = 0.0
    """Time taken."""
    peak_bytes: int = 0
    """Most memory resident, of the whole process."""


def decode_window(path: str, start_seconds: float, sha256: str | None) -> Answer:
    """Decode one window through the public call; never raises."""
    forget_peak()
    since = time.perf_counter()
    try:
        clip = decode_clip(
            path,
            start_seconds=start_seconds,
            duration_seconds=DURATION_SECONDS,
            fps=FPS,
            audio="silence",
            sha256=sha256,
        )
    except BaseException as error:  # whatever it is, it is judged
        return Answer(
            error=f"{type(error).__name__}: {error}",
            promised_error=is_promised(error, path),
            seconds=time.perf_counter() - since,
            peak_bytes=peak_bytes(),
        )
    return Answer(
        video=clip.video if clip.video.nbytes <= _MOST_SENT_BYTES else clip.video.shape,
        pts_seconds=clip.pts_seconds,
        num_held=clip.num_held,
        seconds=time.perf_counter() - since,
        peak_bytes=peak_bytes(),
    )


def every_call(
    path: str,
    start: float,
    sha256: str | None,
    limits: Limits = Limits(),  # noqa: B008  frozen
) -> Answer:
    """Every public call on one file; what each came to, one to a line."""
    forget_peak()
    since = time.perf_counter()
    lines, promised = [], True
    calls: dict[str, Callable[[], object]] = {
        "decode_clips": lambda: decode_clips(
            path,
            starts_seconds=(start, 3.0),
            duration_seconds=0.4,
            fps=5,
            audio="silence",
            sha256=sha256,
            limits=limits,
        ),
        "decode_audio": lambda: decode_audio(
            path, start_seconds=start, duration_seconds=0.4, sha256=sha256, limits=limits
        ),
        "probe": lambda: probe(path, limits=limits),
    }
    for name, call in calls.items():
        try:
            gave = call()
            for one in gave if isinstance(gave, list) else (gave,):
                is_error = isinstance(one, ClipError)
                lines.append(f"{name}: {type(one).__name__}: {one if is_error else ''}")
        except BaseException as error:  # whatever it is, it is judged
            lines.append(f"{name}: {type(error).__name__}: {error}")
            promised &= is_promised(error, path)
    return Answer(
        error="\n".join(lines),
        promised_error=promised,
        seconds=time.perf_counter() - since,
        peak_bytes=peak_bytes(),
    )


def is_promised(error: BaseException, path: str) -> bool:
    """True for an error that the public calls promise for a file, and which names it."""
    # The errors of libav are OSErrors too, and nobody promises those.
    promised = isinstance(error, ClipError | OSError)
    return promised and type(error).__module__.split(".")[0] != "av" and path in str(error)


class Child:
    """A process that takes many files; replaced when it crashes or does not answer in time."""

    def __init__(
        self,
        answer: Callable[[str, float, str | None], Answer] = decode_window,
        *,
        limit_seconds: float = LIMIT_SECONDS,
    ) -> None:
        """`answer` is what the process does for each window."""
        self._answer = answer
        self._limit_seconds = limit_seconds
        self._process: Any = None
        self._pipe: Any = None

    def __enter__(self) -> "Child":
        """The process starts with the first file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the process, whatever it does."""
        self._stop()

    def decode(
        self, path: Path, starts_seconds: Sequence[float], sha256: str | None = None
    ) -> list[Answer | Lost]:
        """One answer for each window; where one is lost, so are those after it."""
        if self._process is None:
            self._start()
        self._pipe.send((str(path), tuple(starts_seconds), sha256))
        until = time.monotonic() + self._limit_seconds
        answers: list[Answer | Lost] = []
        while len(answers) < len(starts_seconds):
            try:
                if self._pipe.poll(max(until - time.monotonic(), 0)):
                    answers.append(self._pipe.recv())
                    continue
                self._lose(answers, "hang", len(starts_seconds))
            except (EOFError, ConnectionResetError):
                self._lose(answers, "crash", len(starts_seconds))
        return answers

    def _lose(self, answers: list[Answer | Lost], why: Lost, num: int) -> None:
        lost: list[Lost] = [why] * (num - len(answers))
        answers.extend(lost)
        self._stop()

    def _start(self) -> None:
        # Forked from a process that has imported all of this once, and has no threads.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._answer), daemon=True)
        self._process.start()
        theirs.close()
        # Importing takes seconds on a busy machine: no part of the time for a file.
        with suppress(EOFError, ConnectionResetError):
            self._pipe.recv()

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.join()
        self._process.close()
        self._pipe.close()
        self._process = None


def _serve(pipe: Connection, answer: Callable[[str, float, str | None], Answer]) -> None:
    """Do what is asked for until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limit = _status_bytes("VmSize") + _MOST_MORE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    pipe.send("ready")
    while True:
        try:
            path, starts_seconds, sha256 = pipe.recv()
        except EOFError:
            return
        for start in starts_seconds:
            pipe.send(answer(path, start, sha256))


def forget_peak() -> None:
    """Let `peak_bytes` begin anew."""
    with suppress(OSError):  # where it is not allowed the peak is that of all files so far
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Most memory resident, of this process."""
    return _status_bytes("VmHWM")


def _status_bytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    raise OSError(f"/proc/self/status has no {name}")
