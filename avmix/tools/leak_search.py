"""Search for leaks between splits: shared sources, files and groups, and near duplicates."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

from avmix.media.fingerprint import COLUMNS_HZ, Fingerprint, audio_hash_distance
from avmix.types import Entry

Kind = Literal["source", "file", "group", "pictures", "sound"]

MAX_FRAME_BITS = 24
"""Of 127: frames that differ in fewer or as many look the same. Transcoded to a quarter of the
size, real clips differ in at most 14 (40 of UCF101); unrelated ones rarely in fewer than 26
(benchmarks/results/leaks.json)."""
MAX_AUDIO_SHARE = 0.3
"""Of the bits: the same, transcoded real clips differ in up to 0.16, unrelated ones in 0.43 and
more, of 40; Haitsma and Kalker use 0.35."""
MIN_AUDIO_SECONDS = 1.5
"""Heard in both and compared, at least."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """Something that is in two splits; which clip of each shows it."""

    kind: Kind
    split_a: str
    clip_a: str
    """The first of its split that has it; of clips that look or sound alike, the nearest."""
    split_b: str
    clip_b: str
    distance: float
    """0 where what is given is the same; bits of 127 for frames, share of bits for audio."""
    value: str = ""
    """What both are of: a source, a hash, `actor=1001`; "" for what looks or sounds alike."""
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
    max_picture_bits: int = MAX_FRAME_BITS,
    max_sound_share: float = MAX_AUDIO_SHARE,
) -> tuple[Leak, ...]:
    """Clips of two splits that look or sound alike: for each clip of the later split the nearest.

    One row for frames and one for audio, where both say so; `num_a` counts how many are near.
    """
    leaks: list[Leak] = []
    for a, b in combinations(splits, 2):
        found: list[tuple[Kind, np.ndarray]] = [
            ("pictures", near_duplicate_frames(splits[a], splits[b], max_picture_bits)),
            ("sound", near_duplicate_audio(splits[a], splits[b], max_sound_share)),
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
