"""Writer of a set of synthetic clips: jobs finish in any order and are recorded as they do.

Every finished job is a line of `progress.jsonl`; a killed run reads them and goes on. The manifest
is written last, in the order of the jobs, so it does not depend on who finished first or how often
the run was stopped.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TextIO, TypeVar

import av
from rich.progress import track

from avmix.data.manifest import ManifestError, parse_row, read_manifest, row_of, write_manifest
from avmix.decode import ClipError
from avmix.system import strict_json
from avmix.system.atomic_files import PARTIAL, replace_text
from avmix.system.printing import listed
from avmix.types import Entry

J = TypeVar("J")
R = TypeVar("R")

_PROGRESS = "progress.jsonl"


class SynthError(ValueError):
    """The set cannot be written; the message says why and what to do, in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one job."""

    name: str
    """Name of the job."""
    entry: Entry | None
    """The row of the clip that was made; None where there is none."""
    reason: str = ""
    """Why there is none, in one line."""
    facts: Mapping[str, Any] | None = None
    """What else there is to say of it, as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be made, and what it goes by."""

    out: Path
    method: str
    arguments: Mapping[str, Any]
    """All that the clips depend on, as JSON; not where folders are or how many work on it."""
    classes: tuple[str, ...]
    """Classes of the parent dataset and of the new one."""
    protocol: str
    """Protocol of the parent dataset."""


def prepare(plan: Plan, *, overwrite: bool) -> bool:
    """Make `plan.out` ready; False where all of it is there already.

    Raises `SynthError` where the folder holds something else, or files of the set are gone.
    """
    out = plan.out
    if overwrite:
        _clear(out)
    elif (out / "dataset.json").exists():
        _check_same(plan, json.loads((out / "dataset.json").read_text())["notes"])
        for entry in read_manifest(out, "train").entries:
            if not _is_there(out, entry):
                raise SynthError(f"{out / entry.path} is gone or damaged; repeat with --overwrite")
        return False
    elif (out / _PROGRESS).exists():
        head, _ = _read_progress(out)
        _check_same(plan, head)
    elif out.exists() and any(out.iterdir()):
        raise SynthError(
            f"{out} is not empty and holds no set of synthetic clips; choose another --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    for partial in out.rglob(f"*{PARTIAL}"):
        partial.unlink()
    if not (out / _PROGRESS).exists():
        _append(out / _PROGRESS, _notes(plan))
    return True


def do_all(
    plan: Plan, jobs: Sequence[J], make: Callable[[J], Outcome], *, names: Sequence[str],
    workers: int,
) -> list[Outcome]:  # fmt: skip
    """The outcome of every job, in their order; those done by an earlier run are not done again.

    `names` are of the jobs, each another. `make` is a function that a process can be sent, and
    gives an `Outcome` without an entry for what is wrong with a clip; what it raises ends the run.
    """
    _, done = _read_progress(plan.out)
    done = {n: o for n, o in done.items() if o.entry is None or _is_there(plan.out, o.entry)}
    todo = [job for job, name in zip(jobs, names, strict=True) if name not in done]
    with (plan.out / _PROGRESS).open("a", encoding="utf-8") as file:
        for outcome in _finished(todo, make, workers, f"{plan.method}: making clips"):
            done[outcome.name] = outcome
            _write_line(file, _outcome_row(outcome))
    return [done[name] for name in names]


def finish(
    plan: Plan, outcomes: Sequence[Outcome], report: Mapping[str, Any], max_bad_share: float = 1.0
) -> None:
    """Write report.json and the dataset. Raises `SynthError` where nothing was written, or too many
    jobs failed: more than `max_bad_share` of them."""
    made = [o.entry for o in outcomes if o.entry is not None]
    failed = [o for o in outcomes if o.entry is None]
    rejected = dict(Counter(report.get("rejected", {})) + Counter(_kind(o.reason) for o in failed))
    full = {
        "method": plan.method,
        "arguments": dict(plan.arguments),
        "num_made": len(made),
        **report,
        "rejected": dict(sorted(rejected.items())),
        "per_class": {c: sum(e.labels[0] == c for e in made) for c in plan.classes},
        "failed": [{"name": o.name, "reason": o.reason} for o in failed],
    }
    replace_text(
        plan.out / "report.json",
        strict_json.dumps(full, indent=1) + "\n",
    )
    if not made:
        why = ", ".join(f"{n} {reason}" for reason, n in rejected.items()) or "nothing to make"
        first = f"; the first: {failed[0].name}: {failed[0].reason}" if failed else ""
        raise SynthError(f"{plan.out}: no clip was generated ({why}){first}; report.json says more")
    if len(failed) > max_bad_share * len(outcomes):
        raise SynthError(
            f"{plan.out}: {len(failed)} of {len(outcomes)} clips failed, a larger share than "
            f"--max-bad-share (={max_bad_share:g}); the first: {failed[0].name}: "
            f"{failed[0].reason}; report.json names all"
        )
    write_manifest(
        plan.out,
        classes=plan.classes,
        protocol=f"{plan.protocol}+{plan.method}",
        splits={"train": made},
        notes=_notes(plan),
    )
    (plan.out / _PROGRESS).unlink(missing_ok=True)


def fell_short(outcomes: Sequence[Outcome], classes: Sequence[str], per_class: int) -> str:
    """Which of `classes` have fewer clips than were asked for, and how many; for the last line."""
    made = Counter(o.entry.labels[0] for o in outcomes if o.entry is not None)
    few = [f"{name} ({made[name]})" for name in classes if made[name] < per_class]
    if not few:
        return ""
    return f"; {len(few)} of {len(classes)} classes have fewer than {per_class}: {listed(few)}"


def for_each_job(
    jobs: Sequence[J], do: Callable[[J], R], *, workers: int, what: str
) -> Iterator[tuple[J, R]]:
    """Every job with what `do` makes of it, in order, with a progress bar."""
    with _pool(workers) as pool:
        found = map(do, jobs) if pool is None else pool.map(do, jobs, chunksize=4)
        yield from zip(jobs, track(found, what, total=len(jobs)), strict=True)


def one_line(error: Exception) -> str:
    """Why a clip cannot be used, without its path where the error knows it apart."""
    problem = error.problem if isinstance(error, ClipError) else str(error)
    return f"{type(error).__name__}: {' '.join(problem.split())}"


def _finished(
    jobs: Sequence[J], make: Callable[[J], Outcome], workers: int, what: str
) -> Iterator[Outcome]:
    if not jobs:
        return
    with _pool(workers) as pool:
        if pool is None:
            yield from track(map(make, jobs), what, total=len(jobs))
            return
        futures = [pool.submit(make, job) for job in jobs]
        try:
            for future in track(as_completed(futures), what, total=len(jobs)):
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor | None]:
    if workers == 1:
        yield None
        return
    try:
        # spawn: a fork would copy the state of the parent's threads.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            yield pool
    except BrokenProcessPool:
        raise SynthError(
            "a process died, perhaps of a file that crashes the decoder; find it with "
            "`avmix doctor`, then repeat the command"
        ) from None


def _kind(reason: str) -> str:
    """What reasons are counted by: what comes before the details."""
    return reason.partition(":")[0]


def _notes(plan: Plan) -> dict[str, Any]:
    return {
        "made_by": f"avmix synth {plan.method}",
        "arguments": dict(plan.arguments),
        "pyav": av.__version__,
        "libav": {name: ".".join(map(str, v)) for name, v in av.library_versions.items()},
    }


def _check_same(plan: Plan, notes: Mapping[str, Any]) -> None:
    wanted = json.loads(strict_json.dumps(_notes(plan)))
    if notes.get("made_by") != wanted["made_by"]:
        raise SynthError(f"{plan.out} holds another set ({notes.get('made_by')}); choose another "
                         "--out, or replace it with --overwrite")  # fmt: skip
    was, now = notes["arguments"], wanted["arguments"]
    differ = [
        f"{key} is {was.get(key)!r}, not {now.get(key)!r}"
        for key in sorted({*was, *now})
        if was.get(key) != now.get(key)
    ]
    if differ:
        raise SynthError(
            f"{plan.out} holds a set written with other arguments: {'; '.join(differ)}. Choose "
            "another --out, or replace it with --overwrite"
        )
    if (notes["pyav"], notes["libav"]) != (wanted["pyav"], wanted["libav"]):
        # Half of the files by one encoder and half by another could not be generated again.
        raise SynthError(
            f"{plan.out} was begun with PyAV {notes['pyav']}, this is {wanted['pyav']}, or with "
            "other libraries of libav; repeat with --overwrite"
        )


def _is_there(out: Path, entry: Entry) -> bool:
    path = out / entry.path
    return path.exists() and path.stat().st_size == entry.bytes


def _clear(out: Path) -> None:
    """Remove what an earlier run left, and nothing else; the header first."""
    if out.exists() and any(out.iterdir()):
        marks = [out / "dataset.json", out / _PROGRESS]
        if not any(mark.exists() and "avmix synth" in mark.read_text() for mark in marks):
            raise SynthError(f"{out} holds no set of synthetic clips; --overwrite leaves it alone")
    for name in ("dataset.json", "train.jsonl", "report.json", "events.jsonl", "provenance.jsonl",
                 _PROGRESS):  # fmt: skip
        (out / name).unlink(missing_ok=True)
    for name in ("clips", "logs", "work"):
        shutil.rmtree(out / name, ignore_errors=True)


def _outcome_row(outcome: Outcome) -> dict[str, Any]:
    row = None if outcome.entry is None else row_of(outcome.entry)
    return {"name": outcome.name, "row": row, "reason": outcome.reason, "facts": outcome.facts}


def _read_progress(out: Path) -> tuple[dict[str, Any], dict[str, Outcome]]:
    """Notes of the run, and the outcomes so far. A line that a kill cut in two is not counted."""
    lines: list[dict[str, Any]] = []
    for text in (out / _PROGRESS).read_text().split("\n"):
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    if not lines or "arguments" not in lines[0]:
        raise SynthError(f"{out / _PROGRESS} is damaged; repeat with --overwrite")
    done: dict[str, Outcome] = {}
    for line in lines[1:]:
        entry = None
        if line["row"] is not None:
            try:
                entry = parse_row(line["row"], str(out / _PROGRESS))
            except ManifestError as error:
                raise SynthError(f"{error}; repeat with --overwrite") from None
        outcome = Outcome(name=line["name"], entry=entry, reason=line["reason"],
                          facts=line["facts"])  # fmt: skip
        done[outcome.name] = outcome
    return lines[0], done


def _append(path: Path, row: Mapping[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        _write_line(file, row)


def _write_line(file: TextIO, row: Mapping[str, Any]) -> None:
    # A line that a kill cut in two must not swallow this one.
    file.write("\n" + strict_json.dumps(row) + "\n")
    file.flush()
    os.fsync(file.fileno())
