"""Does mixing frames and spectrograms before frozen encoders help where clips are few? Beside
mixing their features, and no mixing, on the same clips: split 1 of UCF101's eight classes with
audio, three and ten clips of each class, five draws by source.

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
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from few_shot_features import ARMS as ARMS_OF_FEATURES
from few_shot_features import BATCH, EPOCHS, earlier_runs, words_of
from shared import provenance, result_files
from shared.paths import RESULTS, ROOT
from training.feature_run import config_of_run, run, scores_of
from training.frozen_windows import train_on_windows
from training.lite0_features import CONFIG, ENCODERS, features_of, options_of

from avmix.commands.evaluate import evaluate
from avmix.config import EvalConfig, MixConfig, TrainConfig, load_config
from avmix.evaluation.kept_predictions import KeptPredictions
from avmix.evaluation.prediction_file import read_predictions
from avmix.features.frozen_encoders import FrozenEncoders, of_config
from avmix.models.input_options import with_expected_input

RESULT = RESULTS / "few_shot_input.json"
SPLIT, SHOTS, SEEDS = 1, (3, 10), range(5)
ARMS = {name: ARMS_OF_FEATURES[name] for name in ("no mixing", "mixup@feature", "dropout")}
ON_WINDOWS = "mixup of the input"
MIXUP = MixConfig(method="mixup")


def run_on_windows(
    words: Mapping[str, Any], encoders: FrozenEncoders, root: str
) -> KeptPredictions:
    """Train with these options on mixed windows; predictions on the test split."""
    with contextlib.redirect_stdout(io.StringIO()):
        last = train_on_windows(config_of_run(words), MIXUP, encoders, Path(root))
        evaluate(EvalConfig(checkpoint=str(last), threads=1, resamples=0))
    return read_predictions(last.with_name("eval_test"))


def main() -> None:
    """Run all that is not in the result yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", required=True, help="folder of the clips, with clips.csv")
    provenance.add_option(parser)
    args = parser.parse_args()
    origin = provenance.measured(args, "few_shot_input")
    os.chdir(ROOT)
    folder = features_of(args.root)[SPLIT]
    encoders = of_config(with_expected_input(load_config(TrainConfig, [
        "--config", ENCODERS, *(f"--{word}" for word in options_of())])),
        ["video", "audio"])  # fmt: skip
    result: dict[str, Any] = {
        "kind": "few_shot_features", "command": "python benchmarks/few_shot_input.py --root DIR",
        "config": CONFIG, "options": {**ARMS, ON_WINDOWS: {"mix.method": "mixup"}},
        "epochs": {str(s): EPOCHS[s] for s in SHOTS},
        "batch_size": {str(s): BATCH[s] for s in SHOTS},
        "measured": origin, "protocol": "ucf101_av8, official split 1", "trained": [],
    }  # fmt: skip
    result["trained"] = earlier_runs(RESULT, result)
    there = {(r["shots"], r["seed"], r["arm"]) for r in result["trained"]}
    todo = [(shots, seed, arm) for shots in SHOTS for seed in SEEDS for arm in result["options"]
            if (shots, seed, arm) not in there]  # fmt: skip
    for shots, seed, arm in todo:
        began, words = time.perf_counter(), words_of(folder, shots, seed)
        if arm == ON_WINDOWS:
            kept = run_on_windows({**words, "mix.method": "none"}, encoders, args.root)
        else:
            kept = run({**words, **ARMS[arm]}, test=True).kept
        scores, seconds = scores_of(kept), time.perf_counter() - began
        result["trained"].append({"split": SPLIT, "shots": shots, "seed": seed, "arm": arm,
                                  "scores": scores, "seconds": round(seconds, 1)})  # fmt: skip
        result_files.write(RESULT, result)
        said = ", ".join(f"{row} {100 * s['top1']:.1f}" for row, s in scores.items())
        print(f"{shots} clips, seed {seed}, {arm}: {said}, {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
