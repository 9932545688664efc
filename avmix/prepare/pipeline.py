"""Preparation pipeline: protocols and a media folder -> scan, probe, judge, report, write
manifests."""

import difflib
import hashlib
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from avmix.data.manifest import ManifestError, write_manifest
from avmix.decode.request import Track
from avmix.label_sets import has_one_of_each, label_sets
from avmix.media.folder_walk import File
from avmix.media.frame_scan import Check
from avmix.prepare.annotation_values import plain
from avmix.prepare.annotations import in_two_splits
from avmix.prepare.archives import Archive, look_into, unpack
from avmix.prepare.clip_status import Judged, files_of, judge
from avmix.prepare.file_mapping import mapping_of, missing_links, show_mapping
from avmix.prepare.inventory import SPLITS, excluded_rows, inventory_of
from avmix.prepare.inventory_text import show_inventory
from avmix.prepare.media_folder import MediaIndex, scan
from avmix.prepare.probe_counts import cost_of, probe_counts
from avmix.prepare.probe_files import probe_files
from avmix.prepare.probe_journal import Journal, Probed, alone
from avmix.prepare.protocol import Expected, Problem, Protocol
from avmix.prepare.publish_manifest import WORK, publish, stage, staging
from avmix.system import strict_json
from avmix.system.printing import counted, echo
from avmix.tools.link_list import write_list
from avmix.types import Entry

_EXAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of preparing a dataset."""

    media: Path
    out: Path
    """Folder of the manifest; of several protocols each has a folder in it."""
    workers: int = 2
    """Processes that probe."""
    ray: str | None = None
    """Address of a cluster that probes instead, or `local`."""
    audio_track: Track = None
    """Which of several audio tracks, as for `decode_clip`; the manifest notes it."""
    seconds: float = 120.0
    """Limit for probing one file."""
    check: Check = "fast"
    """What of every file is looked at: packets and audio, or every frame too."""
    min_seconds: float = 0.5
    """The shortest clip that is kept."""
    keep_audio_only: bool = False
    """Whether files without a video stream are kept for their audio."""
    archives: str | None = None
    """Folder within `media` into which archives are unpacked; None: they are only listed."""
    dry_run: bool = False
    """Whether only the files of the clips are looked for, and none is read."""
    overwrite: bool = False
    """Whether a manifest that says something else is replaced."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """What is noted in `dataset.json` of the way it was generated."""


def prepare(protocols: Sequence[Protocol], options: Options) -> None:
    """Write manifest, `excluded.jsonl` and inventory of every protocol; print the inventories.

    Every file is probed once for all of them. Raises `ManifestError` where a protocol contradicts
    itself, nothing is found, or what is there says something else and is not to be overwritten;
    OSError where the disk refuses. Results that are there stay whole in either case.
    """
    for protocol in protocols:
        _check(protocol)
    with alone(options.out / WORK):
        index = scan(options.media)
        archives = [look_into(options.media, path) for path in index.archives]
        if options.archives is not None:
            index, archives = _unpacked(index, archives, options)
        index.add_cells(clip for protocol in protocols for clip in protocol.expected)
        candidates = files_of(index, protocols)
        if options.dry_run:
            for protocol in protocols:
                target = folder_of(options.out, protocol, len(protocols))
                show_mapping(mapping_of(protocol, index, candidates), target)
            return
        index.forget_names()
        wanted = sorted({file for files in candidates.values() for file in files})
        probed = _probed(wanted, options)
        unexpected = sorted(set(index.files) - {file.path for file in wanted})
        del wanted
        for number, protocol in enumerate(protocols, 1):
            # Before anything is judged: this sets aside as many files as there are, for a moment.
            files = (file for clip in protocol.expected for file in candidates[clip])
            looks = probe_counts(options.check, files, probed)
            judged = judge(protocol, candidates, probed, min_seconds=options.min_seconds,
                           keep_audio_only=options.keep_audio_only)  # fmt: skip
            if number == len(protocols):  # of millions of files this is what else takes most memory
                candidates.clear()
                probed.clear()
            inventory = inventory_of(
                protocol,
                judged,
                index,
                archives,
                unexpected,
                min_seconds=options.min_seconds,
                looks=looks,
            )
            target = folder_of(options.out, protocol, len(protocols))
            show_inventory(inventory)
            _write(protocol, judged, inventory, target, options)


def _probed(wanted: Sequence[File], options: Options) -> dict[File, Probed]:
    """What is in the files. The journal goes when it is known: it has all of it a second time."""
    began, path = time.monotonic(), options.out / WORK / _journal(options.audio_track)
    with closing(Journal(path, options.check)) as journal:
        num_known = sum(file in journal.found for file in wanted)
        probed = probe_files(
            options.media,
            wanted,
            journal,
            workers=options.workers,
            seconds=options.seconds,
            check=options.check,
            ray=options.ray,
            audio_track=options.audio_track,
        )
    echo(cost_of(options.check, probed, num_known, time.monotonic() - began))
    return probed


def _journal(audio_track: Track) -> str:
    """What is known of files with another track is not what is asked for."""
    if audio_track is None:
        return "probe.jsonl"
    return f"probe_track_{hashlib.sha256(repr(audio_track).encode()).hexdigest()[:8]}.jsonl"


def folder_of(out: Path, protocol: Protocol, num_protocols: int) -> Path:
    """Folder of the manifest of a protocol: `out` itself where there is only one."""
    return out if num_protocols == 1 else out / protocol.name.replace("/", "_")


def _check(protocol: Protocol) -> None:
    """What annotations must keep to whatever is on the disk."""
    if not protocol.expected:
        dropped = [problem for problem in protocol.problems if problem.dropped]
        why = "; ".join(f"{problem.where}: {problem.reason}" for problem in dropped[:_EXAMPLES])
        more = f"; and {len(dropped) - _EXAMPLES} more" if len(dropped) > _EXAMPLES else ""
        raise ManifestError(f"{protocol.name}: the annotations list no usable clip"
                            + (f": {why}{more}" if why else ""))  # fmt: skip
    seen: dict[str, Expected] = {}
    sources: dict[str, Expected] = {}
    classes = set(protocol.classes)
    for clip in protocol.expected:
        if clip.clip_id in seen:
            raise ManifestError(
                f"{protocol.name}: clip {clip.clip_id!r} is listed twice: "
                f"{seen[clip.clip_id].where} and {clip.where}"
            )
        seen[clip.clip_id] = clip
        if clip.split not in SPLITS:
            raise ManifestError(f"{clip.where}: split {clip.split!r} is none of {SPLITS}")
        labels = (*clip.labels, *clip.unknown_labels)
        if not labels or not classes.issuperset(labels):
            raise ManifestError(f"{clip.where}: labels {labels} are not classes")
        first = sources.setdefault(clip.source_id, clip)
        if first.split != clip.split and not protocol.leaks:
            raise ManifestError(
                f"{protocol.name}: source {clip.source_id!r} is in {first.split} "
                f"({first.where}) and in "
                f"{clip.split} ({clip.where}): a leak; split by source"
            )


def _unpacked(
    index: MediaIndex, archives: Sequence[Archive], options: Options
) -> tuple[MediaIndex, list[Archive]]:
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
            echo(f"{archive.path}: {num_new} files unpacked into {folder}", error=True)
    index = scan(options.media)
    return index, [look_into(options.media, path) for path in index.archives]


def _write(
    protocol: Protocol,
    judged: Sequence[Judged],
    inventory: Mapping[str, Any],
    target: Path,
    options: Options,
) -> None:
    from avmix.prepare.inventory_html import (
        page_of,  # matplotlib: slow to import, and only needed here
    )

    kept = [one.entry for one in judged if one.entry is not None]
    text = strict_json.dumps(inventory, indent=1) + "\n"
    files = {
        "inventory.json": text.encode(),
        "inventory.html": page_of(inventory, kept),
    }
    staged = staging(target)
    links = missing_links(one.clip for one in judged if one.status == "missing")
    if not (num_links := write_list(staged / "missing.txt", links)):
        (staged / "missing.txt").unlink()
    kinds = _write_rows(staged / "excluded.jsonl", excluded_rows(protocol, judged))
    try:
        _check_some(protocol, kept)
    except ManifestError as error:
        beside = target if not (target / "dataset.json").exists() else target / WORK
        for name, data in files.items():
            (staged / name).write_bytes(data)
        for name in (*files, "excluded.jsonl", "missing.txt"):
            if (staged / name).exists():
                (staged / name).replace(beside / name)
        raise ManifestError(f"{error}; see {beside / 'inventory.html'}") from None
    write_manifest(
        staged,
        classes=protocol.classes,
        protocol=protocol.name,
        splits={split: entries for split in SPLITS if (entries := _kept_in(split, judged))},
        notes=_notes(protocol, inventory, options),
        leaks=protocol.leaks,
        label_sets=protocol.label_sets,
        tail_classes=protocol.tail_classes,
    )
    stage(staged, files)
    changed = publish(staged, target, overwrite=options.overwrite)
    said = f"replaced: {changed}" if changed else f"wrote {counted(len(kept), 'clip')}"
    echo(f"{target}: {said}; {_excluded(kinds)} (see excluded.jsonl)")
    if num_links:
        echo(f"{target}: missing.txt lists links of missing clips; to fetch and cut them: avmix "
             f"download --with yt-dlp --list {target / 'missing.txt'} --out FOLDER")  # fmt: skip


def _write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Write rows as lines, one by one, for there may be millions; how many of each status."""
    kinds: Counter[str] = Counter()
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(strict_json.dumps(row) + "\n")
            kinds[row["status"]] += 1
    return kinds


