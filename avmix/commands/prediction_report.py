"""Predictions for files as text, CSV and JSON."""

import csv
import io
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from avmix.evaluation.file_prediction import DEFINITION, Decision, FilePrediction, Ranked
from avmix.system.printing import console_of, counted, echo, printable
from avmix.types import Entry

SCHEMA = 1
"""Version of the JSON."""
_IN_FULL = 3
"""So many files are reported in full; of more, every one gets a line."""
_MOST_LISTED = 100
_PROBLEMS_LISTED = 3
"""Of each file."""
_MOST_WINDOWS = 200
"""Windows of a file that are printed; --csv and --json have all."""
_WORDS = {"video": "video", "audio": "audio", "both": "both", "either": "either alone suffices"}
_COLUMNS: tuple[str, ...] = (
    "path", "start_seconds", "end_seconds", "rank", "class", "fused", "video", "audio",
    "decided", "without_video", "without_audio", "problem", "note",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FileResult:
    """What became of one file."""

    path: str
    windows: tuple[FilePrediction, ...]
    """One of the whole file, or those along it; () where it could not be predicted."""
    problems: tuple[str, ...]
    """Why not; of windows along a file, those that could not be."""
    note: str
    entry: Entry | None = None
    """What was looked at; None where it could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What `avmix predict` was asked and found."""

    checkpoint: str
    classes: tuple[str, ...]
    top: int | None
    """Classes that are reported of each; None where `threshold` decides."""
    threshold: float | None
    """Of a network of several labels."""
    num_views: int | None
    """Windows of each file that are averaged; None along time."""
    window_seconds: float
    step_seconds: float | None
    """Along time, from one window to the next; None: whole files."""
    files: tuple[FileResult, ...]

    def shown(self, prediction: FilePrediction) -> tuple[Ranked, ...]:
        """Classes of a prediction that are reported."""
        if self.threshold is not None:
            return prediction.above(self.threshold)
        assert self.top is not None
        return prediction.top(self.top)


def line_of(report: Report, one: FilePrediction) -> str:
    """A window of a stream, in one line."""
    name, fused, video, audio, decided = _line(report, one)
    return (f"{one.start_seconds:.2f} to {one.end_seconds:.2f} s: {name} {fused} %, "
            f"video {video} %, audio {audio} %, decided by {decided}")  # fmt: skip


def as_json(report: Report) -> dict[str, Any]:
    """Everything, for programs; probabilities are shares, 0 to 1."""
    return {
        "schema": SCHEMA,
        "checkpoint": report.checkpoint,
        "classes": list(report.classes),
        "top": report.top,
        "threshold": report.threshold,
        "num_views": report.num_views,
        "window_seconds": report.window_seconds,
        "step_seconds": report.step_seconds,
        "decided_by": DEFINITION,
        "files": [
            {
                "path": printable(file.path),
                "note": file.note,
                "problems": list(file.problems),
                "windows": [
                    {
                        "start_seconds": one.start_seconds,
                        "end_seconds": one.end_seconds,
                        "num_views": one.num_views,
                        "classes": [asdict(ranked) for ranked in report.shown(one)],
                        "decision": asdict(one.decision),
                    }
                    for one in file.windows
                ],
            }
            for file in report.files
        ],
        "num_predicted": sum(bool(file.windows) for file in report.files),
        "num_failed": sum(not file.windows for file in report.files),
    }


def as_csv(report: Report) -> str:
    """A row per reported class of each file or window, `-` where there is no such modality; a row
    per problem; probabilities are shares."""
    out = io.StringIO(newline="")
    rows = csv.DictWriter(out, _COLUMNS, lineterminator="\n", restval="")
    rows.writeheader()
    for file in report.files:
        path = printable(file.path)
        for one in file.windows:
            decision = one.decision
            common = {
                "path": path, "start_seconds": f"{one.start_seconds:.3f}",
                "end_seconds": f"{one.end_seconds:.3f}", "decided": decision.decided,
                "without_video": _plain(decision.without_video),
                "without_audio": _plain(decision.without_audio), "note": file.note,
            }  # fmt: skip
            for rank, ranked in enumerate(report.shown(one), 1):
                rows.writerow({
                    **common, "rank": rank, "class": ranked.name, "fused": _plain(ranked.fused),
                    "video": _plain(ranked.video), "audio": _plain(ranked.audio),
                })  # fmt: skip
            if not report.shown(one):
                rows.writerow(common)
        for problem in file.problems:
            rows.writerow({"path": path, "problem": problem, "note": file.note})
    return out.getvalue()


def print_report(report: Report) -> None:
    """Tables on the standard output."""
    console = console_of(tables=True)
    done = [file for file in report.files if file.windows]
    if report.step_seconds is not None:
        for file in done:
            windows = counted(len(file.windows), "window")
            echo(f"{file.path}: {windows} of {report.window_seconds:g} s")
            console.print(_timeline(report, file))
    elif len(done) <= _IN_FULL:
        for file in done:
            (one,) = file.windows
            until = f"{one.start_seconds:.2f} to {one.end_seconds:.2f} s"
            echo(f"{file.path}: {until}, {counted(one.num_views, 'window')}")
            console.print(_in_full(report, one))
            echo(_decision_text(one.decision))
    else:
        echo(f"{len(done)} files, {counted(report.num_views or 0, 'window')} of each")
        console.print(_one_line_each(report, done))
    for file in done:
        if file.note:
            echo(f"{file.path}: {file.note}")


def print_unreadable(report: Report) -> None:
    """What could not be predicted, on the standard error, and how many files that is."""
    bad = [file for file in report.files if file.problems]
    for file in bad[:_MOST_LISTED]:
        more = len(file.problems) - _PROBLEMS_LISTED
        said = "; ".join(file.problems[:_PROBLEMS_LISTED]) + (f" and {more} more" * (more > 0))
        echo(f"{file.path}: {said}", error=True)
    if len(bad) > _MOST_LISTED:
        echo(f"and {len(bad) - _MOST_LISTED} more; --csv or --json has all", error=True)
    none = sum(not file.windows for file in report.files)
    if none:
        echo(f"{none} of {len(report.files)} could not be predicted", error=True)
    if partly := len(bad) - none:
        echo(f"{partly} of {len(report.files)} were predicted only in part", error=True)


def _in_full(report: Report, one: FilePrediction) -> Table:
    table = Table()
    table.add_column("class", overflow="fold")
    for head in ("fused %", "video %", "audio %"):
        table.add_column(head, justify="right")
    for ranked in report.shown(one) or _none_above(report, one):
        table.add_row(printable(ranked.name), _percent(ranked.fused), _percent(ranked.video),
                      _percent(ranked.audio))  # fmt: skip
    return table


def _none_above(report: Report, one: FilePrediction) -> tuple[Ranked, ...]:
    """A row that says that no class reaches the threshold, and which is nearest."""
    best = one.top(1)[0]
    assert report.threshold is not None
    said = f"none at {100 * report.threshold:g} %; highest: {best.name}"
    return (Ranked(name=said, fused=best.fused, video=best.video, audio=best.audio),)


def _decision_text(decision: Decision) -> str:
    said = f"{decision.answer}: decided by {_WORDS[decision.decided]}"
    if decision.decided == "either":
        said = f"{decision.answer}: {_WORDS['either']}"
    if decision.without_video is None or decision.without_audio is None:
        return f"{said}, the only modality"
    parts = (
        f"{100 * decision.probability:.1f} -> {100 * value:.1f} % without {name}"
        for name, value in (("video", decision.without_video), ("audio", decision.without_audio))
    )
    return f"{said} ({', '.join(parts)})"


def _one_line_each(report: Report, files: list[FileResult]) -> Table:
    table = Table()
    table.add_column("file", overflow="fold")
    labels = "answer" if report.threshold is None else f"at least {100 * report.threshold:g} %"
    for head in (labels, "fused %", "video %", "audio %", "decided"):
        table.add_column(head, justify="right" if "%" in head and head != labels else "left",
                         overflow="fold")  # fmt: skip
    for file in files:
        (one,) = file.windows
        table.add_row(printable(file.path), *_line(report, one))
    return table


def _timeline(report: Report, file: FileResult) -> Table:
    table = Table()
    for head in ("seconds", "answer", "fused %", "video %", "audio %", "decided"):
        right = "%" in head or head == "seconds"
        table.add_column(head, justify="right" if right else "left", overflow="fold")
    for one in file.windows[:_MOST_WINDOWS]:
        when = f"{one.start_seconds:.2f} to {one.end_seconds:.2f}"
        table.add_row(when, *_line(report, one))
    if (more := len(file.windows) - _MOST_WINDOWS) > 0:
        table.caption = f"and {more} more; --csv or --json has all"
    return table


def _line(report: Report, one: FilePrediction) -> tuple[str, ...]:
    """Answer, its probability by each head, what decided."""
    best = one.top(1)[0]
    name = best.name
    if report.threshold is not None:
        name = ", ".join(ranked.name for ranked in report.shown(one)) or f"none ({best.name})"
    return (printable(name), _percent(best.fused), _percent(best.video), _percent(best.audio),
            one.decision.decided)  # fmt: skip


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _plain(share: float | None) -> str:
    return "-" if share is None else f"{share:.8f}"
