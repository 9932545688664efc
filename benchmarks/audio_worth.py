"""What is audio worth, with and without a guard of the fusion? UCF101's eight classes with audio on
kept features and from scratch, and the demo.

    python benchmarks/audio_worth.py --root DIR --setups features scratch demo

Each network is judged on the test split as it is and with a guard (`avmix guard`): fusion gain and
modality confusion. The guard is fitted to held-out groups of the train split, a fifth of them (the
demo has a val split), never to the test split. On features, networks are also trained on the whole
train split, as the configuration says and with mixing of features.
Nothing is chosen here. The result is written again after each network; what is in it is not done
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
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from shared import provenance, result_files
from shared.paths import RESULTS, ROOT
from training.lite0_features import CONFIG, features_of
from training.train_run import fusion_of

from avmix.commands.evaluate import evaluate
from avmix.commands.guard import guard_of, guarded
from avmix.commands.train import train
from avmix.config import EvalConfig, TrainConfig, load_config
from avmix.evaluation.prediction_file import read_predictions
from avmix.training import checkpoint

RESULT = RESULTS / "audio_worth.json"
FOLDER = Path("runs/audio_worth")
HELD_OUT = ("--data.holdout", "0.2", "--data.val_split", "")
CONFIGS = {"features": CONFIG, "scratch": "configs/ucf101_av8.yaml",
           "demo": "configs/demo.yaml"}  # fmt: skip
SEEDS = {"features": 3, "scratch": 1, "demo": 1}
ROWS = ("fused", "video head", "audio head")


def data_of(setup: str, root: str) -> dict[int, list[str]]:
    """Options of the data of each split; what is not there yet is computed."""
    if setup == "demo":
        folder = FOLDER / "toy"
        if not (folder / "dataset.json").exists():
            command = [sys.executable, "datasets/toy/make.py", "--out", str(folder)]
            subprocess.run(command, check=True)
        return {1: ["--data.root", str(folder)]}
    if setup == "features":
        return {n: ["--data.features", str(of)] for n, of in features_of(root).items()}
    return {n: ["--data.root", root, "--data.table_split", f"split{n}", "--data.manifest",
                f"runs/manifests/ucf101_av8_split{n}"] for n in (1, 2, 3)}  # fmt: skip


def networks_of(setup: str) -> dict[str, tuple[str, ...]]:
    """Options of the networks of a setup, by how they are trained."""
    if setup == "features":
        return {"all": (), "mixed": ("--mix.method", "mixup@feature"), "held out": HELD_OUT}
    return {"held out": HELD_OUT if setup == "scratch" else ()}


def judged(path: Path, setup: str, split: str, out: Path) -> dict[str, Any]:
    """Evaluate a checkpoint, quietly; what result.json says."""
    config = EvalConfig(checkpoint=str(path), split=split, out=str(out), threads=1)
    if setup != "features":
        config = replace(config, num_workers=1)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluate(config)
    result = json.loads((out / "result.json").read_text())
    scores = {row: {m: result["scores"][row][m] for m in ("top1", "nll")} for row in ROWS}
    fusion = {n: f for n, f in fusion_of(result).items() if n in ("gain", "gain_nll", "mu")}
    return {"scores": scores, "fusion": fusion, "num_evaluated": result["num_evaluated"]}


def run(setup: str, data: list[str], trained_on: str, seed: int) -> dict[str, dict[str, Any]]:
    """Train one network; its figures as it is and with a guard."""
    out = FOLDER / f"{setup}_run"
    shutil.rmtree(out, ignore_errors=True)
    config = load_config(TrainConfig, [
        "--config", CONFIGS[setup], *data, *networks_of(setup)[trained_on], "--run.seed", str(seed),
        "--run.out", str(out), "--run.threads", "1",
        *(() if setup == "features" else ("--data.num_workers", "1")),
    ])  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        train(config)
    found = {"plain": judged(out / "last.pt", setup, "test", out / "eval_test")}
    if trained_on != "held out":
        return found
    judged(out / "last.pt", setup, "val", out / "eval_val")
    state, kept = checkpoint.load(out / "last.pt"), read_predictions(out / "eval_val")
    fit = guard_of(out / "last.pt", state, kept, out / "eval_val")
    checkpoint.save(out / "guarded.pt", guarded(state, fit))
    with_guard = judged(out / "guarded.pt", setup, "test", out / "eval_guarded")
    return {**found, "guarded": {**with_guard, "fit": asdict(fit)}}


def earlier(result: dict[str, Any], setups: Sequence[str]) -> list[dict[str, Any]]:
    """Networks that are in the result already: of the same code, and those of other setups, which
    say their commit."""
    if not RESULT.exists():
        return []
    old = json.loads(RESULT.read_text())
    same = old["measured"]["sources"] == result["measured"]["sources"]
    return [n for n in old["networks"] if same or n["setup"] not in setups]


def main() -> None:
    """Train and judge all that is not in the result yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", required=True, help="folder of the clips, with clips.csv")
    parser.add_argument("--setups", nargs="+", choices=CONFIGS, default=[*CONFIGS])
    provenance.add_option(parser)
    args = parser.parse_args()
    result: dict[str, Any] = {
        "kind": "audio_worth", "command": "python benchmarks/audio_worth.py --root DIR",
        "configs": CONFIGS, "held_out": list(HELD_OUT),
        "measured": provenance.measured(args, "audio_worth"), "networks": [],
    }  # fmt: skip
    at = {"commit": result["measured"]["commit"]}
    os.chdir(ROOT)
    for setup in args.setups:
        for number, data in data_of(setup, args.root).items():
            for seed in range(SEEDS[setup]):
                for trained_on in networks_of(setup):
                    which = {"setup": setup, "split": number, "seed": seed,
                             "trained_on": trained_on}  # fmt: skip
                    result["networks"] = earlier(
                        result, args.setups
                    )  # another setup may run beside this one
                    if any({k: n[k] for k in which} == which for n in result["networks"]):
                        continue
                    found = run(setup, data, trained_on, seed)
                    result["networks"] = sorted(
                        [*earlier(result, args.setups), {**which, "found": found, **at}],
                        key=lambda n: (n["setup"], n["split"], n["seed"], n["trained_on"]),
                    )
                    result_files.write(RESULT, result)
                    for name, one in found.items():
                        gain = one["fusion"]["gain"]
                        print(f"{setup} {number}, seed {seed}, {trained_on}, {name}: gain "
                              f"{100 * gain['value']:+.1f} ({gain['low']} to {gain['high']})",
                              flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
