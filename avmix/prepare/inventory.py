"""Inventory: counts of expected, found and excluded clips per split and class, as plain values."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from avmix.prepare.archives import Archive
from avmix.prepare.clip_file_names import PREFIXES
from avmix.prepare.clip_status import (
    FLAGS,
    LENGTH_SECONDS,
    LENGTH_SHARE,
    OFFSET_SECONDS,
    STATUSES,
    Judged,
)
from avmix.prepare.media_folder import MediaIndex, nfc_name, split_ending
from avmix.prepare.protocol import Protocol

SCHEMA = 1
"""Version of `inventory.json`; raised when an old reader would misread a new file."""
SPLITS = ("train", "val", "test")
_EXAMPLES = 20


def inventory_of(
    protocol: Protocol,
    judged: Sequence[Judged],
    index: MediaIndex,
    archives: Sequence[Archive],
    unexpected: Sequence[str],
    *,
    min_seconds: float,
    looks: Mapping[str, Any],
) -> dict[str, Any]:
    """Inventory of a prepared dataset, in display order.

    `unexpected` are the media files that no clip of any protocol may be; `looks` says what was
    looked at (`avmix.prepare.probe_counts`).
    """
    present = {label for one in judged if one.entry is not None for label in one.clip.labels}
    splits = {one.clip.split: None for one in judged}
    return {
        "schema": SCHEMA,
        "protocol": protocol.name,
        "leaks": protocol.leaks,
        "looks": dict(looks),
        "counts": _counts(judged, protocol),
        "splits": {
            split: {
                **_counts([one for one in judged if one.clip.split == split]),
                "published": protocol.published.get(split),
            }
            for split in sorted(splits, key=_place)
        },
        "classes": _classes(protocol, judged),
        "missing_of_present_classes": sum(
            one.status == "missing" and not present.isdisjoint(one.clip.labels) for one in judged
        ),
        "absent_classes": [name for name in protocol.classes if name not in present],
        "untrained_classes": _untrained(protocol, judged),
        "rules": {
            "min_seconds": min_seconds,
            "av_offset_seconds": OFFSET_SECONDS,
            "wrong_duration_seconds": LENGTH_SECONDS,
            "wrong_duration_share": LENGTH_SHARE,
            "needs_audio": protocol.needs_audio,
        },
        "media": _media(index, archives, unexpected, judged),
        "like_missing": like_missing(unexpected, judged),
        "duplicates": [
            {"clip_id": one.clip.clip_id, "path": one.path, "reason": one.reason,
             "others": [{"path": path, "reason": why} for path, why in one.others]}
            for one in judged
            if one.others or "duplicate" in one.flags
        ],
        "remarks": [
            {"clip_id": one.clip.clip_id, "path": one.path, "flags": list(one.flags),
             "text": one.reason}
            for one in judged
            if one.flags
        ],
        "annotation_problems": [
            {"where": p.where, "reason": p.reason, "text": p.text, "dropped": p.dropped}
            for p in protocol.problems
        ],
    }  # fmt: skip


def excluded_rows(protocol: Protocol, judged: Sequence[Judged]) -> Iterator[dict[str, Any]]:
    """A row for every clip, file and row of the annotations that is not in the manifest."""
    for one in judged:
        row = {"clip_id": one.clip.clip_id, "split": one.clip.split,
               "labels": list(one.clip.labels), "path": one.path}  # fmt: skip
        if one.entry is None:
            yield {**row, "status": one.status, "reason": one.reason, "where": one.clip.where}
        for path, why in one.others:
            yield {**row, "path": path, "status": "duplicate", "reason": why,
                   "where": one.clip.where}  # fmt: skip
    for problem in protocol.problems:
        if problem.dropped:
            yield {"clip_id": None, "split": None, "labels": [], "path": "", "status": "annotation",
                   "reason": problem.reason, "where": problem.where,
                   "text": problem.text}  # fmt: skip


def _counts(judged: Sequence[Judged], protocol: Protocol | None = None) -> dict[str, int]:
    """How many are expected, how many of each status, and how many kept ones are remarked upon."""
    statuses = Counter(one.status for one in judged)
    flags = Counter(flag for one in judged for flag in one.flags)
    out = {"expected": len(judged), **{status: statuses[status] for status in STATUSES}}
    if protocol is not None:
        out["annotation"] = sum(problem.dropped for problem in protocol.problems)
    else:
        del out["annotation"]  # a row that cannot be used is of no split
    return {**out, **{f"kept_{flag}": flags[flag] for flag in FLAGS}}


def _classes(protocol: Protocol, judged: Sequence[Judged]) -> dict[str, dict[str, Any]]:
    of_class: dict[str, dict[str, list[Judged]]] = defaultdict(lambda: defaultdict(list))
    for one in judged:
        for label in one.clip.labels:
            of_class[label][one.clip.split].append(one)
    return {
        label: {
            split: {key: n for key, n in _counts(of_class[label][split]).items() if n}
            for split in sorted(of_class[label], key=_place)
        }
        for label in protocol.classes
    }


def _untrained(protocol: Protocol, judged: Sequence[Judged]) -> list[str]:
    """The classes that have clips, but none in train; none where train has no clip at all."""
    kept = [one for one in judged if one.entry is not None]
    trained = {label for one in kept if one.clip.split == "train" for label in one.clip.labels}
    present = {label for one in kept for label in one.clip.labels}
    return [c for c in protocol.classes if c in present and c not in trained] if trained else []


def _media(
    index: MediaIndex,
    archives: Sequence[Archive],
    unexpected: Sequence[str],
    judged: Sequence[Judged],
) -> dict[str, Any]:
    return {
        "num_files": len(index.files),
        "num_unexpected": len(unexpected),
        "unexpected": list(unexpected[:_EXAMPLES]),
        "num_other_files": index.num_others,
        "num_links_outside": len(index.links_outside),
        "links_outside": index.links_outside[:_EXAMPLES],
        "num_hidden": index.num_hidden,
        "num_links_again": len(index.links_again),
        "unusable": [{"path": path, "reason": why} for path, why in index.unusable],
        "archives": [
            {"path": a.path, "num_media": len(a.media), "num_wanted": wanted_in(a, judged),
             "refused": a.refused}
            for a in archives
        ],
    }  # fmt: skip


def like_missing(unexpected: Sequence[str], judged: Sequence[Judged]) -> list[dict[str, str]]:
    """Unexpected files whose names begin like a missing clip."""
    missing: dict[str, str] = {}
    for one in judged if unexpected else ():
        if one.status == "missing":
            stems = [one.clip.video] if one.clip.video else [_stem(n) for n in one.clip.names]
            for stem in filter(None, stems):
                missing.setdefault(stem, one.clip.clip_id)
    lengths = sorted({len(stem) for stem in missing}, reverse=True)
    found: list[dict[str, str]] = []
    for path in unexpected:
        name = _stem(path)
        starts = [0, *(len(p) for p in PREFIXES if name.casefold().startswith(p))]
        begins = [
            name[at : at + n]
            for at in starts
            for n in lengths
            if len(name) > at + n and not name[at + n].isalnum()
        ]
        clip_id = next((missing[b] for b in begins if b in missing), None)
        if clip_id is not None:
            found.append({"path": path, "clip_id": clip_id})
    return found


def wanted_in(archive: Archive, judged: Sequence[Judged]) -> int:
    """Number of excluded clips that may be in an archive that has not been unpacked."""
    bare = {_stem(name) for name in archive.media}
    return sum(
        one.entry is None and any(_stem(name) in bare for name in one.clip.names) for one in judged
    )


def _stem(name: str) -> str:
    return split_ending(nfc_name(name).rpartition("/")[2])[0]


def _place(split: str) -> tuple[int, str]:
    return (SPLITS.index(split) if split in SPLITS else len(SPLITS), split)
