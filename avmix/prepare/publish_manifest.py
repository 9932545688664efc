"""Writing of results: compares them with the last run and replaces the files in one step."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avmix.data.manifest import ManifestError
from avmix.system import strict_json
from avmix.system.printing import counted, listed

WORK = ".prepare"
"""Folder beside the results for what is not a result."""
_MANIFEST = ("dataset.json", "train.jsonl", "val.jsonl", "test.jsonl", "excluded.jsonl")
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class _Said:
    """What a dataset says of one clip."""

    split: str
    labels: tuple[str, ...]
    kept: bool
    sha256: str


def publish(staged: Path, target: Path, *, overwrite: bool) -> str:
    """Put every file of `staged` into `target`; returns what changed, empty where nothing did.

    Raises `ManifestError`, with the old files untouched, where the manifest that is there says
    something else and is not to be overwritten. Files are written before; here they are renamed,
    which needs no room, and `finish` goes on where a kill has come in between.
    """
    changed = ""
    if (target / "dataset.json").exists():
        changed = changes(target, staged)
        if changed and not overwrite:
            raise ManifestError(
                f"{target}: the dataset there differs from this one: {changed}. Nothing was "
                "written; add --overwrite to replace it, or take another --out"
            )
    (staged / "ready").touch()
    finish(target)
    return changed


def staging(target: Path) -> Path:
    """An empty folder for the files that are to be published to `target`."""
    finish(target)
    staged = target / WORK / "new"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    return staged


def finish(target: Path) -> None:
    """Put the files of a publication in place; nothing where none has been begun."""
    staged = target / WORK / "new"
    if not (staged / "ready").exists():
        return
    listed = json.loads((staged / "files.json").read_bytes())
    for name in (*_MANIFEST, "missing.txt"):
        if name not in listed:
            (target / name).unlink(missing_ok=True)
    for name in listed:
        if (staged / name).exists():
            (staged / name).replace(target / name)
    shutil.rmtree(staged)


def stage(staged: Path, files: Mapping[str, bytes]) -> None:
    """Write the files that go with the manifest, and list all that is to be published."""
    for name, data in files.items():
        (staged / name).write_bytes(data)
    names = sorted(p.name for p in staged.iterdir() if p.name not in ("ready", "files.json"))
    # The header is the last: until then the old one finds that its splits have changed.
    names = [name for name in names if name != "dataset.json"] + ["dataset.json"]
    (staged / "files.json").write_bytes(strict_json.dumps(names).encode())


def changes(old: Path, new: Path) -> str:
    """What a new dataset says that the old one does not; empty where they are the same."""
    if all(_bytes(old / name) == _bytes(new / name) for name in _MANIFEST):
        return ""
    before, after = _read(old), _read(new)
    both = [clip_id for clip_id in before if clip_id in after]
    found: list[tuple[str, list[str]]] = [
        ("added", [i for i in after if i not in before]),
        ("removed", [i for i in before if i not in after]),
        ("relabelled", [i for i in both if before[i].labels != after[i].labels]),
        ("moved to another split", [i for i in both if before[i].split != after[i].split]),
        ("now kept", [i for i in both if after[i].kept and not before[i].kept]),
        ("no longer kept", [i for i in both if before[i].kept and not after[i].kept]),
        ("of another content", [i for i in both if before[i].kept and after[i].kept
                                and before[i].sha256 != after[i].sha256]),
    ]  # fmt: skip
    parts = [_count(what, ids) for what, ids in found if ids]
    return "; ".join(parts) or "the same clips, prepared with other options or from other rows"


def _count(what: str, ids: list[str]) -> str:
    return f"{counted(len(ids), 'clip')} {what} ({listed(ids, most=_EXAMPLES)})"


def _read(folder: Path) -> dict[str, _Said]:
    said: dict[str, _Said] = {}
    for name in _MANIFEST[1:]:
        for line in (_bytes(folder / name) or b"").split(b"\n"):
            row: dict[str, Any] = _row(line)
            if row.get("clip_id") is None or row.get("status") == "duplicate":
                continue
            split = row.get("split") or name.removesuffix(".jsonl")
            said[row["clip_id"]] = _Said(
                split, tuple(row.get("labels", ())), "status" not in row, row.get("sha256", "")
            )
    return said


def _row(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
