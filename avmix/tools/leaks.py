"""`avmix leaks`: finds sources, files or people shared between splits.

A leak is a recording, a file, a person or group, or the same footage under another name, in two
splits. What is given is compared: `source_id`, the hash of the file, columns of a table or a part
of `clip_id` that names the person. What is not given is searched for (`--near`): near-duplicates,
clips with similar fingerprints, which are computed once and kept beside the manifest.

All frames of one split are compared with all of another: time grows with the product, at some
10^8 pairs of frames a second and core, so 100,000 clips of 10 s, 80,000 of them in train, take
1.6 * 10^11 comparisons: under an hour, in 200 MB. Audio is looked up by equal hashes, which grows
with its amount only. Computing the fingerprints, some 0.1 s a clip, takes longer than either.
"""

import argparse
import base64
import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int64

from avmix.data.manifest import Manifest, ManifestError, read_manifest, splits_of
from avmix.decode.mono_track import hearing
from avmix.isolate.clip_pool import failure_text, for_each_clip
from avmix.isolate.process_pool import Failure
from avmix.media.fingerprint import (
    COLUMNS_HZ,
    FRAME_BITS,
    MAX_HASHED_FRAMES,
    VERSION,
    Fingerprint,
    audio_hash_distance,
    empty_fingerprint,
    fingerprint_of,
)
from avmix.system import strict_json
from avmix.system.atomic_files import replace_text
from avmix.system.paths import unwritable
from avmix.system.printing import echo
from avmix.system.unused_arguments import Needs
from avmix.types import Entry

Kind = Literal["source", "file", "group", "pictures", "sound"]

MAX_FRAME_BITS = 24
"""Differing bits of 127: frames that differ in fewer or as many look the same. Transcoded to a
quarter of the size, real clips differ in at most 14 (40 of UCF101); unrelated ones rarely in fewer
than 26 (benchmarks/results/leaks.json)."""
MAX_AUDIO_SHARE = 0.3
"""Share of differing bits: the same, transcoded real clips differ in up to 0.16, unrelated ones in
0.43 and more, of 40; Haitsma and Kalker use 0.35."""
MIN_AUDIO_SECONDS = 1.5
"""Least audio that must be audible in both clips to be compared."""

SECONDS = 120.0
"""For one clip, before the process that reads it is killed."""

_JOURNAL = "fingerprints.jsonl"
_COMMON = 64
"""Hashes that occur more often in a split say nothing: a tone, a hum."""
_MIN_VOTES = 2
"""Equal hashes at one distance in time, before a pair is compared."""
_LAGS = 1 << 20
"""More than columns of any clip, twice: 4 hours."""
_HASHES = 100_000
"""Looked up in one piece."""
_ROWS, _COLUMNS = 256, 16_384
"""Frames compared in one piece: 2 x 32 MB of differences."""
_MAX_LISTED = 20

EPILOG = """\
exit:   0 nothing found, or found and only reported   1 found, and --enforce; or clips that could not
        be read, and --enforce   2 wrong usage, no manifest   130 interrupted; the same command continues
"""  # noqa: E501


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """Something that is in two splits; which clip of each shows it."""

    kind: Kind
    split_a: str
    clip_a: str
    """The first of its split that has it; of near-duplicates, the nearest."""
    split_b: str
    clip_b: str
    distance: float
    """0 where what is given is the same; bits of 127 for frames, share of bits for audio."""
    value: str = ""
    """What both share: a source, a hash, `actor=1001`; "" for near-duplicates."""
    num_a: int = 1
    """Clips of split a that have it, or are as near to clip b as counts."""
    num_b: int = 1
    """Clips of split b that have it."""


