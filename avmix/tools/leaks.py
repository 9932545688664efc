"""`avmix leaks`: sources, files or people shared between splits.

A leak is a recording, a file, a person or group, or the same footage under another name, in two
splits. What is given is compared: `source_id`, the hash of the file, columns of a table or a part
of `clip_id` that says who is seen. What is not given is looked for (`--near`): clips that look or
sound the same by their fingerprints, which are kept beside the manifest and made once.

All frames of one split are compared with all of another: time grows with the product, at some
10^8 pairs of frames a second and core, so 100,000 clips of 10 s, 80,000 of them in train, take
1.6 * 10^11 comparisons: under an hour, in 200 MB. Sounds are looked up by equal hashes, which grows
with their number only. Making the fingerprints, some 0.1 s a clip, takes longer than either.
"""

import argparse
import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

from avmix.data.manifest import Manifest, ManifestError, read_manifest, splits_of
from avmix.media.fingerprint import FRAME_BITS, MAX_HASHED_FRAMES, Fingerprint
from avmix.system import strict_json
from avmix.system.atomic_files import replace_text
from avmix.system.paths import unwritable
from avmix.system.printing import echo
from avmix.system.unused_arguments import Needs
from avmix.tools.fingerprint_journal import fingerprints
from avmix.tools.leak_search import (
    MAX_AUDIO_SHARE,
    MAX_FRAME_BITS,
    MIN_AUDIO_SECONDS,
    Kind,
    Leak,
    near_duplicates,
    shared_keys,
)
from avmix.types import Entry

_JOURNAL = "fingerprints.jsonl"
_MAX_LISTED = 20

EPILOG = """\
exit:   0 nothing found, or found and only reported   1 found, and --enforce; or clips that could not
        be read, and --enforce   2 wrong usage, no manifest   130 interrupted; the same command goes on
"""  # noqa: E501


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--root", "--media", type=Path, required=True, help="folder of the clips")
    parser.add_argument("--manifest", type=Path, help="folder with dataset.json (--root)")
    parser.add_argument("--groups", type=Path, metavar="FILE", help="CSV: clip_id and other "
                        "columns: who or what is in a clip, not to be in two splits")  # fmt: skip
    parser.add_argument("--group", action="append", default=[], metavar="NAME=REGEX",
                        help="the same from clip_id: what the first bracket of REGEX finds in it, "
                        r"as 'actor=^(\d{4})_'")  # fmt: skip
    parser.add_argument("--near", action="store_true", help="look for clips that look or sound the "
                        "same; reads all of them once")  # fmt: skip
    bits = f"of {FRAME_BITS}, that may differ ({MAX_FRAME_BITS})"
    parser.add_argument("--max-picture-bits", type=int, default=MAX_FRAME_BITS, metavar="N",
                        help=bits)  # fmt: skip
    parser.add_argument("--max-sound-share", type=float, default=MAX_AUDIO_SHARE, metavar="X",
                        help=f"of the bits, that may differ ({MAX_AUDIO_SHARE})")  # fmt: skip
    where = f"where fingerprints are kept ({_JOURNAL} beside the manifest)"
    parser.add_argument("--cache", type=Path, metavar="FILE", help=where)
    parser.add_argument("--out", type=Path, metavar="FILE",
                        help="the report (leaks.json beside the manifest)")  # fmt: skip
    parser.add_argument("--workers", type=int, default=1, help="processes (1)")
    parser.add_argument("--enforce", action="store_true", help="exit with 1 where there is a leak")


_NEAR = "--near, which alone reads clips"
NEEDS = tuple(
    Needs(option=option, default=default, says=_NEAR, met=lambda args: args.near)
    for option, default in (
        ("--max-picture-bits", MAX_FRAME_BITS),
        ("--max-sound-share", MAX_AUDIO_SHARE),
        ("--cache", None),
        ("--workers", 1),
    )
)
"""Options that cannot act without others."""


def run(args: argparse.Namespace) -> int:
    """Look for leaks, write and print the report; returns the exit code."""
    folder = args.manifest or args.root
    try:
        _check(args)
        path = args.out or folder / "leaks.json"
        if why := unwritable(path):
            raise ManifestError(f"{path} {why}")
        manifests = {split: read_manifest(folder, split) for split in splits_of(folder)}
        entries = {split: m.entries for split, m in manifests.items()}
        groups = read_groups(args.groups, args.group, [e for m in entries.values() for e in m])
        leaks = shared_keys(entries, groups)
        unreadable: list[Fingerprint] = []
        if args.near:
            every = [e for es in entries.values() for e in es]
            journal = args.cache or folder / _JOURNAL
            prints = iter(fingerprints(args.root, every, journal, workers=args.workers))
            of = {split: [next(prints) for _ in es] for split, es in entries.items()}
            unreadable = [f for fs in of.values() for f in fs if f.problem]
            leaks += near_duplicates(of, max_picture_bits=args.max_picture_bits,
                                     max_sound_share=args.max_sound_share)  # fmt: skip
        report = _report(args, manifests, groups, leaks, unreadable)
        text = strict_json.dumps(report, indent=1)
        replace_text(path, text + "\n")
    except (ManifestError, OSError) as error:
        echo(f"error: {error}", error=True)
        return 2
    except KeyboardInterrupt:
        echo("stopped; the same command goes on", error=True)
        return 130
    for line in (report["protocol"], *_table(report["summary"], manifests)):
        echo(line)
    for leak in leaks[:_MAX_LISTED]:
        echo("  " + _told(leak))
    if len(leaks) > _MAX_LISTED:
        echo(f"  and {len(leaks) - _MAX_LISTED} more, in {path}")
    for found in unreadable[:_MAX_LISTED]:
        echo(f"not compared: {found.clip_id}: {found.problem}", error=True)
    if len(unreadable) > _MAX_LISTED:
        echo(f"and {len(unreadable) - _MAX_LISTED} more not compared", error=True)
    return int(args.enforce and bool(leaks or unreadable))


