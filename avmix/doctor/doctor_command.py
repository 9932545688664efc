"""`avmix doctor`: arguments, selection of files, exit code."""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from avmix.data.manifest import ManifestError
from avmix.decode.parquet_cells import file_of
from avmix.doctor.environment import Environment, environment
from avmix.doctor.examine import Task
from avmix.doctor.file_pool import examine_all
from avmix.doctor.manifest_check import entries_of
from avmix.doctor.report import SCHEMA, FileReport, Finding
from avmix.doctor.report_text import show_environment, show_file, show_files, show_totals
from avmix.isolate.process_pool import CannotStart
from avmix.media.folder_walk import ENDINGS, walk
from avmix.system import strict_json
from avmix.system.argument_types import at_least_one, positive
from avmix.system.atomic_files import replace_text
from avmix.system.paths import unwritable
from avmix.system.portability import usable_cores
from avmix.system.printing import console_of, echo, printable
from avmix.system.unused_arguments import Needs

_IN_FULL = 3
"""So many files are reported in full; of more, every one gets a line."""

EPILOG = """\
levels: error    cannot be used as it is, wholly or in part
        warning  training loses something: audio, or time
        note     works; worth knowing
exit:   0 no errors   1 some file has an error   2 wrong usage   130 interrupted
"""


class UsageError(Exception):
    """The arguments make no sense; the message says why."""


