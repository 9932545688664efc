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
import contextlib
import io
import os
import shutil
from pathlib import Path
from typing import Any

from few_shot_features import BATCH, CONFIG, EPOCHS, earlier_runs, features_of
from shared import provenance, result_files
from shared.paths import RESULTS, ROOT

from avmix.commands.evaluate import evaluate
from avmix.commands.train import train
from avmix.config import EvalConfig, TrainConfig, load_config
from avmix.evaluation.metrics import Scores

RESULT = RESULTS / "mixing_that_knows.json"
MIXES: dict[str, tuple[str, ...]] = {
    "no mixing": ("--mix.method", "none"),
    "mixup@feature": ("--mix.method", "mixup@feature"),
    "by_share@feature": ("--mix.method", "by_share@feature"),
    "mixup@feature, 2 partners": ("--mix.method", "mixup@feature", "--mix.partners", "2"),
    "mixup@feature, nearest": ("--mix.method", "mixup@feature", "--mix.pairing", "nearest"),
}
"""How clips are mixed."""
MISSING: dict[str, tuple[str, ...]] = {
    f"dropout, {name}": ("--mix.method", "dropout", "--model.missing", name)
    for name in ("mask", "mean", "learned", "translate")
}
"""What stands in place of a missing feature; a tenth of the clips lose video, a tenth audio."""
ARMS = {**MIXES, **MISSING}
SHOTS, SEEDS, SPLITS = (3, 10), range(5), (1, 2, 3)
ROWS = ("fused", "video head", "audio head", "audio missing", "video missing")


def run(folder: str, shots: int, arm: str, seed: int) -> dict[str, dict[str, float]]:
    """Top-1 and negative log-likelihood of each row of the table on the test split."""
    out = Path("runs/few_shot/knows")
    shutil.rmtree(out, ignore_errors=True)
    config = load_config(TrainConfig, [
        "--config", CONFIG, "--data.features", folder, "--data.shots", str(shots),
        "--data.shots_seed", str(seed), "--data.shots_by", "source",
        "--optim.epochs", str(EPOCHS[shots]), "--optim.batch_size", str(BATCH[shots]),
        "--run.seed", str(seed), "--run.out", str(out), "--run.threads", "1", *ARMS[arm],
    ])  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        train(config)
        scores = evaluate(EvalConfig(checkpoint=str(out), threads=1, resamples=0))
    found: dict[str, dict[str, float]] = {}
    for row in ROWS:
        score = scores[row]
        assert isinstance(score, Scores)
        found[row] = {"top1": score.top1, "nll": score.nll}
    return found


def main() -> None:
    """Run all that is not in the result yet, draw by draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", required=True, help="folder of the clips, with clips.csv")
    provenance.add_option(parser)
    args = parser.parse_args()
    origin = provenance.measured(args, "mixing_that_knows")
    os.chdir(ROOT)
    folders = {number: features_of(args.root, number) for number in SPLITS}
    result: dict[str, Any] = {
        "kind": "mixing_that_knows", "command": "python benchmarks/mixing_that_knows.py --root DIR",
        "config": CONFIG, "options": {arm: list(words) for arm, words in ARMS.items()},
        "epochs": {str(s): EPOCHS[s] for s in SHOTS},
        "batch_size": {str(s): BATCH[s] for s in SHOTS}, "measured": origin,
        "protocol": "ucf101_av8, official splits 1 to 3", "trained": [],
    }  # fmt: skip
    result["trained"] = earlier_runs(RESULT, result)
    there = {(r["split"], r["shots"], r["arm"], r["seed"]) for r in result["trained"]}
    todo = [(number, shots, arm, seed) for seed in SEEDS for shots in SHOTS for number in SPLITS
            for arm in ARMS if (number, shots, arm, seed) not in there]  # fmt: skip
    for number, shots, arm, seed in todo:
        scores = run(folders[number], shots, arm, seed)
        result["trained"].append({"split": number, "shots": shots, "arm": arm, "seed": seed,
                                  "scores": scores})  # fmt: skip
        result_files.write(RESULT, result)
        said = ", ".join(f"{row} {100 * s['top1']:.1f}" for row, s in scores.items())
        print(f"{shots} clips, split {number}, seed {seed}, {arm}: {said}", flush=True)


if __name__ == "__main__":
    main()
