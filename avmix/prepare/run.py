"""From protocols and a folder of media to manifests: scan, probe, judge, report, publish."""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avmix.data.manifest import ManifestError, write_manifest
from avmix.prepare.archives import Archive, look_into, unpack
from avmix.prepare.expected import Protocol
from avmix.prepare.inventory import SPLITS, excluded_rows, inventory_of
from avmix.prepare.journal import Journal, alone
from avmix.prepare.judge import Judged, files_of, judge
from avmix.prepare.probing import probe_files
from avmix.prepare.publish import WORK, publish, stage, staging
from avmix.prepare.scan import Index, scan
from avmix.prepare.show import show_inventory
from avmix.types import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a data set is prepared."""

    media: Path
    out: Path
    """Folder of the manifest; of several protocols each has a folder in it."""
    workers: int = 2
    """Processes that probe."""
    ray: str | None = None
    """Address of a cluster that probes instead, or `local`."""
    seconds: float = 120.0
    """Limit for probing one file."""
    min_seconds: float = 0.5
    """The shortest clip that is kept."""
    archives: str | None = None
    """Folder within `media` into which archives are unpacked; None: they are only listed."""
    overwrite: bool = False
    """Whether a manifest that says something else is replaced."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """What is noted in `dataset.json` of the way it was made."""


def prepare(protocols: Sequence[Protocol], options: Options) -> None:
    """Write manifest, `excluded.jsonl` and inventory of every protocol; print the inventories.

    Every file is probed once for all of them. Raises `ManifestError` where a protocol contradicts
    itself, nothing is found, a class has clips in other splits and none in train, or what is there
    says something else and is not to be overwritten; OSError where the disk refuses. Results that
    are there stay whole in either case.
    """
    for protocol in protocols:
        _check(protocol)
    with alone(options.out / WORK):
        index = scan(options.media)
        archives = [look_into(options.media, path) for path in index.archives]
        if options.archives is not None:
            index, archives = _unpacked(index, archives, options)
        candidates = files_of(index, protocols)
        wanted = sorted({file for files in candidates.values() for file in files})
        with closing(Journal(options.out / WORK / "probe.jsonl")) as journal:
            probed = probe_files(
                options.media,
                wanted,
                journal,
                workers=options.workers,
                seconds=options.seconds,
                ray=options.ray,
            )
        unexpected = sorted(set(index.files) - {file.path for file in wanted})
        for protocol in protocols:
            judged = judge(protocol, candidates, probed, min_seconds=options.min_seconds)
            inventory = inventory_of(
                protocol, judged, index, archives, unexpected, min_seconds=options.min_seconds
            )
            target = folder_of(options.out, protocol, len(protocols))
            show_inventory(inventory)
            _write(protocol, judged, inventory, target, options)


def folder_of(out: Path, protocol: Protocol, num_protocols: int) -> Path:
    """Where the manifest of a protocol is: `out` itself where there is only one."""
    return out if num_protocols == 1 else out / protocol.name.replace("/", "_")


def _check(protocol: Protocol) -> None:
    """What annotations must keep to whatever is on the disk."""
    if not protocol.expected:
        raise ManifestError(f"{protocol.name}: the annotations name no clip that can be used")
    seen: dict[str, str] = {}
    splits: dict[str, tuple[str, str]] = {}
    classes = set(protocol.classes)
    for clip in protocol.expected:
        if clip.clip_id in seen:
            raise ManifestError(
                f"{protocol.name}: clip {clip.clip_id!r} is named twice: {seen[clip.clip_id]} and "
                f"{clip.where}"
            )
        seen[clip.clip_id] = clip.where
        if clip.split not in SPLITS:
            raise ManifestError(f"{clip.where}: split {clip.split!r} is none of {SPLITS}")
        if not clip.labels or not classes.issuperset(clip.labels):
            raise ManifestError(f"{clip.where}: labels {clip.labels} are not classes")
        split, where = splits.setdefault(clip.source_id, (clip.split, clip.where))
        if split != clip.split and not protocol.leaks:
            raise ManifestError(
                f"{protocol.name}: source {clip.source_id!r} is in {split} ({where}) and in "
                f"{clip.split} ({clip.where}): a leak; split by source"
            )


def _unpacked(
    index: Index, archives: Sequence[Archive], options: Options
) -> tuple[Index, list[Archive]]:
    folder = options.archives or ""
    inside = (options.media / folder).resolve().is_relative_to(options.media.resolve())
    if not inside or not folder:
        raise ManifestError(
            f"--archives {folder}: not a folder within {options.media}: clips are found by paths "
            "relative to it"
        )
    for archive in archives:
        if not archive.refused:
            num_new = unpack(options.media, archive, folder)
            print(f"{archive.path}: {num_new} files unpacked into {folder}", file=sys.stderr)
    index = scan(options.media)
    return index, [look_into(options.media, path) for path in index.archives]


def _write(
    protocol: Protocol,
    judged: Sequence[Judged],
    inventory: Mapping[str, Any],
    target: Path,
    options: Options,
) -> None:
    from avmix.prepare.page import page_of  # matplotlib: slow to import, and only needed here

    kept = [one.entry for one in judged if one.entry is not None]
    text = json.dumps(inventory, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    rows = [
        json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
        for row in excluded_rows(protocol, judged)
    ]
    files = {
        "excluded.jsonl": "".join(rows).encode(),
        "inventory.json": text.encode(),
        "inventory.html": page_of(inventory, kept),
    }
    staged = staging(target)
    try:
        classes = _classes(protocol, kept)
    except ManifestError as error:
        beside = target if not (target / "dataset.json").exists() else target / WORK
        for name, data in files.items():
            (staged / name).write_bytes(data)
            (staged / name).replace(beside / name)
        raise ManifestError(f"{error}; see {beside / 'inventory.html'}") from None
    write_manifest(
        staged,
        classes=classes,
        protocol=protocol.name,
        splits={
            split: entries
            for split in SPLITS
            if (entries := [e for e, s in _placed(judged) if s == split])
        },
        notes=_notes(protocol, inventory, options),
        leaks=protocol.leaks,
    )
    stage(staged, files)
    changed = publish(staged, target, overwrite=options.overwrite)
    said = f"replaced: {changed}" if changed else f"{len(kept)} clips"
    print(f"{target}: {said}; {len(rows)} left out, with reasons, in excluded.jsonl")


def _placed(judged: Sequence[Judged]) -> list[tuple[Entry, str]]:
    return [(one.entry, one.clip.split) for one in judged if one.entry is not None]


def _classes(protocol: Protocol, kept: Sequence[Entry]) -> list[str]:
    """The classes of the manifest: those with a clip.

    Raises `ManifestError` where none has one, or one has clips and none of them is in train.
    """
    splits = {clip.clip_id: clip.split for clip in protocol.expected}
    present: dict[str, set[str]] = {}
    for entry in kept:
        for label in entry.labels:
            present.setdefault(label, set()).add(splits[entry.clip_id])
    if not present:
        raise ManifestError(
            f"{protocol.name}: none of {len(protocol.expected)} clips can be used; is --media the "
            "right folder?"
        )
    untrained = [c for c in protocol.classes if c in present and "train" not in present[c]]
    if untrained and "train" in splits.values():
        some = ", ".join(map(repr, untrained[:5])) + (", ..." if len(untrained) > 5 else "")
        raise ManifestError(
            f"{protocol.name}: class {some} has clips in {'/'.join(sorted(present[untrained[0]]))} "
            "and none in train, so nothing could learn it; get one of its train clips"
        )
    return [name for name in protocol.classes if name in present]


def _notes(protocol: Protocol, inventory: Mapping[str, Any], options: Options) -> dict[str, Any]:
    return {
        "arguments": dict(options.arguments),
        "annotation_sha256": protocol.annotation_sha256,
        "num_classes_defined": len(protocol.classes),
        "absent_classes": inventory["absent_classes"],
        "counts": inventory["counts"],
        "splits": {
            split: {key: counts[key] for key in ("published", "expected", "found")}
            for split, counts in inventory["splits"].items()
        },
        "rules": inventory["rules"],
        "needs_audio": protocol.needs_audio,
    }