@dataclass(frozen=True, slots=True)
class _Given:
    tasks: list[Task]
    reports: list[FileReport]
    """What is wrong before any file is read."""
    others: Counter[str]
    """Files of other types in folders, by ending."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="FILE|DIR|MANIFEST",
        help="media files, folders of them, datasets (a folder with dataset.json, or one split: "
        "train.jsonl); without any, only the environment is reported",
    )
    parser.add_argument(
        "--root", type=Path, help="media folder of a manifest (the manifest's folder)"
    )
    parser.add_argument(
        "--seconds", type=positive, default=60.0, help="time limit per file, seconds (60)"
    )
    parser.add_argument(
        "--workers", type=at_least_one, default=None, help="number of processes (one per core)"
    )
    parser.set_defaults(usage_error=parser.error)
    parser.add_argument("--all", action="store_true", help="also list files without findings")
    parser.add_argument(
        "--json", metavar="PATH", help="write the full report as JSON; - for stdout"
    )


NEEDS = (
    *(
        Needs(option=option, default=default, says="a file, folder or manifest",
              met=lambda args: args.paths)
        for option, default in (("--seconds", 60.0), ("--workers", None), ("--all", False))
    ),
    Needs(option="--all", default=False, says="a table of files: --json - has all of them",
          met=lambda args: args.json != "-"),
)  # fmt: skip
"""Options that cannot act without others."""


def run(args: argparse.Namespace) -> int:
    """Examine what is named, show it, and return the exit code; wrong usage ends the program."""
    try:
        return _run(args)
    except UsageError as error:
        args.usage_error(str(error))
        raise


def _run(args: argparse.Namespace) -> int:
    if args.json not in (None, "-") and (why := unwritable(Path(args.json))):
        raise UsageError(f"--json {args.json} {why}")
    given = gather(args.paths, root=args.root, seconds=args.seconds)
    workers = args.workers or usable_cores()
    began, reports, interrupted = time.monotonic(), list(given.reports), False
    broken = ""
    try:
        reports += _examine(given.tasks, workers)
    except CannotStart as error:
        broken = str(error)
    except _Interrupted as stop:
        reports += stop.reports
        interrupted = True
    seconds = time.monotonic() - began
    env = environment()
    if args.json is not None:
        _write_json(args.json, env, reports, given.others)
    if args.json != "-":
        _show(env, reports, given, seconds, all_files=args.all)
    if broken:
        echo(f"error: no file was examined: {broken}", error=True)
        return 1
    if interrupted:
        total = len(given.tasks)
        echo(f"interrupted: {len(reports)} of {total} files were examined", error=True)
        return 130
    findings = [*env.findings, *(f for report in reports for f in report.findings)]
    return int(any(f.level == "error" for f in findings))


def gather(paths: Sequence[str], *, root: Path | None, seconds: float) -> _Given:
    """The files that are meant, each once. Raises `UsageError`."""
    tasks: dict[str, Task] = {}
    reports: list[FileReport] = []
    others: Counter[str] = Counter()
    has_manifest = False
    for name in paths:
        path = Path(name)
        manifest = _manifest_of(path)
        if manifest is not None:
            has_manifest = True
            _add_manifest(manifest, root, seconds, tasks, reports)
        elif path.is_dir():
            files = _media_below(path, others)
            if not files:
                raise UsageError(f"{name}: no media file in it; looked for {_endings()}")
            for file in files:
                tasks.setdefault(file, Task(path=file, seconds=seconds))
        elif os.path.lexists(path):
            tasks.setdefault(name, Task(path=name, seconds=seconds))
        else:
            raise UsageError(f"{name}: no such file or folder")
    if root is not None and not has_manifest:
        raise UsageError("--root is for manifests, and none is named")
    if root is not None and not root.is_dir():
        raise UsageError(f"--root {root}: no such folder")
    return _Given(list(tasks.values()), reports, others)


def _manifest_of(path: Path) -> Path | None:
    """The dataset's folder or the split's file, if `path` means one."""
    if path.is_dir():
        return path if (path / "dataset.json").exists() else None
    if path.name == "dataset.json":
        return path.parent
    return path if path.suffix == ".jsonl" and path.exists() else None


def _add_manifest(
    path: Path,
    root: Path | None,
    seconds: float,
    tasks: dict[str, Task],
    reports: list[FileReport],
) -> None:
    try:
        entries = entries_of(path)
    except ManifestError as error:
        finding = Finding.of("manifest", str(error))
        reports.append(FileReport(path=str(path), level="error", findings=(finding,)))
        return
    folder = root or (path if path.is_dir() else path.parent)
    rows: dict[str, list] = {}
    for entry in entries:
        rows.setdefault(str(folder / entry.path), []).append(entry)
    if rows and not any(os.path.lexists(file_of(path)) for path in rows):
        hint = f"none of its {len(rows)} files is below {folder}: "
        hint += "--root is wrong" if root else "name their folder, --root MEDIA"
        raise UsageError(f"{path}: {hint}")
    for file, of_file in rows.items():
        tasks[file] = Task(path=file, seconds=seconds, entries=tuple(of_file))


def _media_below(folder: Path, others: Counter[str]) -> list[str]:
    """The media files as every command finds them (`avmix.media.folder_walk.walk`)."""
    found = walk(folder)
    others.update(found.others)
    named = [file.path for file in found.files if file.path not in found.links_again]
    return [os.path.join(folder, path) for path in sorted([*named, *found.misnamed])]


class _Interrupted(Exception):
    def __init__(self, reports: list[FileReport]) -> None:
        super().__init__()
        self.reports = reports


def _examine(tasks: Sequence[Task], workers: int) -> list[FileReport]:
    if not tasks:
        return []
    console = console_of(stderr=True, tables=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    so_far: list[FileReport] = []
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        shown = bar.add_task("examining", total=len(tasks))

        def done(report: FileReport) -> None:
            so_far.append(report)
            if len(tasks) > _IN_FULL:
                name = f"{len(so_far)}/{len(tasks)} {report.level:8}{printable(report.path)}"
                console.print(name, soft_wrap=True)
            errors = sum(r.level == "error" for r in so_far)
            said = f"examining, {errors} with errors" if errors else "examining"
            bar.update(shown, advance=1, description=said)

        try:
            return examine_all(tasks, workers=workers, done=done)
        except KeyboardInterrupt:
            raise _Interrupted(so_far) from None


def _show(
    env: Environment,
    reports: Sequence[FileReport],
    given: _Given,
    seconds: float,
    *,
    all_files: bool,
) -> None:
    console = console_of(tables=True)
    with console.capture() as captured:
        show_environment(console, env)  # first: the last lines are those about the files
        if 0 < len(reports) <= _IN_FULL:
            for report in reports:
                show_file(console, report)
        elif reports:
            show_files(console, reports, all_files=all_files)
        if len(reports) > _IN_FULL or given.others:
            show_totals(console, reports, given.others, seconds)
    # Tables are padded to the width of the console, which a pipe has no use for.
    lines = [line.rstrip() for line in captured.get().splitlines()]
    sys.stdout.write("\n".join(lines).rstrip("\n") + "\n")


def _write_json(
    path: str, env: Environment, reports: Sequence[FileReport], others: Counter[str]
) -> None:
    totals = Counter(f.code for r in reports for f in r.findings)
    data = {
        "schema": SCHEMA,
        "environment": asdict(env),
        "files": [asdict(report) for report in reports],
        "levels": dict(Counter(r.level for r in reports)),
        "findings": dict(totals),
        "other_files": dict(others),
    }
    text = strict_json.dumps(data, indent=1) + "\n"
    if path == "-":
        sys.stdout.write(text)
    else:
        replace_text(Path(path), text)


def _endings() -> str:
    return ", ".join(sorted(ENDINGS))
