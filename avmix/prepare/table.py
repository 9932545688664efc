"""A CSV of clips to a manifest: every file probed once, before training."""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import track

from avmix import strictjson
from avmix.config import DataConfig
from avmix.data.manifest import ManifestError, write_manifest
from avmix.decode import ClipError
from avmix.killable import Failure, run_each
from avmix.prepare.probe import entry_of
from avmix.types import Entry

SPLITS = ("train", "val", "test")
_LIMIT_SECONDS = 600.0
"""For one file, after which its process is killed."""
_PER_PROCESS = 200
"""Files that a process reads before another takes its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a table says of one clip."""

    path: str
    label: str
    split: str
    source_id: str


def prepare_table(config: DataConfig) -> None:
    """Write the manifest of `config.table`, unless it is there already.

    Raises as `prepare_rows` does, and `ManifestError` where the manifest that is there was made
    from a table that said something else.
    """
    table, folder = Path(config.root) / config.table, config.manifest_folder
    rows = read_table(config)
    sha256 = hashlib.sha256(repr(rows).encode()).hexdigest()
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
        rows,
        protocol=f"{table.parent.resolve().name}/{config.table_split}",
        workers=max(1, config.num_workers),
        max_bad_share=config.max_bad_share,
        notes={"table": table.name, "table_sha256": sha256},
    )


def prepare_rows(
    root: Path,
    folder: Path,
    rows: Sequence[Row],
    *,
    protocol: str,
    workers: int,
    max_bad_share: float,
    notes: Mapping[str, Any],
) -> None:
    """Probe every file below `root`, in `workers` processes, and write the manifest to `folder`.

    Files that cannot be read or have no pictures are left out, counted, and named with the reason
    in `excluded.jsonl` beside the manifest. Raises `ManifestError`, naming them, when they are more
    than `max_bad_share` (0 to 1) of all rows, and whatever `write_manifest` raises.
    """
    twice = [path for path, n in Counter(row.path for row in rows).items() if n > 1]
    if twice:
        raise ManifestError(f"{root}: {twice[0]} is listed more than once")
    entries: dict[str, list[Entry]] = {}
    excluded: list[dict[str, str]] = []
    for row, found in _probe_all(root, rows, workers):
        if isinstance(found, Entry):
            entries.setdefault(row.split, []).append(found)
        else:
            excluded.append({"path": row.path, "split": row.split, "reason": found})
    if len(excluded) / len(rows) > max_bad_share:
        listed = "\n".join(f"  {e['path']}: {e['reason']}" for e in excluded)
        raise ManifestError(
            f"{root}: {len(excluded)} of {len(rows)} files cannot be used, a larger share than "
            f"{max_bad_share}, which is allowed:\n{listed}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "excluded.jsonl").write_bytes(strictjson.lines(excluded).encode())
    write_manifest(
        folder,
        classes=sorted({row.label for row in rows}),
        protocol=protocol,
        splits={split: entries[split] for split in SPLITS if split in entries},
        notes={**notes, "num_excluded": len(excluded)},
    )


def read_table(config: DataConfig) -> tuple[Row, ...]:
    """The rows of the table that are in a split.

    Raises `ManifestError` where the file or a column is missing, a cell is empty, or no row is in a
    split.
    """
    path = Path(config.root) / config.table
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ManifestError(f"{path}: not found; data.root or data.table is wrong") from None
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not UTF-8: {error}") from None
    reader = csv.DictReader(io.StringIO(text, newline=""))
    names = ["path", config.table_label, config.table_split, *config.table_source]
    missing = [name for name in names if name not in (reader.fieldnames or [])]
    if missing:
        has = ", ".join(reader.fieldnames or []) or "nothing"
        raise ManifestError(f"{path}: no column {missing[0]!r}; it has: {has}")
    rows: list[Row] = []
    for line in reader:
        empty = [name for name in names if not (line[name] or "").strip()]
        if empty:
            raise ManifestError(f"{path}:{reader.line_num}: {empty[0]!r} is empty")
        split = line[config.table_split].strip()
        if split in SPLITS:
            source = "/".join(line[name].strip() for name in config.table_source)
            rows.append(Row(path=line["path"].strip(), label=line[config.table_label].strip(),
                            split=split, source_id=source))  # fmt: skip
    if not rows:
        raise ManifestError(
            f"{path}: no row says {', '.join(SPLITS)} in column {config.table_split!r}"
        )
    return tuple(rows)


def _probe_all(root: Path, rows: Sequence[Row], workers: int) -> Iterator[tuple[Row, Entry | str]]:
    """Every row and what was found, in the order of the rows."""
    running = run_each(
        partial(_probe, root),
        rows,
        workers=workers,
        seconds=lambda row: _LIMIT_SECONDS,
        preload=("avmix.prepare.table",),
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
        )
    except (ClipError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return entry if entry.video is not None else "no video stream"
