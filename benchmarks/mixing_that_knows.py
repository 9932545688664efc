"""Does mixing that knows which modality is ahead, or which clips are alike, beat one lambda? And
what should stand in place of a missing feature? UCF101's eight classes with
audio, three official splits.

    python benchmarks/mixing_that_knows.py --root DIR

On the features of few_shot_features.py (frozen EfficientNet-Lite0): 3 and 10 clips of each class,
drawn by source five times. Each arm is trained on the same clips, for the same epochs, with the
same seeds; the last epoch is evaluated. Nothing is chosen: all arms have the options of the
configuration, and those that mix have alpha 0.2. All runs are in this process, one after the
other. The result is written again after each; what is in it is not done again by the same code.
"""

import argparse
import os
from typing import Any

from few_shot_features import BATCH, EPOCHS, earlier_runs, words_of
from shared import provenance, result_files
from shared.paths import RESULTS, ROOT
from training.feature_run import run, scores_of
from training.lite0_features import CONFIG, features_of

RESULT = RESULTS / "mixing_that_knows.json"
MIXES: dict[str, dict[str, str]] = {
    "no mixing": {"mix.method": "none"},
    "mixup@feature": {"mix.method": "mixup@feature"},
    "by_share@feature": {"mix.method": "by_share@feature"},
    "mixup@feature, 2 partners": {"mix.method": "mixup@feature", "mix.partners": "2"},
    "mixup@feature, nearest": {"mix.method": "mixup@feature", "mix.pairing": "nearest"},
}
"""How clips are mixed."""
MISSING: dict[str, dict[str, str]] = {
    f"dropout, {name}": {"mix.method": "dropout", "model.missing": name}
    for name in ("mask", "mean", "learned", "translate")
}
"""What stands in place of a missing feature; a tenth of the clips lose video, a tenth audio."""
ARMS = {**MIXES, **MISSING}
SHOTS, SEEDS, SPLITS = (3, 10), range(5), (1, 2, 3)


def main() -> None:
    """Run all that is not in the result yet, draw by draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", required=True, help="folder of the clips, with clips.csv")
    provenance.add_option(parser)
    args = parser.parse_args()
    origin = provenance.measured(args, "mixing_that_knows")
    os.chdir(ROOT)
    folders = features_of(args.root)
    result: dict[str, Any] = {
        "kind": "mixing_that_knows", "command": "python benchmarks/mixing_that_knows.py --root DIR",
        "config": CONFIG, "options": ARMS,
        "epochs": {str(s): EPOCHS[s] for s in SHOTS},
        "batch_size": {str(s): BATCH[s] for s in SHOTS}, "measured": origin,
        "protocol": "ucf101_av8, official splits 1 to 3", "trained": [],
    }  # fmt: skip
    result["trained"] = earlier_runs(RESULT, result)
    there = {(r["split"], r["shots"], r["arm"], r["seed"]) for r in result["trained"]}
    todo = [(number, shots, arm, seed) for seed in SEEDS for shots in SHOTS for number in SPLITS
            for arm in ARMS if (number, shots, arm, seed) not in there]  # fmt: skip
    for number, shots, arm, seed in todo:
        scores = scores_of(
            run({**words_of(folders[number], shots, seed), **ARMS[arm]}, test=True).kept
        )
        result["trained"].append({"split": number, "shots": shots, "arm": arm, "seed": seed,
                                  "scores": scores})  # fmt: skip
        result_files.write(RESULT, result)
        said = ", ".join(f"{row} {100 * s['top1']:.1f}" for row, s in scores.items())
        print(f"{shots} clips, split {number}, seed {seed}, {arm}: {said}", flush=True)


if __name__ == "__main__":
    main()
