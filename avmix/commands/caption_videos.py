"""Copies of predicted videos with the predictions as captions, made in processes that a file may
kill."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from avmix.evaluation.file_prediction import FilePrediction
from avmix.isolate.clip_pool import failure_text
from avmix.isolate.process_pool import Failure, run_each
from avmix.media.captioned_mp4 import Caption, CaptionTask, write_captioned
from avmix.types import Entry

_SECONDS_PER_SECOND = 5.0
"""Time that a second of video may take, beyond the limit of a file."""


def caption_task(
    entry: Entry, windows: Sequence[FilePrediction], out: Path, seconds: float
) -> CaptionTask:
    """What to write for a file: each prediction around the middle of its window."""
    middles = [(one.start_seconds + one.end_seconds) / 2 for one in windows]
    starts = [entry.start_seconds] + [(first + second) / 2 for first, second in pairwise(middles)]
    return CaptionTask(
        entry=entry,
        captions=tuple(
            Caption(from_seconds=start, lines=_lines(one))
            for start, one in zip(starts, windows, strict=True)
        ),
        out=str(out),
        seconds=seconds + _SECONDS_PER_SECOND * entry.duration_seconds,
    )


def write_all(
    tasks: Sequence[CaptionTask], workers: int, tick: Callable[[int], None]
) -> Mapping[int, str]:
    """Write them; returns why those that could not be written were not, by number."""
    problems: dict[int, str] = {}
    if not workers:
        for index, task in enumerate(tasks):
            try:
                write_captioned(task)
            except Exception as error:  # as the processes report it
                problems[index] = " ".join(f"{type(error).__name__}: {error}".split())
            tick(1)
        return problems
    running = run_each(
        write_captioned, tasks, workers=workers, seconds=lambda task: task.seconds,
        preload=("avmix.media.captioned_mp4",),
    )  # fmt: skip
    with closing(running):
        for index, outcome in running:
            if isinstance(outcome, Failure):
                problems[index] = failure_text(outcome)
            tick(1)
    return problems


def _lines(one: FilePrediction) -> tuple[str, ...]:
    heads = []
    for name in ("fused", "video", "audio"):
        values = getattr(one, name)
        said = "-"
        if values is not None:
            best = int(values.argmax())
            said = f"{one.classes[best]} {100 * values[best]:.0f} %"
        heads.append(f"{name}: {said}")
    return (*heads, f"decided by: {one.decision.decided}")
