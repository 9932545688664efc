"""The work of `avmix predict --live`: a line for every window of a stream, as it comes."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from avmix.commands.predict_files import empty_report
from avmix.commands.prediction_report import Report, line_of
from avmix.decode import ClipError
from avmix.decode.live_source import LiveFrame, LiveSource, open_live
from avmix.evaluation.file_prediction import FilePrediction
from avmix.system import strict_json
from avmix.system.paths import unwritable
from avmix.system.printing import counted, echo, printable
from avmix.training import runtime
from avmix.training.stream_predictions import PredictionStream
from avmix.training.trained import TrainedNetwork, load

Write = Callable[[FilePrediction], None]
"""Says what is predicted for a window."""


def predict_live(args: argparse.Namespace) -> int:
    """Predict the stream that `args` of `avmix.commands.predict` name; returns the exit code."""
    try:
        if args.json not in (None, "-") and (why := unwritable(Path(args.json))):
            raise ValueError(f"--json {args.json} {why}")
        with runtime.start(device=args.device, threads=args.threads) as here:
            trained = load(args.checkpoint, device=here.device, own_code=args.own_code)
            report = empty_report(args, trained)
            with _descriptor(args.live) as descriptor, _lines(args.json, report) as write:
                return _predicted(args, trained, descriptor, write)
    except (ValueError, OSError, ClipError) as error:
        echo(f"error: {error}", error=True)
        return 1
    except KeyboardInterrupt:
        echo("stopped before the first window", error=True)
        return 130


def _predicted(
    args: argparse.Namespace, trained: TrainedNetwork, descriptor: int, write: Write
) -> int:
    name = "standard input" if args.live == "-" else printable(args.live)
    stream: PredictionStream | None = None
    problem, code = "", 0
    try:
        with open_live(
            descriptor, name, short_side=trained.clip.short_side, stall_seconds=args.timeout,
            modalities=trained.config.model.modalities,
        ) as source:  # fmt: skip
            stream = PredictionStream(
                trained, step_seconds=args.step, has_video=source.has_video,
                has_audio=source.has_audio, name=name,
            )  # fmt: skip
            try:
                _run(source, stream, write)
            except ClipError as error:
                problem = error.problem
            for one in stream.end():  # what came before the end, whatever ended it
                write(one)
    except KeyboardInterrupt:
        code = 130
        if stream is None:
            raise
    assert stream is not None
    echo(_summary(stream, problem, stopped=code == 130), error=True)
    if code:
        return code
    if not stream.num_predicted:
        return 1
    return 3 if problem or stream.num_lost else 0


def _run(source: LiveSource, stream: PredictionStream, write: Write) -> None:
    for part in source:
        if isinstance(part, LiveFrame):
            found = stream.push_frame(
                part.image, part.seconds, part.duration_seconds, is_damaged=part.is_damaged
            )
        else:
            found = stream.push_audio(part.mono, part.seconds, part.rate_hz, part.sides)
        for one in found:
            write(one)


def _json_line(one: FilePrediction, report: Report) -> str:
    found = {
        "start_seconds": one.start_seconds,
        "end_seconds": one.end_seconds,
        "classes": [asdict(ranked) for ranked in report.shown(one)],
        "decision": asdict(one.decision),
    }
    return strict_json.dumps(found)


def _summary(stream: PredictionStream, problem: str, *, stopped: bool) -> str:
    reasons = ", ".join(f"{count} {why}" for why, count in sorted(stream.windows.lost.items()))
    lost = f"{stream.num_lost} lost" + (f" ({reasons})" if reasons else "")
    how = "stopped" if stopped else problem or "the stream ended"
    return f"{counted(stream.num_predicted, 'window')} predicted, {lost}; {how}"


@contextmanager
def _descriptor(source: str) -> Iterator[int]:
    """Of the standard input, or of a pipe or file. Raises OSError, and ValueError for a URL."""
    if source == "-":
        yield sys.stdin.fileno()
        return
    if "://" in source and not os.path.exists(source):
        raise ValueError(
            f"--live {source}: addresses are not opened; let FFmpeg read it: "
            "ffmpeg -i ADDRESS -c copy -f mpegts - | avmix predict --live - ..."
        )
    descriptor = os.open(source, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _lines(path: str | None, report: Report) -> Iterator[Write]:
    """What says a window, at once: who reads the line waits for it."""

    def text(one: FilePrediction) -> None:
        print(line_of(report, one), flush=True)

    def as_json(one: FilePrediction) -> None:
        print(_json_line(one, report), flush=True)

    if path in (None, "-"):
        yield text if path is None else as_json
        return
    with open(path, "w", encoding="utf-8") as file:

        def into_file(one: FilePrediction) -> None:
            file.write(_json_line(one, report) + "\n")
            file.flush()

        yield into_file
