"""The work of `avmix predict`: look at the files, predict, print and write."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from avmix.commands.caption_videos import caption_task, write_all
from avmix.commands.prediction_report import (
    FileResult,
    Report,
    as_csv,
    as_json,
    print_report,
    print_unreadable,
)
from avmix.data.loader_pool import LoaderError
from avmix.data.whole_files import Looked, find_files, look_at_all, sliding
from avmix.evaluation.file_prediction import FilePrediction
from avmix.evaluation.timeline_figure import draw_timeline, output_names
from avmix.isolate.process_pool import CannotStart
from avmix.label_sets import set_of
from avmix.system import strict_json
from avmix.system.atomic_files import replace_text
from avmix.system.paths import unmakable, unwritable
from avmix.system.printing import console_of, echo
from avmix.training import runtime
from avmix.training.file_predictions import Reading, predict_entries
from avmix.training.runtime import Runtime
from avmix.training.trained import TrainedNetwork, load
from avmix.types import Entry

_TOP, _THRESHOLD, _VIEWS = 5, 0.5, 3


def predict_files(args: argparse.Namespace) -> int:
    """Predict what `args` of `avmix.commands.predict` name; returns the exit code."""
    try:
        _check_outputs(args)
        with runtime.start(device=args.device, threads=args.threads) as here:
            trained = load(args.checkpoint, device=here.device, own_code=args.own_code)
            report = replace(empty_report(args, trained), files=_predicted(args, trained, here))
        if args.video_out is not None:
            report = replace(report, files=_captioned(args, report))
        _write(args, report)
    except (ValueError, OSError, LoaderError, CannotStart) as error:
        echo(f"error: {error}", error=True)
        return 1
    except KeyboardInterrupt:
        echo("stopped; no report was written", error=True)
        return 130
    if "-" not in (args.json, args.csv):
        print_report(report)
    print_unreadable(report)
    bad = sum(not file.windows for file in report.files)
    partly = any(file.problems for file in report.files)
    return 1 if bad == len(report.files) else 3 if bad or partly else 0


def _check_outputs(args: argparse.Namespace) -> None:
    """Raises ValueError where something cannot be written, before hours of work."""
    for option in ("json", "csv"):
        path = getattr(args, option)
        if path not in (None, "-") and (why := unwritable(Path(path))):
            raise ValueError(f"--{option} {path} {why}")
    for option, folder in (("figures", args.figures), ("video-out", args.video_out)):
        if folder is not None and (why := unmakable(folder)):
            raise ValueError(f"--{option} {folder} {why}")


def empty_report(args: argparse.Namespace, trained: TrainedNetwork) -> Report:
    """The report before any file; raises ValueError for options that the network makes idle."""
    several, sets = trained.config.loss.several_labels, trained.label_sets
    if sets and args.label_set is None:
        raise ValueError(f"{args.checkpoint} was trained on the label sets "
                         f"{', '.join(one.name for one in sets)}: --label-set NAME reports "
                         "one of them")  # fmt: skip
    if args.label_set is not None and not sets:
        raise ValueError(f"--label-set cannot act: {args.checkpoint} was not trained on label sets")
    classes = trained.classes
    if args.label_set is not None:
        classes = classes[set_of(args.label_set, sets).columns]
    if several and args.top is not None:
        raise ValueError(f"--top cannot act: {args.checkpoint} was trained on several labels per "
                         "clip; --threshold")  # fmt: skip
    if not several and args.threshold is not None:
        raise ValueError(f"--threshold cannot act: {args.checkpoint} was trained on one label per "
                         "clip; --top")  # fmt: skip
    top = _TOP if args.top is None else args.top
    slides = args.along_time or args.live is not None
    return Report(
        checkpoint=str(args.checkpoint),
        classes=classes,
        top=None if several else top or len(classes),
        threshold=(_THRESHOLD if args.threshold is None else args.threshold) if several else None,
        num_views=None if slides else args.views or _VIEWS,
        window_seconds=trained.clip.duration_seconds,
        step_seconds=args.step if slides else None,
        files=(),
    )


def _predicted(
    args: argparse.Namespace, trained: TrainedNetwork, here: Runtime
) -> tuple[FileResult, ...]:
    """What each file gives, in the order in which they are named."""
    found = find_files(args.paths)
    with _bar("reading files", len(found.paths)) as advance:
        looked = look_at_all(
            found.paths, workers=args.workers, seconds=args.seconds, tick=lambda: advance(1)
        )
    parts: list[list[Entry]] = []
    for number, one in enumerate(looked):
        try:
            parts.append(_entries(args, trained, one))
        except ValueError as error:
            looked[number] = replace(one, entry=None, reason=str(error))
            parts.append([])
    entries = [entry for part in parts for entry in part]
    names = [one.path for one, part in zip(looked, parts, strict=True) for _ in part]
    views = 1 if args.along_time else args.views or _VIEWS
    reading = Reading(
        num_views=views, batch_size=args.batch_size, num_workers=args.workers,
        clip_seconds=args.seconds,
    )  # fmt: skip
    with _bar("predicting windows", len(entries) * views) as advance:
        predicted = predict_entries(trained, entries, here, reading, names=names, tick=advance)
    results: list[FileResult] = [_unreadable(one) for one in found.problems]
    first = 0
    for one, part in zip(looked, parts, strict=True):
        rows = range(first, first + len(part))
        first += len(part)
        if one.entry is None:
            results.append(_unreadable(one))
            continue
        results.append(FileResult(
            path=one.path,
            entry=one.entry,
            windows=tuple(_of_set(replace(predicted.found[row], note=one.note), args.label_set)
                          for row in rows if row in predicted.found),
            problems=tuple(_said(entries[row], predicted.bad[row], args.along_time)
                           for row in rows if row in predicted.bad),
            note=one.note,
        ))  # fmt: skip
    return tuple(results)


def _entries(args: argparse.Namespace, trained: TrainedNetwork, one: Looked) -> list[Entry]:
    if one.entry is None:
        return []
    if not args.along_time:
        return [one.entry]
    return sliding(one.entry, trained.clip.duration_seconds, args.step)


def _of_set(prediction: FilePrediction, name: str | None) -> FilePrediction:
    return prediction if name is None else prediction.of_set(name)


def _unreadable(one: Looked) -> FileResult:
    return FileResult(path=one.path, windows=(), problems=(one.reason,), note="")


def _said(entry: Entry, reason: str, along_time: bool) -> str:
    if not along_time:
        return reason
    return f"{entry.start_seconds:.2f} to {entry.end_seconds:.2f} s: {reason}"


def _captioned(args: argparse.Namespace, report: Report) -> tuple[FileResult, ...]:
    """Write the copies with captions; returns the files, with what went wrong with theirs."""
    files = list(report.files)
    where = [n for n, f in enumerate(files) if f.windows and f.entry and f.entry.video]
    names = output_names([files[n].path for n in where])
    tasks = [
        caption_task(entry, files[n].windows, args.video_out / f"{name}.mp4", args.seconds)
        for n, name in zip(where, names, strict=True)
        if (entry := files[n].entry) is not None
    ]
    with _bar("writing captions", len(tasks)) as advance:
        problems = write_all(tasks, args.workers, advance)
    for index, why in problems.items():
        one = files[where[index]]
        said = f"no video with captions: {why}"
        files[where[index]] = replace(one, problems=(*one.problems, said))
    for one in files:
        if one.entry is not None and one.entry.video is None:
            echo(f"{one.path}: it has no video, and gets none with captions", error=True)
    return tuple(files)


def _write(args: argparse.Namespace, report: Report) -> None:
    if args.figures is not None:
        args.figures.mkdir(parents=True, exist_ok=True)
        drawn = [file for file in report.files if file.windows]
        for file, name in zip(drawn, output_names([f.path for f in drawn]), strict=True):
            draw_timeline(file.windows, args.figures / f"{name}.png")
    for path, text in (
        (args.json, lambda: strict_json.dumps(as_json(report), indent=1) + "\n"),
        (args.csv, lambda: as_csv(report)),
    ):
        if path == "-":
            print(text(), end="")
        elif path is not None:
            replace_text(Path(path), text())


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; the function counts on."""
    console = console_of(stderr=True, tables=True)
    columns: Sequence = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    )  # fmt: skip
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        shown = bar.add_task(what, total=total)
        yield lambda count: bar.update(shown, advance=count)
