"""Linear probes on frozen features of UCF101's eight classes with audio, three official splits.

    python benchmarks/probe.py --root DIR

Features are computed once, by `avmix features`: what is in runs/probe is used again, where it is of
the same encoders, windows and files. All three splits are of the same clips.
"""

import argparse
import math
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from shared import provenance
from shared.paths import RESULTS, ROOT

from avmix.config import TrainConfig, load_config
from avmix.data.kept_features import KeptFeatures, open_features
from avmix.data.manifest import read_manifest
from avmix.features.probing import probe, summarise
from avmix.features.regression import C_GRID
from avmix.prepare.csv_table import prepare_table
from avmix.system import strict_json
from avmix.system.atomic_files import replace_text

RESULT = RESULTS / "probe.json"
CONFIG = "configs/ucf101_av8_lite0.yaml"
OPTIONS = ("clip.num_frames=3", "model.audio.encoder=timm:tf_efficientnet_lite0",
           "model.audio.weights=lite0")  # fmt: skip
"""Three frames; and the same network of ImageNet on log-mels, one channel."""
WINDOWS = {
    "6 s, 224 pixels": ("runs/probe/long", ("clip.duration_seconds=6", "clip.short_side=224",
                                            "clip.crop=224")),
    "2 s, 144 pixels": ("runs/probe/short", ("clip.duration_seconds=2", "clip.short_side=160",
                                             "clip.crop=144")),
}  # fmt: skip
"""Most of a clip, at the size of ImageNet; and a shorter and smaller one, for which the last
of `ARMS` is not measured."""
FIXED_C = (0.01,)
ARMS: tuple[dict[str, Any], ...] = (
    {"shots": 0, "by": "source", "draws": 1, "grid": FIXED_C},
    {"shots": 0, "by": "source", "draws": 1, "grid": C_GRID},
    {"shots": 3, "by": "source", "draws": 5, "grid": C_GRID},
    {"shots": 10, "by": "source", "draws": 5, "grid": C_GRID},
    {"shots": 8, "by": "clip", "draws": 10, "grid": (1.0,)},
)
"""All clips, with the C of earlier measurements and with one that is chosen; few; and the protocol
of MVEB."""


def config_of(root: str, number: int) -> TrainConfig:
    """Of an official split."""
    return load_config(TrainConfig, [
        "--config", CONFIG, "--data.root", root, "--data.table_split", f"split{number}",
        "--data.manifest", f"runs/manifests/ucf101_av8_split{number}",
    ])  # fmt: skip


def keep(root: str, window: str) -> None:
    """Run `avmix features` where the features are not there yet."""
    folder, options = WINDOWS[window]
    command = [sys.executable, "-m", "avmix", "features", "--config", CONFIG, "--out", folder,
               f"data.root={root}", "data.manifest=runs/manifests/ucf101_av8_split1",
               *OPTIONS, *options]  # fmt: skip
    subprocess.run(command, check=True)


def all_clips(window: str) -> dict[str, tuple[KeptFeatures, int]]:
    """Features and row of each clip, by its id."""
    found = [open_features(Path(WINDOWS[window][0]), split) for split in ("train", "test")]
    return {
        entry.clip_id: (kept, row)
        for kept in found
        for row, entry in enumerate(kept.manifest.entries)
    }


def of_split(number: int, split: str, clips: dict[str, tuple[KeptFeatures, int]]) -> KeptFeatures:
    """The features of the clips of an official split."""
    manifest = read_manifest(Path(f"runs/manifests/ucf101_av8_split{number}"), split)
    there = tuple(entry for entry in manifest.entries if entry.clip_id in clips)
    rows = [clips[entry.clip_id] for entry in there]
    kept = rows[0][0]
    return replace(
        kept,
        manifest=replace(manifest, entries=there),
        features={n: np.stack([k.features[n][row] for k, row in rows]) for n in kept.features},
        has_audio=np.stack([k.has_audio[row] for k, row in rows]),
    )


def half_difference(clips: dict[str, tuple[KeptFeatures, int]]) -> dict[str, float]:
    """Relative root mean square of what half precision would change."""
    found = {}
    for name in next(iter(clips.values()))[0].features:
        exact = np.stack([k.features[name][row] for k, row in clips.values()]).astype(np.float64)
        error = np.square(exact - exact.astype(np.float16)).sum()
        found[name] = float((error / np.square(exact).sum()) ** 0.5)
    return found


def measure(train: KeptFeatures, test: KeptFeatures, arm: dict[str, Any]) -> dict[str, Any]:
    """All draws of one of `ARMS`."""
    draws = [
        probe(train, test, shots=arm["shots"], seed=seed, by=arm["by"], grid=arm["grid"])
        for seed in range(arm["draws"])
    ]
    heads = [asdict(head) for head in summarise(draws)]
    print(train.manifest.protocol, arm, *(f"{h['head']} {100 * h['top1']:.1f}" for h in heads),
          flush=True)  # fmt: skip
    top1 = [{r.head: r.top1 for r in draw} for draw in draws]
    fusion = [{r.head: r.fusion for r in draw}["fused"] for draw in draws]
    return {**arm, "grid": list(arm["grid"]), "heads": heads, "top1": top1, "fusion": fusion}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", required=True, help="folder of the clips, with clips.csv")
    provenance.add_option(parser)
    args = parser.parse_args()
    origin = provenance.measured(args, "probe")
    os.chdir(ROOT)
    for number in (1, 2, 3):
        prepare_table(config_of(args.root, number).data)
    arms: list[dict[str, Any]] = []
    for window in WINDOWS:
        keep(args.root, window)
        clips = all_clips(window)
        for number in (1, 2, 3):
            train, test = of_split(number, "train", clips), of_split(number, "test", clips)
            first = window == next(iter(WINDOWS))
            for arm in ARMS if first else ARMS[:-1]:
                arms.append({"window": window, "split": number, **measure(train, test, arm)})
    clips = all_clips(next(iter(WINDOWS)))
    kept = next(iter(clips.values()))[0]
    size = sum(4 * math.prod(value.shape[1:]) for value in kept.features.values())
    result = {
        "kind": "probe",
        "command": "python benchmarks/probe.py --root DIR",
        "config": CONFIG,
        "options": list(OPTIONS),
        "measured": origin,
        "protocol": "ucf101_av8, official splits 1 to 3",
        "windows": {window: list(options) for window, (_, options) in WINDOWS.items()},
        "features": kept.header.identity,
        "num_clips": len(clips),
        "bytes_per_clip": size,
        "half_difference": half_difference(clips),
        "arms": arms,
    }
    replace_text(RESULT, strict_json.dumps(result, indent=1) + "\n")
    print(f"wrote {RESULT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
