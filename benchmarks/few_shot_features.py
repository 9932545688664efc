"""Does mixing help where a network is trained on kept features of few clips? UCF101's eight classes
with audio, three official splits.

    python benchmarks/few_shot_features.py --root DIR

Each arm is trained on the same clips, for the same epochs, with the same seeds; the last epoch is
evaluated. Few clips are drawn by source, five times; all clips are trained on with three seeds.
Nothing is chosen on a test split: all arms have the options of the configuration. The features are
computed once, by `avmix features`. The result is written again after each run; what is in it is not
done again by the same code.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from shared import provenance, result_files
from shared.paths import RESULTS, ROOT
from training.feature_run import run, scores_of
from training.lite0_features import CONFIG, features_of

RESULT = RESULTS / "few_shot_features.json"
ARMS: dict[str, dict[str, str]] = {
    "no mixing": {"mix.method": "none"},
    "mixup@feature": {"mix.method": "mixup@feature"},
    "dropout": {"mix.method": "dropout"},
    "no mixing, product": {"mix.method": "none", "model.fusion": "product"},
}
"""How clips are mixed, and the fusion where it is not concatenation."""
REGIMES = {0: range(3), 3: range(5), 10: range(5)}
"""Clips of each class (0: all), and the seeds: of the draw of clips and of the training."""
EPOCHS, BATCH = {0: 20, 3: 50, 10: 50}, {0: 16, 3: 8, 10: 16}


def words_of(folder: Path, shots: int, seed: int) -> dict[str, Any]:
    """Options that all arms have."""
    few = {"data.shots": shots, "data.shots_seed": seed, "data.shots_by": "source"}
    return {"config": CONFIG, "data.features": folder, **(few if shots else {}),
            "optim.epochs": EPOCHS[shots], "optim.batch_size": BATCH[shots],
            "run.seed": seed}  # fmt: skip


def earlier_runs(path: Path, result: dict[str, Any]) -> list[dict[str, Any]]:
    """Those that are in the result at `path` already, of the same code and options."""
    if not path.exists():
        return []
    old = json.loads(path.read_text())
    same = old["measured"]["sources"] == result["measured"]["sources"]
    same = same and all(old[key] == result[key] for key in ("options", "epochs", "batch_size"))
    return list(old["trained"]) if same else []


def main() -> None:
    """Run all that is not in the result yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", required=True, help="folder of the clips, with clips.csv")
    provenance.add_option(parser)
    args = parser.parse_args()
    origin = provenance.measured(args, "few_shot_features")
    os.chdir(ROOT)
    folders = features_of(args.root)
    result: dict[str, Any] = {
        "kind": "few_shot_features", "command": "python benchmarks/few_shot_features.py --root DIR",
        "config": CONFIG, "options": ARMS,
        "epochs": {str(s): n for s, n in EPOCHS.items()},
        "batch_size": {str(s): n for s, n in BATCH.items()}, "measured": origin,
        "protocol": "ucf101_av8, official splits 1 to 3", "trained": [],
    }  # fmt: skip
    done = result["trained"] = earlier_runs(RESULT, result)
    there = {(r["split"], r["shots"], r["arm"], r["seed"]) for r in done}
    for shots, seeds in REGIMES.items():
        for seed in seeds:
            for number, folder in folders.items():
                for arm in ARMS:
                    if (number, shots, arm, seed) in there:
                        continue
                    scores = scores_of(
                        run({**words_of(folder, shots, seed), **ARMS[arm]}, test=True).kept
                    )
                    result["trained"].append({"split": number, "shots": shots, "arm": arm,
                                           "seed": seed, "scores": scores})  # fmt: skip
                    result_files.write(RESULT, result)
                    said = ", ".join(f"{row} {100 * s['top1']:.1f}" for row, s in scores.items())
                    print(f"{shots or 'all'} clips, split {number}, {arm}, seed {seed}: {said}",
                          flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
