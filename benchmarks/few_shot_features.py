"""Does mixing help where a network is trained on kept features of few clips? UCF101's eight classes
with audio, three official splits.

    python benchmarks/few_shot_features.py --root DIR

Each arm is trained on the same clips, for the same epochs, with the same seeds; the last epoch is
evaluated. Few clips are drawn by source, five times; all clips are trained on with three seeds.
Nothing is chosen on a test split: all arms have the options of the configuration. The features are
computed once, by `avmix features`, into runs/few_shot. The result is written again after each run;
what is in it is not done again by the same code.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from shared import provenance, result_files
from shared.paths import RESULTS, ROOT

from avmix.commands.evaluate import evaluate
from avmix.commands.train import train
from avmix.config import EvalConfig, TrainConfig, load_config
from avmix.evaluation.metrics import Scores
from avmix.prepare.csv_table import prepare_table

RESULT = RESULTS / "few_shot_features.json"
ENCODERS = "configs/ucf101_av8_lite0.yaml"
OF_FEATURES = ("clip.num_frames=3", "clip.duration_seconds=6", "clip.short_side=224",
               "clip.crop=224", "model.audio.encoder=timm:tf_efficientnet_lite0",
               "model.audio.weights=lite0")  # fmt: skip
CONFIG = "configs/ucf101_av8_lite0_features.yaml"
ARMS: dict[str, tuple[str, ...]] = {
    "no mixing": ("--mix.method", "none"),
    "mixup@feature": ("--mix.method", "mixup@feature"),
    "dropout": ("--mix.method", "dropout"),
    "no mixing, product": ("--mix.method", "none", "--model.fusion", "product"),
}
"""How clips are mixed, and the fusion where it is not concatenation."""
REGIMES = {0: range(3), 3: range(5), 10: range(5)}
"""Clips of each class (0: all), and the seeds: of the draw of clips and of the training."""
EPOCHS, BATCH = {0: 20, 3: 50, 10: 50}, {0: 16, 3: 8, 10: 16}
ROWS = ("fused", "video head", "audio head")


def features_of(root: str, number: int) -> str:
    """Folder of the features of an official split; computed where they are not there yet."""
    manifest, folder = f"runs/manifests/ucf101_av8_split{number}", f"runs/few_shot/split{number}"
    data = load_config(TrainConfig, [
        "--config", ENCODERS, "--data.root", root, "--data.table_split", f"split{number}",
        "--data.manifest", manifest,
    ]).data  # fmt: skip
    prepare_table(data)
    command = [sys.executable, "-m", "avmix", "features", "--config", ENCODERS, "--out", folder,
               f"data.root={root}", f"data.manifest={manifest}",
               f"data.table_split=split{number}", *OF_FEATURES]  # fmt: skip
    subprocess.run(command, check=True)
    return folder


def run(folder: str, shots: int, arm: str, seed: int) -> dict[str, dict[str, float]]:
    """Top-1 and negative log-likelihood of each row of the table on the test split."""
    out = Path("runs/few_shot/run")
    shutil.rmtree(out, ignore_errors=True)
    config = load_config(TrainConfig, [
        "--config", CONFIG, "--data.features", folder, "--data.shots", str(shots),
        *(["--data.shots_seed", str(seed), "--data.shots_by", "source"] if shots else []),
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
    folders = {number: features_of(args.root, number) for number in (1, 2, 3)}
    result: dict[str, Any] = {
        "kind": "few_shot_features", "command": "python benchmarks/few_shot_features.py --root DIR",
        "config": CONFIG, "options": {arm: list(words) for arm, words in ARMS.items()},
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
                    scores = run(folder, shots, arm, seed)
                    result["trained"].append({"split": number, "shots": shots, "arm": arm,
                                           "seed": seed, "scores": scores})  # fmt: skip
                    result_files.write(RESULT, result)
                    said = ", ".join(f"{row} {100 * s['top1']:.1f}" for row, s in scores.items())
                    print(f"{shots or 'all'} clips, split {number}, {arm}, seed {seed}: {said}",
                          flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
