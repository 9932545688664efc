"""Does mixing frames and spectrograms before frozen encoders help where clips are few? Beside
mixing their features, and no mixing, on the same clips: split 1 of UCF101's eight classes with
audio, three clips of each class, five draws by source.

    python benchmarks/few_shot_input.py --root DIR

All arms have the options of benchmarks/few_shot_features.py: the same steps, seeds and initial
weights, and the windows of which features are kept. The last epoch is evaluated, on kept features
of the test split. The result is written again after each run; what is in it is not done again by
the same code.
"""

import argparse
import contextlib
import io
import os
import shutil
import time
from pathlib import Path
from typing import Any

from few_shot_features import (
    BATCH,
    CONFIG,
    ENCODERS,
    EPOCHS,
    OF_FEATURES,
    ROWS,
    earlier_runs,
    features_of,
)
from shared import provenance, result_files
from shared.paths import RESULTS, ROOT
from training.frozen_windows import train_on_windows

from avmix.commands.evaluate import evaluate
from avmix.commands.train import train
from avmix.config import EvalConfig, MixConfig, TrainConfig, load_config
from avmix.evaluation.metrics import Scores
from avmix.features.frozen_encoders import FrozenEncoders, of_config
from avmix.models.input_options import with_expected_input

RESULT = RESULTS / "few_shot_input.json"
SPLIT, SHOTS, SEEDS = 1, 3, range(5)
ON_FEATURES = ("none", "mixup@feature", "dropout")
ON_WINDOWS = ("mixup",)
ARMS = {"none": "no mixing", "mixup": "mixup of the input"}
"""What arms are called, but for their method."""


def run(folder: str, method: str, seed: int, root: str, encoders: FrozenEncoders) -> dict[str, Any]:
    """Scores on the test split, and the seconds of training."""
    out = Path("runs/few_shot/run_input")
    shutil.rmtree(out, ignore_errors=True)
    on_windows = method in ON_WINDOWS
    config = load_config(TrainConfig, [
        "--config", CONFIG, "--data.features", folder, "--data.shots", str(SHOTS),
        "--data.shots_seed", str(seed), "--data.shots_by", "source",
        "--optim.epochs", str(EPOCHS[SHOTS]), "--optim.batch_size", str(BATCH[SHOTS]),
        "--run.seed", str(seed), "--run.out", str(out), "--run.threads", "1",
        "--mix.method", "none" if on_windows else method,
    ])  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        began = time.perf_counter()
        if on_windows:
            train_on_windows(config, MixConfig(method=method), encoders, Path(root))
        else:
            train(config)
        seconds = time.perf_counter() - began
        scores = evaluate(EvalConfig(checkpoint=str(out), threads=1, resamples=0))
    found: dict[str, dict[str, float]] = {}
    for row in ROWS:
        score = scores[row]
        assert isinstance(score, Scores)
        found[row] = {"top1": score.top1, "nll": score.nll}
    return {"scores": found, "seconds": round(seconds, 1)}


def main() -> None:
    """Run every arm."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", required=True, help="folder of the clips, with clips.csv")
    provenance.add_option(parser)
    args = parser.parse_args()
    origin = provenance.measured(args, "few_shot_input")
    os.chdir(ROOT)
    folder = features_of(args.root, SPLIT)
    encoders = of_config(with_expected_input(load_config(TrainConfig, [
        "--config", ENCODERS, *(f"--{word}" for word in OF_FEATURES)])),
        ["video", "audio"])  # fmt: skip
    arms = [*ON_FEATURES, *ON_WINDOWS]
    result: dict[str, Any] = {
        "kind": "few_shot_features", "command": "python benchmarks/few_shot_input.py --root DIR",
        "config": CONFIG, "options": {ARMS.get(m, m): ["--mix.method", m] for m in arms},
        "epochs": {str(SHOTS): EPOCHS[SHOTS]}, "batch_size": {str(SHOTS): BATCH[SHOTS]},
        "measured": origin, "protocol": "ucf101_av8, official split 1", "trained": [],
    }  # fmt: skip
    done = result["trained"] = earlier_runs(RESULT, result)
    for seed in SEEDS:
        for method in arms:
            arm = ARMS.get(method, method)
            if any((r["seed"], r["arm"]) == (seed, arm) for r in done):
                continue
            found = run(folder, method, seed, args.root, encoders)
            result["trained"].append({"split": SPLIT, "shots": SHOTS, "seed": seed,
                                      "arm": arm, **found})  # fmt: skip
            said = ", ".join(f"{r} {100 * s['top1']:.1f}" for r, s in found["scores"].items())
            print(f"{method}, seed {seed}: {said}, {found['seconds']} s", flush=True)
            result_files.write(RESULT, result)


if __name__ == "__main__":
    main()
