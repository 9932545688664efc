"""A CSV of clips to a manifest: every file probed once, before training."""

import csv
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from rich.progress import track

from avmix.config import DataConfig
from avmix.data.manifest import ManifestError, write_manifest
from avmix.decode import ClipError
from avmix.prepare.probe import entry_of
from avmix.types import Entry

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a table says of one clip."""

    path: str
    label: str
    split: str
    source_id: str


def prepare_table(config: DataConfig) -> None:
    """Write the manifest of `config.table`, unless it is there already.

    Every file is probed, in as many processes as the loader has. Files that cannot be read are
    counted, named in `excluded.jsonl` beside the manifest and left out; above
    `config.max_bad_share` of all rows this raises `ManifestError` naming them, and so does a table
    that is not the one the existing manifest was made from.
    """
    table, folder = Path(config.root) / config.table, config.manifest_folder
    rows, sha256 = read_table(config)
    header = folder / "dataset.json"
    if header.exists():
        made_from = json.loads(header.read_bytes()).get("notes", {}).get("table_sha256")
        if made_from != sha256:
            raise ManifestError(
                f"{header} was not made from {table} as it is now; delete the folder to make it "
                "anew, or set another data.manifest"
            )
        return
    entries: dict[str, list[Entry]] = {}
    excluded: list[tuple[Row, str]] = []
    for row, found in _probe_all(Path(config.root), rows, max(1, config.num_workers)):
        if isinstance(found, Entry):
            entries.setdefault(row.split, []).append(found)
        else:
            excluded.append((row, found))
    if len(excluded) > config.max_bad_share * len(rows):
        listed = "\n".join(f"  {row.path}: {reason}" for row, reason in excluded)
        raise ManifestError(
            f"{table}: {len(excluded)} of {len(rows)} files cannot be used, more than "
            f"data.max_bad_share (={config.max_bad_share}) allows:\n{listed}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "excluded.jsonl").write_text(
        "".join(
            json.dumps({"path": row.path, "split": row.split, "reason": reason}) + "\n"
            for row, reason in excluded
        )
    )
    classes = sorted({row.label for row in rows})
    write_manifest(
        folder,
        classes=classes,
        protocol=f"{table.parent.resolve().name}/{config.table_split}",
        splits={split: entries[split] for split in SPLITS if split in entries},
        notes={"table": config.table, "table_sha256": sha256, "num_excluded": len(excluded)},
    )


def read_table(config: DataConfig) -> tuple[tuple[Row, ...], str]:
    """The rows of the table that are in a split, and a hash of what they say.

    Raises `ManifestError` where the file or a column is missing, a cell is empty, or no row is in a
    split.
    """
    path = Path(config.root) / config.table
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ManifestError(f"{path}: not found; data.root or data.table is wrong") from None
    reader = csv.DictReader(text.splitlines())
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
    return tuple(rows), hashlib.sha256(repr(rows).encode()).hexdigest()


def _probe_all(
    root: Path, rows: tuple[Row, ...], workers: int
) -> Iterator[tuple[Row, Entry | str]]:
    # spawn: a fork would copy the state of the parent's threads.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        found = pool.map(partial(_probe, root), rows, chunksize=8)
        yield from zip(rows, track(found, "probing", total=len(rows)), strict=True)


def _probe(root: Path, row: Row) -> Entry | str:
    """The entry, or why there is none."""
    try:
        entry = entry_of(
            root / row.path,
            root,
            clip_id=Path(row.path).with_suffix("").as_posix(),
            labels=(row.label,),
            source_id=row.source_id,
        )
    except (ClipError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return entry if entry.video is not None else "no video stream"