def read_groups(
    table: Path | None, patterns: Sequence[str], entries: Sequence[Entry]
) -> dict[str, dict[str, str]]:
    """Who or what is in each clip, by name: columns of a CSV, and parts of `clip_id`.

    Raises `ManifestError` where the table has no `clip_id` or tells of none of the clips, or a
    pattern is none or finds nothing in any of them.
    """
    groups: dict[str, dict[str, str]] = {}
    known = {e.clip_id for e in entries}
    if table is not None:
        try:
            reader = csv.DictReader(io.StringIO(table.read_text(encoding="utf-8-sig"), newline=""))
        except UnicodeDecodeError as error:
            raise ManifestError(f"{table}: not UTF-8: {error}") from None
        names = [name for name in reader.fieldnames or [] if name != "clip_id"]
        if "clip_id" not in (reader.fieldnames or []) or not names:
            raise ManifestError(f"{table}: needs a column clip_id and at least one more")
        rows = [row for row in reader if row["clip_id"] in known]
        if not rows:
            raise ManifestError(f"{table}: tells of none of the clips")
        for name in names:
            groups[name] = {row["clip_id"]: row[name] for row in rows if row[name]}
    for text in patterns:
        name, _, pattern = text.partition("=")
        try:
            regex = re.compile(pattern)
        except re.error as error:
            raise ManifestError(f"--group {text}: {error}") from None
        if not name or regex.groups < 1:
            raise ManifestError(f"--group {text}: write NAME=REGEX with a bracket in it")
        matches = ((e.clip_id, regex.search(e.clip_id)) for e in entries)
        groups[name] = {clip_id: m[1] for clip_id, m in matches if m and m[1]}
        if not groups[name]:
            raise ManifestError(f"--group {text}: matches no clip_id, as {entries[0].clip_id!r}")
    return groups


def _check(args: argparse.Namespace) -> None:
    if args.workers < 1:
        raise ManifestError(f"--workers must be at least 1, got {args.workers}")
    if not 0 <= args.max_picture_bits < FRAME_BITS:
        raise ManifestError(f"--max-picture-bits must be from 0 to {FRAME_BITS - 1}, "
                            f"got {args.max_picture_bits}")  # fmt: skip
    if not 0 <= args.max_sound_share < 0.5:
        raise ManifestError(f"--max-audio-share must be in [0, 0.5), got {args.max_sound_share}")


def _report(
    args: argparse.Namespace,
    manifests: Mapping[str, Manifest],
    groups: Mapping[str, Mapping[str, str]],
    leaks: Sequence[Leak],
    unreadable: Sequence[Fingerprint],
) -> dict[str, Any]:
    kinds: list[Kind] = ["source", "file"]
    if groups:
        kinds.append("group")
    if args.near:
        kinds.extend(("pictures", "sound"))
    rows = []
    for kind in kinds:
        for a, b in combinations(manifests, 2):
            here = [k for k in leaks if (k.kind, k.split_a, k.split_b) == (kind, a, b)]
            exact = kind not in ("pictures", "sound")
            rows.append({
                "kind": kind, "split_a": a, "split_b": b, "leaks": len(here),
                "clips_a": sum(k.num_a for k in here) if exact and kind != "group" else None,
                "clips_b": sum(k.num_b for k in here) if kind != "group" else None,
            })  # fmt: skip
    return {
        "protocol": next(iter(manifests.values())).protocol if manifests else "",
        "splits": {s: {"sha256": m.sha256, "num_clips": len(m.entries)}
                   for s, m in manifests.items()},
        "checked": kinds,
        "groups": {name: len(set(of.values())) for name, of in groups.items()},
        "limits": {"picture_bits": args.max_picture_bits, "of": FRAME_BITS,
                   "sound_share": args.max_sound_share, "sound_seconds": MIN_AUDIO_SECONDS,
                   "pictures": MAX_HASHED_FRAMES} if args.near else None,
        "summary": rows,
        "unreadable": [{"clip_id": f.clip_id, "problem": f.problem} for f in unreadable],
        "leaks": [asdict(leak) for leak in leaks],
    }  # fmt: skip


def _table(summary: Sequence[Mapping[str, Any]], manifests: Mapping[str, Manifest]) -> list[str]:
    lines = [f"{'what':<10}{'in':<16}{'shared':>8}{'clips of the later':>24}"]
    for row in summary:
        clips = row["clips_b"]
        told = "" if clips is None else f"{clips} of {len(manifests[row['split_b']].entries)}"
        both = f"{row['split_a']}, {row['split_b']}"
        lines.append(f"{row['kind']:<10}{both:<16}{row['leaks']:>8}{told:>24}")
    return lines


def _told(leak: Leak) -> str:
    what = f"{leak.value} " if leak.value else ""
    far = f", distance {leak.distance:g}" if leak.kind in ("pictures", "sound") else ""
    return (f"{leak.kind}: {what}{leak.split_a} {leak.clip_a} ({leak.num_a}), "
            f"{leak.split_b} {leak.clip_b} ({leak.num_b}){far}")  # fmt: skip