def shared_keys(
    splits: Mapping[str, Sequence[Entry]], groups: Mapping[str, Mapping[str, str]] | None = None
) -> tuple[Leak, ...]:
    """What is given and is in two splits: one row for each value and pair of splits.

    `groups`: clip_id to who or what is in it, by name of what that is (`actor`, `place`); clips
    that are not in it are of none.
    """
    leaks: list[Leak] = []
    keys: list[tuple[Kind, str, Mapping[str, str]]] = [
        ("source", "", {e.clip_id: e.source_id for es in splits.values() for e in es}),
        ("file", "", {e.clip_id: e.sha256 for es in splits.values() for e in es}),
        *(("group", f"{name}=", of) for name, of in (groups or {}).items()),
    ]
    for a, b in combinations(splits, 2):
        for kind, name, of in keys:
            first, second = _by_value(splits[a], of), _by_value(splits[b], of)
            leaks += [
                Leak(kind=kind, split_a=a, clip_a=first[value][0], split_b=b,
                     clip_b=second[value][0], distance=0.0, value=f"{name}{value}",
                     num_a=len(first[value]), num_b=len(second[value]))
                for value in sorted(first.keys() & second.keys())
            ]  # fmt: skip
    return tuple(leaks)


def near_duplicates(
    splits: Mapping[str, Sequence[Fingerprint]],
    *,
    max_frame_bits: int = MAX_FRAME_BITS,
    max_audio_share: float = MAX_AUDIO_SHARE,
) -> tuple[Leak, ...]:
    """Near-duplicates in two splits: for each clip of the later split the nearest.

    One row for frames and one for audio, where both say so; `num_a` counts how many are near.
    """
    leaks: list[Leak] = []
    for a, b in combinations(splits, 2):
        found: list[tuple[Kind, np.ndarray]] = [
            ("pictures", near_duplicate_frames(splits[a], splits[b], max_frame_bits)),
            ("sound", near_duplicate_audio(splits[a], splits[b], max_audio_share)),
        ]
        for kind, pairs in found:
            order = pairs[np.lexsort((pairs[:, 0], pairs[:, 2], pairs[:, 1]))]
            of, first, num = np.unique(order[:, 1], return_index=True, return_counts=True)
            leaks += [
                Leak(kind=kind, split_a=a, clip_a=splits[a][int(order[at, 0])].clip_id, split_b=b,
                     clip_b=splits[b][int(clip)].clip_id, distance=round(float(order[at, 2]), 4),
                     num_a=int(n))
                for clip, at, n in zip(of, first, num, strict=True)
            ]  # fmt: skip
    return tuple(leaks)


def near_duplicate_frames(
    a: Sequence[Fingerprint], b: Sequence[Fingerprint], max_bits: int
) -> Float64[np.ndarray, "n 3"]:
    """All pairs that have a frame each that differ in at most `max_bits`: index in `a`, index in
    `b`, and in how many."""
    first, second = _stacked(a), _stacked(b)
    found = [np.zeros((0, 3), np.int64)]
    for i in range(0, len(first[0]), _ROWS):
        for j in range(0, len(second[0]), _COLUMNS):
            bits = np.zeros((0, 0), np.uint8)
            for word in range(2):
                mine, other = first[0][i : i + _ROWS, word], second[0][j : j + _COLUMNS, word]
                differ = np.bitwise_count(mine[:, None] ^ other[None])
                bits = differ if word == 0 else np.add(bits, differ, out=bits)
            rows, columns = np.nonzero(bits <= max_bits)
            pairs = (first[1][i + rows], second[1][j + columns], bits[rows, columns])
            found.append(_nearest(np.stack([p.astype(np.int64) for p in pairs], axis=1)))
    return _nearest(np.concatenate(found)).astype(np.float64)


def near_duplicate_audio(
    a: Sequence[Fingerprint], b: Sequence[Fingerprint], max_share: float
) -> Float64[np.ndarray, "n 3"]:
    """All pairs of which at least `MIN_AUDIO_SECONDS` audio the same, wherever they are in the
    clips: index in `a`, index in `b`, share of the bits that differ.

    Pairs are those in which some hashes are equal, at one distance in time; all are then compared.
    """
    found = []
    for clip_a, clip_b, lags in _candidates(a, b):
        share, columns = audio_hash_distance(
            a[clip_a].audio, b[clip_b].audio, lags, round(MIN_AUDIO_SECONDS * COLUMNS_HZ)
        )
        if columns and share <= max_share:
            found.append((clip_a, clip_b, share))
    return np.array(found, np.float64).reshape(-1, 3)


