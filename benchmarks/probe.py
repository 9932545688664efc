"""Linear probes on frozen features of UCF101's eight classes with audio, three official splits.

    python benchmarks/probe.py --root DIR

Features are computed once, by `avmix features`, of three frames: those that are there are used
again, where they are of the same encoders, windows and files.
"""

import argparse
import math
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from shared import provenance
from shared.paths import RESULTS, ROOT
from training.lite0_features import AUDIO, ENCODERS, LONG, WINDOWS, features_of

from avmix.data.kept_features import KeptFeatures, open_features
from avmix.features.probing import probe, summarise
from avmix.features.regression import C_GRID
from avmix.system import strict_json
from avmix.system.atomic_files import replace_text

RESULT = RESULTS / "probe.json"
FIXED_C = (0.01,)
ARMS: tuple[dict[str, Any], ...] = (
    {"shots": 0, "by": "source", "draws": 1, "grid": FIXED_C},
    {"shots": 0, "by": "source", "draws": 1, "grid": C_GRID},
    {"shots": 3, "by": "source", "draws": 5, "grid": C_GRID},
    {"shots": 10, "by": "source", "draws": 5, "grid": C_GRID},
    {"shots": 8, "by": "clip", "draws": 10, "grid": (1.0,)},
)
"""All clips, with the C of earlier measurements and with one that is chosen; few; and the protocol
of MVEB, with the long window alone."""


def half_difference(splits: Sequence[KeptFeatures]) -> dict[str, float]:
    """Relative root mean square of what half precision would change."""
    found = {}
    for name in splits[0].features:
        exact = np.concatenate([kept.features[name] for kept in splits]).astype(np.float64)
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
    arms: list[dict[str, Any]] = []
    folders = {window: features_of(args.root, window=window) for window in WINDOWS}
    for window, of_window in folders.items():
        for number, folder in of_window.items():
            train, test = (open_features(folder, split) for split in ("train", "test"))
            for arm in ARMS if window == LONG else ARMS[:-1]:
                arms.append({"window": window, "split": number, **measure(train, test, arm)})
    kept = [open_features(folders[LONG][1], split) for split in ("train", "test")]
    size = sum(4 * math.prod(value.shape[1:]) for value in kept[0].features.values())
    result = {
        "kind": "probe",
        "command": "python benchmarks/probe.py --root DIR",
        "config": ENCODERS,
        "options": ["clip.num_frames=3", *AUDIO],
        "measured": origin,
        "protocol": "ucf101_av8, official splits 1 to 3",
        "windows": {window: list(options) for window, options in WINDOWS.items()},
        "features": kept[0].header.identity,
        "num_clips": sum(len(part.manifest.entries) for part in kept),
        "bytes_per_clip": size,
        "half_difference": half_difference(kept),
        "arms": arms,
    }
    replace_text(RESULT, strict_json.dumps(result, indent=1) + "\n")
    print(f"wrote {RESULT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
