"""A CSV of clips to a manifest: every file probed once, before training."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import track

from avmix.config import DataConfig
from avmix.data.manifest import ManifestError, write_manifest
from avmix.decode import ClipError
from avmix.isolate.process_pool import Failure, run_each
from avmix.media.judgement import entry_of
from avmix.prepare.annotation_values import SPLIT_WORDS, leaves, path_below, plain
from avmix.prepare.annotations import Annotations
from avmix.system import strict_json
from avmix.system.paths import unmakable
from avmix.system.printing import echo, listed
from avmix.types import Entry

SPLITS = ("train", "val", "test")
_LIMIT_SECONDS = 600.0
"""For one file, after which its process is killed."""
_PER_PROCESS = 200
"""Files that a process reads before another takes its place."""
_EXAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a table says of one clip."""

    path: str
    label: str
    split: str
    source_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What was read of a table."""

    rows: tuple[Row, ...]
    problems: tuple[str, ...]
    """A line of the table that cannot be used, with its number and the reason, each."""


def prepare_table(config: DataConfig) -> None:
    """Write the manifest of `config.table`, unless it is there already.

    Raises as `prepare_rows` does, and `ManifestError` where the manifest that is there was made
    from a table that said something else.
    """
    table, folder = Path(config.root) / config.table, config.manifest_folder
    read = read_table(config)
    sha256 = hashlib.sha256(repr(read.rows).encode()).hexdigest()
    header = folder / "dataset.json"
    if header.exists():
        made_from = json.loads(header.read_bytes()).get("notes", {}).get("table_sha256")
        if made_from != sha256:
            raise ManifestError(
                f"{header} was not made from {table} as it is now; delete the folder to make it "
                "anew, or set another data.manifest"
            )
        return
    prepare_rows(
        Path(config.root),
        folder,
        read,
        protocol=f"{table.parent.resolve().name}/{config.table_split}",
        workers=max(1, config.num_workers),
        max_bad_share=config.max_bad_share,
        notes={"table": table.name, "table_sha256": sha256},
    )


def prepare_rows(
    root: Path,
    folder: Path,
    table: Table,
    *,
    protocol: str,
    workers: int,
    max_bad_share: float,
    notes: Mapping[str, Any],
) -> None:
    """Probe every file below `root`, in `workers` processes, and write the manifest to `folder`.

    Rows that cannot be used, and files that cannot be read or have no frames, are left out,
    counted, and named with the reason in `excluded.jsonl` beside the manifest. Raises
    `ManifestError`, naming them, when they are more than `max_bad_share` (0 to 1) of all rows, and
    whatever `write_manifest` raises.
    """
    if why := unmakable(folder):
        raise ManifestError(f"{folder} {why}")
    rows = table.rows
    twice = [path for path, n in Counter(row.path for row in rows).items() if n > 1]
    if twice:
        raise ManifestError(f"{root}: {twice[0]} is listed more than once")
    entries: dict[str, list[Entry]] = {}
    excluded = [{"path": "", "split": "", "reason": problem} for problem in table.problems]
    for row, found in _probe_all(root, rows, workers):
        if isinstance(found, Entry):
            entries.setdefault(row.split, []).append(found)
        else:
            excluded.append({"path": row.path, "split": row.split, "reason": found})
    num_rows = len(rows) + len(table.problems)
    if len(excluded) / num_rows > max_bad_share:
        each = "\n".join(f"  {e['path'] or 'row'}: {e['reason']}" for e in excluded)
        raise ManifestError(
            f"{root}: {len(excluded)} of {num_rows} files cannot be used, a larger share than "
            f"{max_bad_share} (data.max_bad_share), which is allowed:\n{each}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    in_part = [e.path for es in entries.values() for e in es if e.usable_until_seconds is not None]
    if in_part:
        echo(f"{folder}: of {len(in_part)} files only a part can be read, which is their clip: "
             f"{listed(in_part, most=_EXAMPLES)}; avmix doctor says why", error=True)  # fmt: skip
    (folder / "excluded.jsonl").write_bytes(strict_json.lines(excluded).encode())
    write_manifest(
        folder,
        classes=sorted({row.label for row in rows}),
        protocol=protocol,
        splits={split: entries[split] for split in SPLITS if split in entries},
        notes={**notes, "num_excluded": len(excluded)},
    )


def read_table(config: DataConfig) -> Table:
    """The rows of the table that are in a split, read as annotations are (`Annotations.csv`):
    other delimiters, encodings and spellings of splits are understood, and a row that cannot be
    used is a problem.

    Raises `ManifestError` where the file or a column is missing, or no row is in a split.
    """
    root = Path(config.root)
    path = root / config.table
    if not path.is_file():
        raise ManifestError(f"{path}: not found; data.root or data.table is wrong")
    columns = ["path", config.table_label, config.table_split, *config.table_source]
    read, rows = Annotations(root), list[Row]()
    for line in read.csv(path, [*dict.fromkeys(columns)], header=True):
        split = SPLIT_WORDS.get(plain(line[config.table_split]))
        if split is None:
            continue  # as documented: a table may have rows that this division does not use
        name = path_below(line["path"], root)
        if name is None or leaves(name):
            read.drop(line, f"{line['path']!r} does not lie below {root}")
            continue
        source = "/".join(line[column] for column in config.table_source)
        rows.append(Row(path=name, label=line[config.table_label], split=split, source_id=source))
    problems = tuple(f"{p.where}: {p.reason}" for p in read.problems)
    if not rows:
        raise ManifestError(
            f"{path}: no row says {', '.join(SPLITS)} in column {config.table_split!r}"
            + "".join(f"\n  {problem}" for problem in problems[:_EXAMPLES])
        )
    return Table(rows=tuple(rows), problems=problems)


def _probe_all(root: Path, rows: Sequence[Row], workers: int) -> Iterator[tuple[Row, Entry | str]]:
    """Every row and what was found, in the order of the rows."""
    running = run_each(
        partial(_probe, root),
        rows,
        workers=workers,
        seconds=lambda row: _LIMIT_SECONDS,
        preload=("avmix.prepare.csv_table",),
        per_process=_PER_PROCESS,
    )
    found: dict[int, Entry | str] = {}
    for index, outcome in track(running, "probing", total=len(rows)):
        found[index] = outcome.text if isinstance(outcome, Failure) else outcome
    yield from ((row, found[index]) for index, row in enumerate(rows))


def _probe(root: Path, row: Row) -> Entry | str:
    """The entry, or why there is none."""
    try:
        entry = entry_of(
            root / row.path,
            root,
            clip_id=row.path,
            labels=(row.label,),
            source_id=row.source_id,
            in_part=True,
        )
    except (ClipError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return entry if entry.video is not None else "no video stream"