def fingerprints(
    root: Path,
    entries: Sequence[Entry],
    journal: Path,
    *,
    workers: int = 0,
    seconds: float = SECONDS,
) -> list[Fingerprint]:
    """Those of all clips, in order; read from `journal` where an earlier run noted them there.

    A clip counts as the one noted when the hash of its file and its stretch are the same. Clips
    that could not be read are tried again. `workers` processes, each of which may work for
    `seconds` at one clip; 0: none but this one.
    """
    done = _read_journal(journal)
    todo = [e for e in entries if _key(e) not in done]
    if todo:
        journal.parent.mkdir(parents=True, exist_ok=True)
        make = partial(fingerprint_of, root)
        with journal.open("a", encoding="utf-8") as file:
            for at, found in for_each_clip(make, todo, workers=workers, seconds=seconds,
                                           what="fingerprints"):  # fmt: skip
                entry = todo[at]
                if isinstance(found, Failure):
                    found = empty_fingerprint(entry, failure_text(found))
                done[_key(entry)] = found
                if not found.problem:
                    # A line that a kill cut in two must not swallow this one.
                    file.write("\n" + strict_json.dumps(_line(entry, found)) + "\n")
                    file.flush()
    return [done[_key(e)] for e in entries]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--root", "--media", type=Path, required=True, help="media folder")
    parser.add_argument("--manifest", type=Path, help="folder with dataset.json (--root)")
    parser.add_argument("--groups", type=Path, metavar="FILE", help="CSV table: clip_id, and "
                        "one column per kind of group not to be in two splits")  # fmt: skip
    parser.add_argument("--group", action="append", default=[], metavar="NAME=REGEX",
                        help="group from clip_id: the first capture group of REGEX, "
                        r"as 'actor=^(\d{4})_'")  # fmt: skip
    parser.add_argument("--near", action="store_true", help="also search for near-duplicate clips; "
                         "reads every clip once")  # fmt: skip
    bits = f"largest number of differing bits, of {FRAME_BITS} ({MAX_FRAME_BITS})"
    parser.add_argument("--max-frame-bits", "--max-picture-bits", type=int, default=MAX_FRAME_BITS,
                        metavar="N", help=bits)  # fmt: skip
    parser.add_argument("--max-audio-share", "--max-sound-share", type=float,
                        default=MAX_AUDIO_SHARE, metavar="X",
                        help=f"largest share of differing bits ({MAX_AUDIO_SHARE})")  # fmt: skip
    where = f"cache file of fingerprints ({_JOURNAL} beside the manifest)"
    parser.add_argument("--cache", type=Path, metavar="FILE", help=where)
    parser.add_argument("--out", type=Path, metavar="FILE",
                        help="report file (leaks.json beside the manifest)")  # fmt: skip
    parser.add_argument("--workers", type=int, default=1, help="processes (1)")
    parser.add_argument("--enforce", action="store_true", help="exit with 1 if there is a leak")


