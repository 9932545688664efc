"""Does the near-duplicate search find what a split by clip leaks?

`python benchmarks/leaks.py --root ../shared/data/ucf101_av8 --cache FILE` splits the 1,049 clips at
random, by clip, which is wrong on purpose, and looks for clips alike in frames or audio in both,
without being told which group of UCF101 (people and place) a clip is of. The groups then say what
was found: precision and recall of pairs, and of the test clips that have any of their group in
train, over thresholds. It also measures how far apart the same clips are in two encodings
(--originals), and how fast all of it is, and writes benchmarks/results/leaks.json.
"""

import argparse
import csv
import hashlib
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from shared import machine, provenance, result_files
from shared.paths import RESULTS

from avmix.media.fingerprint import FRAME_BITS, Fingerprint, fingerprint_of, frame_hash_distance
from avmix.media.fingerprint import audio_hash_distance as distance_of_audio
from avmix.media.judgement import entry_of
from avmix.tools.fingerprint_journal import fingerprints
from avmix.tools.leak_search import (
    MAX_AUDIO_SHARE,
    MAX_FRAME_BITS,
    near_duplicate_audio,
    near_duplicate_frames,
)
from avmix.types import AudioInfo, Entry, VideoInfo

TEST_SHARE = 0.3
CURVE_BITS = (4, 8, 12, 16, 20, 22, 24, 26, 28, 30, 32, 34, 36, 40)
CURVE_SHARES = (0.1, 0.2, 0.3, 0.35, 0.4)


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="folder of clips.csv")
    parser.add_argument("--originals", type=Path, help="folder of other encodings")
    parser.add_argument("--cache", type=Path, required=True, help="file to keep fingerprints in")
    parser.add_argument("--seed", type=int, default=0, help="of the split (0)")
    provenance.add_option(parser)
    args = parser.parse_args()
    origin, started = provenance.measured(args, "leaks"), machine.facts(["av", "numpy"])
    rows = list(csv.DictReader((args.root / "clips.csv").open(newline="")))
    entries = [_entry(args.root, row) for row in rows]
    prints = fingerprints(args.root, entries, args.cache)
    began = time.process_time()
    for entry in entries[:: len(entries) // 20]:
        fingerprint_of(args.root, entry)
    seconds = (time.process_time() - began) / len(entries[:: len(entries) // 20])
    groups = np.array([f"{row['class']}/{row['group']}" for row in rows])
    in_test = np.random.default_rng(args.seed).random(len(rows)) < TEST_SHARE
    result: dict[str, Any] = {
        "kind": "leaks",
        "command": "python benchmarks/leaks.py --root DIR --cache FILE"
        + (" --originals DIR" if args.originals else "")
        + f" --seed {args.seed}",
        "measured": origin,
        "data": {
            "clips": len(rows),
            "groups": len(set(groups.tolist())),
            "train": int((~in_test).sum()),
            "test": int(in_test.sum()),
            "seed": args.seed,
            "without_pictures": sum(not len(f.frames) for f in prints),
            "without_sound": sum(not f.audio.any() for f in prints),
            "unreadable": sum(bool(f.problem) for f in prints),
        },
        **_by_clip(prints, groups, in_test),
        "official_splits": {
            name: _official(prints, groups, np.array([row[name] == "test" for row in rows]))
            for name in ("split1", "split2", "split3")
        },
        "encodings": _encodings(args.originals, entries, prints) if args.originals else None,
        "fingerprint_cpu_seconds_per_clip": round(seconds, 4),
        "scaling": _scaling(),
        "environment": started,
        "load_average_at_the_end": machine.load_average(),
    }
    result_files.write(RESULTS / "leaks.json", result)
    print(result_files.text_of({k: v for k, v in result.items() if "curve" not in k}))


def _entry(root: Path, row: dict[str, str]) -> Entry:
    """Of a clip as the table tells it: nothing is probed, as nothing is trained on."""
    path = root / row["path"]
    seconds, fps = float(row["duration_seconds"]), float(Fraction(row["fps"]))
    video = VideoInfo(fps=fps, num_frames=round(seconds * fps), width=160, height=120,
                      start_seconds=0.0, duration_seconds=seconds, codec="h264", rotation=0,
                      vfr=False)  # fmt: skip
    audio = AudioInfo(rate_hz=44_100, channels=1, start_seconds=0.0, duration_seconds=seconds,
                      codec="aac", rms_dbfs=0.0, silent=False)  # fmt: skip
    data = path.read_bytes()
    return Entry(
        clip_id=path.stem, path=row["path"], start_seconds=0.0, end_seconds=seconds,
        labels=(row["class"],), source_id=row["path"], video=video,
        audio=audio if row["has_audio"] == "1" else None, bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )  # fmt: skip


def _by_clip(
    prints: Sequence[Fingerprint], groups: np.ndarray, in_test: np.ndarray
) -> dict[str, Any]:
    train, test = np.flatnonzero(~in_test), np.flatnonzero(in_test)
    a, b = [prints[i] for i in train], [prints[i] for i in test]
    same = groups[train][:, None] == groups[test][None]
    frames = near_duplicate_frames(a, b, max(CURVE_BITS))
    audio = near_duplicate_audio(a, b, max(CURVE_SHARES))
    both = np.concatenate([
        frames[frames[:, 2] <= MAX_FRAME_BITS], audio[audio[:, 2] <= MAX_AUDIO_SHARE]
    ])  # fmt: skip
    false = [
        {"train": a[int(i)].clip_id, "test": b[int(j)].clip_id, "distance": d}
        for i, j, d in frames[np.argsort(frames[:, 2], kind="stable")]
        if not same[int(i), int(j)] and d <= MAX_FRAME_BITS
    ]
    return {
        "pairs_of_one_group": int(same.sum()),
        "pairs": same.size,
        "test_clips_with_their_group_in_train": int(same.any(0).sum()),
        "thresholds": {"picture_bits": MAX_FRAME_BITS, "sound_share": MAX_AUDIO_SHARE},
        "pictures": _score(frames[frames[:, 2] <= MAX_FRAME_BITS], same),
        "sound": _score(audio[audio[:, 2] <= MAX_AUDIO_SHARE], same),
        "either": _score(both, same),
        "of_other_groups": false[:40],
        "picture_curve": [
            {"bits": n, **_score(frames[frames[:, 2] <= n], same)} for n in CURVE_BITS
        ],
        "sound_curve": [
            {"share": x, **_score(audio[audio[:, 2] <= x], same)} for x in CURVE_SHARES
        ],
    }


def _score(pairs: np.ndarray, same: np.ndarray) -> dict[str, Any]:
    """Of the pairs found: how many are of one group, and how much of what is there that is."""
    found = np.zeros(same.shape, bool)
    found[pairs[:, 0].astype(int), pairs[:, 1].astype(int)] = True
    right = int((found & same).sum())
    leaking = same.any(0)
    return {
        "found": int(found.sum()),
        "precision": round(right / max(int(found.sum()), 1), 4),
        "recall": round(right / int(same.sum()), 4),
        "test_clips_found": round(float((found & same).any(0)[leaking].mean()), 4),
    }


def _official(
    prints: Sequence[Fingerprint], groups: np.ndarray, in_test: np.ndarray
) -> dict[str, Any]:
    """What looks alike although the split is by group."""
    train, test = np.flatnonzero(~in_test), np.flatnonzero(in_test)
    found = near_duplicate_frames(
        [prints[i] for i in train], [prints[i] for i in test], MAX_FRAME_BITS
    )
    pairs = sorted({(str(groups[train[int(i)]]), str(groups[test[int(j)]])) for i, j, _ in found})
    return {"pairs": len(found), "test_clips": len(set(found[:, 1])), "groups": pairs}


def _encodings(
    folder: Path, entries: Sequence[Entry], prints: Sequence[Fingerprint]
) -> dict[str, Any]:
    """Distances of the same clips in two encodings, and of different ones."""
    by_name = {e.clip_id: f for e, f in zip(entries, prints, strict=True)}
    others = {}
    for path in sorted(folder.glob("*.avi")):
        entry = entry_of(path, folder, clip_id=path.stem, labels=("x",), source_id=path.stem)
        others[path.stem] = fingerprint_of(folder, entry)
    lags = np.arange(-3, 4)
    own: list[tuple[int, float]] = []
    foreign: list[tuple[int, float]] = []
    for name, print_ in others.items():
        for other in others:
            mine = by_name[other]
            bits = frame_hash_distance(print_.frames, mine.frames)
            share, columns = distance_of_audio(print_.audio, mine.audio, lags, 48)
            (own if name == other else foreign).append((bits, share if columns else np.nan))
    return {
        "clips": len(others),
        "bits_of": FRAME_BITS,
        "same_bits": [int(x[0]) for x in own],
        "other_bits_least": sorted(int(x[0]) for x in foreign)[:20],
        "same_sound_share_most": round(float(np.nanmax([x[1] for x in own])), 4),
        "other_sound_share_least": round(float(np.nanmin([x[1] for x in foreign])), 4),
    }


def _scaling() -> dict[str, float]:
    """Speed of both searches, per second of one core, on made hashes of 2,000 clips of 10 s."""
    draw = np.random.default_rng(0)

    def made(num: int) -> list[Fingerprint]:
        return [
            Fingerprint(
                clip_id=str(i),
                frames=draw.integers(0, 2**63, (10, 2), dtype=np.uint64),
                audio=draw.integers(1, 2**32, 308, dtype=np.uint32),
            )
            for i in range(num)
        ]

    a, b = made(2000), made(2000)
    began = time.process_time()
    near_duplicate_frames(a, b, MAX_FRAME_BITS)
    middle = time.process_time()
    near_duplicate_audio(a, b, MAX_AUDIO_SHARE)
    end = time.process_time()
    return {
        "picture_pairs_per_second": round(20_000**2 / (middle - began)),
        "sound_hashes_per_second": round(2 * 2000 * 308 / (end - middle)),
    }


if __name__ == "__main__":
    main()
