"""Are motions and noises recognised in pairs that were never trained on?

    python benchmarks/unseen_pairs.py

Trains the demo on the toy set with `--factors`, where a clip is labelled with its motion and its
noise, with and without mixing, and evaluates the splits `test` (ten pairs, all trained on) and
`unseen` (the six others). The result is written again after each network; what is in it is not done
again by the same code.
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

RESULT = RESULTS / "unseen_pairs.json"
FOLDER = Path("runs/unseen_pairs")
CONFIG = "configs/demo.yaml"
ARMS = {"no mixing": ("--mix.method", "none"), "mixup": ()}
KEPT = ("value", "low", "high", "num_clips", "num_sources")


def run(arm: str, seed: int) -> dict[str, Any]:
    """Train one network; figures of both splits by row of the table."""
    out = FOLDER / "run"
    shutil.rmtree(out, ignore_errors=True)
    config = load_config(TrainConfig, [
        "--config", CONFIG, "--data.root", str(FOLDER / "toy"), "--run.seed", str(seed),
        "--run.out", str(out), "--run.threads", "1", "--data.num_workers", "1", *ARMS[arm],
    ])  # fmt: skip
    found: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        train(config)
        for split in ("test", "unseen"):
            evaluate(EvalConfig(checkpoint=str(out), split=split, threads=1, num_workers=1))
            rows = json.loads((out / f"eval_{split}/result.json").read_text())["intervals"]["rows"]
            found[split] = {
                row: {
                    name: {key: rows[row][name][key] for key in KEPT} for name in ("exact", "map")
                }
                for row in ("fused", "video head", "audio head")
            }
    return found


def main() -> None:
    """Train and evaluate all that is not in the result yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="from 0 (3)")
    provenance.add_option(parser)
    args = parser.parse_args()
    result: dict[str, Any] = {
        "kind": "unseen_pairs", "command": "python benchmarks/unseen_pairs.py", "config": CONFIG,
        "options": {arm: list(words) for arm, words in ARMS.items()},
        "measured": provenance.measured(args, "unseen_pairs"), "networks": [],
    }  # fmt: skip
    if RESULT.exists():
        old = json.loads(RESULT.read_text())
        if old["measured"]["sources"] == result["measured"]["sources"]:
            result["networks"] = old["networks"]
    os.chdir(ROOT)
    if not (FOLDER / "toy/dataset.json").exists():
        command = [sys.executable, "datasets/toy/make.py", "--out", str(FOLDER / "toy"),
                   "--factors"]  # fmt: skip
        subprocess.run(command, check=True)
    done = {(one["arm"], one["seed"]) for one in result["networks"]}
    for seed in range(args.seeds):
        for arm in ARMS:
            if (arm, seed) in done:
                continue
            result["networks"].append({"arm": arm, "seed": seed, "found": run(arm, seed)})
            result_files.write(RESULT, result)
            print(f"{arm}, seed {seed}: written", flush=True)


if __name__ == "__main__":
    main()