_NEAR = "--near, which alone reads clips"
NEEDS = tuple(
    Needs(option=option, default=default, says=_NEAR, met=lambda args: args.near)
    for option, default in (
        ("--max-frame-bits", MAX_FRAME_BITS),
        ("--max-audio-share", MAX_AUDIO_SHARE),
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
            leaks += near_duplicates(of, max_frame_bits=args.max_frame_bits,
                                     max_audio_share=args.max_audio_share)  # fmt: skip
        report = _report(args, manifests, groups, leaks, unreadable)
        text = strict_json.dumps(report, indent=1)
        replace_text(path, text + "\n")
    except (ManifestError, OSError) as error:
        echo(f"error: {error}", error=True)
        return 2
    except KeyboardInterrupt:
        echo("stopped; the same command continues", error=True)
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
            raise ManifestError(f"{table}: has none of the clips")
        for name in names:
            groups[name] = {row["clip_id"]: row[name] for row in rows if row[name]}
    for text in patterns:
        name, _, pattern = text.partition("=")
        try:
            regex = re.compile(pattern)
        except re.error as error:
            raise ManifestError(f"--group {text}: {error}") from None
        if not name or regex.groups < 1:
            raise ManifestError(f"--group {text}: write NAME=REGEX with a capture group")
        matches = ((e.clip_id, regex.search(e.clip_id)) for e in entries)
        groups[name] = {clip_id: m[1] for clip_id, m in matches if m and m[1]}
        if not groups[name]:
            raise ManifestError(f"--group {text}: matches no clip_id, as {entries[0].clip_id!r}")
    return groups


def _check(args: argparse.Namespace) -> None:
    if args.workers < 1:
        raise ManifestError(f"--workers must be at least 1, got {args.workers}")
    if not 0 <= args.max_frame_bits < FRAME_BITS:
        raise ManifestError(f"--max-frame-bits must be from 0 to {FRAME_BITS - 1}, "
                            f"got {args.max_frame_bits}")  # fmt: skip
    if not 0 <= args.max_audio_share < 0.5:
        raise ManifestError(f"--max-audio-share must be in [0, 0.5), got {args.max_audio_share}")


def _by_value(entries: Sequence[Entry], of: Mapping[str, str]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for entry in entries:
        if value := of.get(entry.clip_id, ""):
            values.setdefault(value, []).append(entry.clip_id)
    return values


def _stacked(prints: Sequence[Fingerprint]) -> tuple[np.ndarray, Int64[np.ndarray, " n"]]:
    """All frame hashes, and the index of the clip of each."""
    words = np.concatenate([np.zeros((0, 2), np.uint64), *(f.frames for f in prints)])
    return words, np.repeat(np.arange(len(prints)), [len(f.frames) for f in prints])


def _nearest(pairs: Int64[np.ndarray, "n 3"]) -> Int64[np.ndarray, "m 3"]:
    """The smallest distance of each pair of clips."""
    order = pairs[np.lexsort((pairs[:, 2], pairs[:, 1], pairs[:, 0]))]
    other = np.append(True, (np.diff(order[:, :2], axis=0) != 0).any(1))[: len(order)]
    return order[other]


def _columns(prints: Sequence[Fingerprint]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Different hashes of audio, ascending; where the places of each begin, and where all end; the
    clip and column of each place."""
    hashes = np.concatenate([np.zeros(0, np.uint32), *(f.audio for f in prints)])
    lengths = [len(f.audio) for f in prints]
    columns = np.concatenate([np.zeros(0, np.int64), *(np.arange(n) for n in lengths)])
    places = np.stack([np.repeat(np.arange(len(prints)), lengths), columns], axis=1)
    heard = hashes != 0
    hashes, places = hashes[heard], places[heard]
    order = np.argsort(hashes, kind="stable")
    different, starts = np.unique(hashes[order], return_index=True)
    return different, np.append(starts, len(order)), places[order]


def _candidates(
    a: Sequence[Fingerprint], b: Sequence[Fingerprint]
) -> Iterator[tuple[int, int, Int64[np.ndarray, " k"]]]:
    """Pairs in which some hashes are equal, and by how many columns `a` is then ahead of `b`."""
    first, second = _columns(a), _columns(b)
    _, in_a, in_b = np.intersect1d(first[0], second[0], assume_unique=True, return_indices=True)
    num_a, num_b = np.diff(first[1])[in_a], np.diff(second[1])[in_b]
    telling = (num_a <= _COMMON) & (num_b <= _COMMON)
    in_a, in_b, num_a, num_b = (x[telling] for x in (in_a, in_b, num_a, num_b))
    keys, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for at in range(0, len(in_a), _HASHES):
        part = slice(at, at + _HASHES)
        mine, other = num_a[part], num_b[part]
        # Every place of a hash in one with every place of it in the other.
        nth = np.arange(int((mine * other).sum())) - np.repeat(
            np.cumsum(mine * other) - mine * other, mine * other
        )
        width = np.repeat(other, mine * other)
        row_a = first[2][np.repeat(first[1][in_a[part]], mine * other) + nth // width]
        row_b = second[2][np.repeat(second[1][in_b[part]], mine * other) + nth % width]
        lag = row_a[:, 1] - row_b[:, 1] + _LAGS // 2
        new, num = np.unique((row_a[:, 0] * len(b) + row_b[:, 0]) * _LAGS + lag, return_counts=True)
        keys, where = np.unique(np.concatenate([keys, new]), return_inverse=True)
        counts = np.bincount(where, np.concatenate([counts, num])).astype(np.int64)
    # A cut between two columns spreads the votes over two lags.
    after = np.append(counts[1:] * (np.diff(keys) == 1), 0)[: len(counts)]
    keys = keys[counts + after >= _MIN_VOTES]
    if not len(keys):
        return
    pairs, starts = np.unique(keys // _LAGS, return_index=True)
    for pair, lags in zip(pairs.tolist(), np.split(keys % _LAGS, starts[1:]), strict=True):
        near_duplicates = np.unique((lags - _LAGS // 2)[:, None] + np.array([-1, 0, 1, 2]))
        yield pair // len(b), pair % len(b), near_duplicates


_Key = tuple[str, str, float, float, str]


def _key(entry: Entry) -> _Key:
    heard = hearing(entry.audio)
    return entry.clip_id, entry.sha256, entry.start_seconds, entry.end_seconds, heard


def _line(entry: Entry, found: Fingerprint) -> dict[str, Any]:
    return {
        "version": VERSION,
        "clip_id": entry.clip_id,
        "sha256": entry.sha256,
        "start_seconds": entry.start_seconds,
        "end_seconds": entry.end_seconds,
        "audio": hearing(entry.audio),
        "pictures": base64.b64encode(found.frames.astype("<u8").tobytes()).decode(),
        "sound": base64.b64encode(found.audio.astype("<u4").tobytes()).decode(),
    }


def _read_journal(path: Path) -> dict[_Key, Fingerprint]:
    done: dict[_Key, Fingerprint] = {}
    if not path.exists():
        return done
    with path.open() as file:
        for text in file:
            try:
                line = json.loads(text)
                if line["version"] != VERSION:
                    continue
                frames = np.frombuffer(base64.b64decode(line["pictures"]), "<u8")
                audio = np.frombuffer(base64.b64decode(line["sound"]), "<u4")
                key = (line["clip_id"], line["sha256"], line["start_seconds"], line["end_seconds"],
                       line.get("audio", ""))  # fmt: skip
                done[key] = Fingerprint(
                    clip_id=key[0],
                    frames=frames.astype(np.uint64).reshape(-1, 2),
                    audio=audio.astype(np.uint32),
                )
            except (ValueError, TypeError, KeyError):
                continue  # cut by a kill: that clip is read once more
    return done


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
        "limits": {"picture_bits": args.max_frame_bits, "of": FRAME_BITS,
                   "sound_share": args.max_audio_share, "sound_seconds": MIN_AUDIO_SECONDS,
                   "pictures": MAX_HASHED_FRAMES} if args.near else None,
        "summary": rows,
        "unreadable": [{"clip_id": f.clip_id, "problem": f.problem} for f in unreadable],
        "leaks": [asdict(leak) for leak in leaks],
    }  # fmt: skip


def _table(summary: Sequence[Mapping[str, Any]], manifests: Mapping[str, Manifest]) -> list[str]:
    lines = [f"{'shared':<10}{'by splits':<16}{'number':>8}{'clips of the second':>24}"]
    for row in summary:
        clips = row["clips_b"]
        told = "" if clips is None else f"{clips} of {len(manifests[row['split_b']].entries)}"
        both = f"{row['split_a']}, {row['split_b']}"
        lines.append(f"{_in_text(row['kind']):<10}{both:<16}{row['leaks']:>8}{told:>24}")
    return lines


def _in_text(kind: Kind) -> str:
    """What the console calls a kind of leak."""
    match kind:
        case "pictures":
            return "frames"
        case "sound":
            return "audio"
        case _:
            return kind


def _told(leak: Leak) -> str:
    what = f"{leak.value} " if leak.value else ""
    far = f", distance {leak.distance:g}" if leak.kind in ("pictures", "sound") else ""
    return (f"{_in_text(leak.kind)}: {what}{leak.split_a} {leak.clip_a} ({leak.num_a}), "
            f"{leak.split_b} {leak.clip_b} ({leak.num_b}){far}")  # fmt: skip