def _excluded(kinds: Counter[str]) -> str:
    """Contents of `excluded.jsonl` in words: clips that are not in the manifest, additional files
    of clips that are, and unused rows of annotations."""
    more_files, rows = kinds["duplicate"], kinds["annotation"]
    parts = [f"excluded {kinds.total() - more_files - rows or 'none'}"]
    if more_files:
        parts.append(f"ignored {counted(more_files, 'additional file')} of the same clips")
    if rows:
        parts.append(f"ignored {counted(rows, 'row')} of annotations")
    return ", ".join(parts)


def _kept_in(split: str, judged: Sequence[Judged]) -> list[Entry]:
    return [one.entry for one in judged if one.entry is not None and one.clip.split == split]


def _check_some(protocol: Protocol, kept: Sequence[Entry]) -> None:
    if not kept:
        raise ManifestError(
            f"{protocol.name}: none of {len(protocol.expected)} clips can be used; is --root the "
            "right folder?"
        )


def restricted(protocol: Protocol, classes: Collection[str]) -> Protocol:
    """Restrict a protocol to some classes, under another name: results are of another task.

    Of a clip with several labels those of these classes stay; with label sets, clips that have one
    of each set. Raises `ManifestError` where one is no class of the protocol, or a label set has
    fewer than two left.
    """
    known = {plain(name): name for name in protocol.classes}
    for name in classes:
        if plain(name) not in known:
            near = difflib.get_close_matches(plain(name), known, n=1)
            hint = f"; did you mean {known[near[0]]!r}?" if near else ""
            raise ManifestError(f"--classes: {protocol.name} has no class {name!r}{hint}")
    wanted = {known[plain(name)] for name in classes}
    chosen = tuple(name for name in protocol.classes if name in wanted)
    try:
        sets = label_sets(chosen, protocol.label_sets)
    except ValueError as error:
        raise ManifestError(f"--classes: {error}") from None
    kept = tuple(
        found
        for clip in protocol.expected
        if (found := clip.of_classes(wanted)).labels or found.unknown_labels
        if not sets or has_one_of_each(found.labels, sets)
    )
    digest = hashlib.sha256("\n".join(chosen).encode()).hexdigest()[:6]
    said = Problem(where="--classes", text="", dropped=False,
                   reason=f"{len(chosen)} of {len(protocol.classes)} classes, {len(kept)} of "
                   f"{len(protocol.expected)} clips")  # fmt: skip
    return replace(protocol, name=f"{protocol.name}/{len(chosen)}_classes_{digest}",
                   classes=chosen, expected=kept, problems=(*protocol.problems, said),
                   tail_classes=tuple(name for name in protocol.tail_classes if name in wanted),
                   published={}, leaks=protocol.leaks if in_two_splits(kept) else "")  # fmt: skip


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
        "looks": inventory["looks"],
        "needs_audio": protocol.needs_audio,
    }
