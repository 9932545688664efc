"""`avmix shards`: packs a dataset into tar files in the layout of WebDataset.

Each clip is two members that follow each other, `KEY.mp4` (or what its file ends with) and
`KEY.json`, its row of the manifest with its split and key; a key has no dot, as the layout takes
what follows the first one for the kind. `index.json` says in which shard and where each member's
bytes are, so that a clip can be read without reading what is before it. The same files and manifest
give the same bytes: members have no time, owner or mode of this machine.
"""

import argparse
import hashlib
import json
import tarfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

from rich.progress import track

from avmix.data.manifest import ManifestError, read_manifest, row_of, splits_of
from avmix.decode.request import Limits
from avmix.decode.source import as_file
from avmix.system import strict_json
from avmix.system.atomic_files import remove_partial, replace_text, replacing_path
from avmix.system.printing import counted, echo
from avmix.types import Entry

FORMAT = 1
"""Version of `index.json`."""

EPILOG = """\
exit:   0 written   1 a file is missing or is not the manifest's; nothing is left half   2 wrong usage
        130 interrupted
"""  # noqa: E501


def write_shards(folder: Path, root: Path, out: Path, per_shard: int) -> dict[str, Any]:
    """Write the shards of every split and `index.json`; returns the index.

    Shards are `SPLIT-000000.tar` and so on, of `per_shard` clips in the order of the manifest. A
    shard that is there and is listed with the same clips in the index of an earlier run is kept.
    Raises `ManifestError` where a file is not the one of the manifest, or a whole file would be
    stored more than once because several clips are of it (transcode first), and OSError.
    """
    if per_shard < 1:
        raise ManifestError(f"--per-shard must be at least 1, got {per_shard}")
    manifests = {split: read_manifest(folder, split) for split in splits_of(folder)}
    entries = [e for m in manifests.values() for e in m.entries]
    paths = [e.path for e in entries]
    if len(set(paths)) < len(paths):
        raise ManifestError(
            f"{folder}: several clips are of one file; `avmix transcode` gives each its own"
        )
    keys = _keys(entries)
    out.mkdir(parents=True, exist_ok=True)
    remove_partial(out, "*-??????.tar")
    known = _known(out)
    shards: dict[str, dict[str, Any]] = {}
    parts = [
        (split, number, m.entries[first : first + per_shard])
        for split, m in manifests.items()
        for number, first in enumerate(range(0, len(m.entries), per_shard))
    ]
    for split, number, part in track(parts, "shards"):
        name = f"{split}-{number:06}.tar"
        rows = [_row(e, split, keys[e.clip_id]) for e in part]
        content = hashlib.sha256("".join(rows).encode()).hexdigest()
        old = known.get(name)
        path = out / name
        same = old is not None and old["content_sha256"] == content
        if old is not None and same and path.exists() and path.stat().st_size == old["bytes"]:
            shards[name] = old
            continue
        clips = _write(path, root, part, rows, keys)
        shards[name] = {
            "split": split, "content_sha256": content, "bytes": path.stat().st_size,
            "num_clips": len(part), "clips": clips,
        }  # fmt: skip
        _write_index(out, {"format": FORMAT, "complete": False, "shards": {**known, **shards}})
    index = {
        "format": FORMAT,
        "complete": True,
        "protocol": next(iter(manifests.values())).protocol,
        "classes": list(next(iter(manifests.values())).classes),
        "splits": {s: {"sha256": m.sha256, "num_clips": len(m.entries),
                       "shards": [n for n, d in shards.items() if d["split"] == s]}
                   for s, m in manifests.items()},
        "shards": shards,
    }  # fmt: skip
    _write_index(out, index)
    for name in known.keys() - shards.keys():
        (out / name).unlink(missing_ok=True)  # of a run with fewer clips in a shard
    return index


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--root", "--media", type=Path, required=True, help="media folder")
    parser.add_argument("--manifest", type=Path, help="folder with dataset.json (--root)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    parser.add_argument(
        "--per-shard", type=int, default=1000, metavar="N", help="clips per shard (1000)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the shards, say how many, and return the exit code."""
    try:
        index = write_shards(args.manifest or args.root, args.root, args.out, args.per_shard)
    except (ManifestError, OSError) as error:
        echo(f"error: {error}", error=True)
        return 1
    except KeyboardInterrupt:
        echo("stopped; the same command continues", error=True)
        return 130
    num = sum(shard["num_clips"] for shard in index["shards"].values())
    size = sum(shard["bytes"] for shard in index["shards"].values())
    clips, shards = counted(num, "clip"), counted(len(index["shards"]), "shard")
    echo(f"{args.out}: {clips} in {shards}, {size / 1e6:.1f} MB")
    return 0


def _keys(entries: Sequence[Entry]) -> dict[str, str]:
    """A name for each clip that the layout can hold: of its path, without dots, none twice."""
    keys: dict[str, str] = {}
    taken: set[str] = set()
    for entry in entries:
        path = PurePosixPath(entry.path)
        key = str(path.with_suffix("")).replace(".", "_").lstrip("/")
        while key in taken:
            key += "_"
        taken.add(key)
        keys[entry.clip_id] = key
    return keys


def _row(entry: Entry, split: str, key: str) -> str:
    """What `KEY.json` holds: the manifest's row, and which split and key it has."""
    row = {**json.loads(row_of(entry)), "split": split, "key": key}
    return strict_json.dumps(row)


def _write(
    path: Path, root: Path, entries: Sequence[Entry], rows: Sequence[str], keys: Mapping[str, str]
) -> list[dict[str, Any]]:
    """One shard, whole or not at all; where its clips are in it."""
    clips: list[dict[str, Any]] = []
    with (
        replacing_path(path) as partial,
        tarfile.open(partial, "w", format=tarfile.GNU_FORMAT) as tar,
    ):
        for entry, row in zip(entries, rows, strict=True):
            with as_file(root / entry.path, Limits()) as path_of_media:
                data = Path(path_of_media).read_bytes()
            if hashlib.sha256(data).hexdigest() != entry.sha256:
                raise ManifestError(
                    f"{root / entry.path}: is not the file that the manifest was made of"
                )
            key = keys[entry.clip_id]
            suffix = PurePosixPath(entry.path).suffix.lower() or ".bin"
            media = _add(tar, key + suffix, data)
            _add(tar, key + ".json", row.encode())
            clips.append({"clip_id": entry.clip_id, "key": key, "member": key + suffix,
                          "offset": media, "bytes": len(data)})  # fmt: skip
    return clips


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    """Add a member; where its bytes begin."""
    member = tarfile.TarInfo(name)  # owner and time 0, mode 0644
    member.size = len(data)
    tar.addfile(member, BytesIO(data))
    padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return tar.offset - padded


def _known(out: Path) -> dict[str, dict[str, Any]]:
    try:
        index = json.loads((out / "index.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return index["shards"] if index.get("format") == FORMAT else {}


def _write_index(out: Path, index: Mapping[str, Any]) -> None:
    text = strict_json.dumps(index, indent=1)
    replace_text(out / "index.json", text + "\n")
