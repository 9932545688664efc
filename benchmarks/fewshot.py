"""Does re-pairing help where clips are few? Train with and without, equally long, on the same few.

    python benchmarks/fewshot.py --root DIR
    python benchmarks/fewshot.py --root DIR --shots 5 --seeds 0 --steps 12 --name try   a short look

For every number of clips per class and every seed, the same few clips are trained on alone
(`plain`) and with what `avmix synth repair` makes of them and of nothing else (`repair`). Both arms
do exactly as many steps, of the same size, with the same warm-up; nothing is chosen on the test
split, the last epoch is evaluated. The result, benchmarks/results/NAME.json, is written again after
every run; what is in it is not done again, and a run that was stopped goes on.
`benchmarks/paste.py` makes the table of docs/synthesis.md from it.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import fingerprint
from shared import provenance, result_files
from shared.paths import RESULTS, ROOT
from training import train_run

from avmix.config import DataConfig, TrainConfig, load_config
from avmix.data.train_clips import train_clips
from avmix.prepare.csv_table import prepare_table
from avmix.system import strict_json

ARMS = ("plain", "repair")
WARMUP_STEPS = 20
REPAIR = ("--balanced", "--min-score", "0.2", "--min-cover", "0.5")
"""Rejecting less than usual, so that every class gets about as many as asked for, then as many of
each: with the usual limits some classes get a third of what others do, and a shift of the classes'
shares could not be told from what re-pairing does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How both arms of a pair of runs are trained."""

    batch_size: int
    num_steps: int
    """Of the whole run, the same in both arms."""
    epochs: dict[str, int]
    """Of each arm."""
    steps_per_epoch: dict[str, int]


def pace_of(num_clips: dict[str, int], target_steps: int) -> Pace:
    """Whole epochs in both arms, the same number of steps, as near to `target_steps` as they go.

    An epoch drops its last, incomplete step, so the number of steps is a multiple of both arms'.
    """
    batch_size = 16 if min(num_clips.values()) >= 32 else 8
    per_epoch = {arm: num // batch_size for arm, num in num_clips.items()}
    if min(per_epoch.values()) < 1:
        sys.exit(f"error: {min(num_clips.values())} clips are fewer than one batch of {batch_size}")
    unit = math.lcm(*per_epoch.values())
    num_steps = max(1, round(target_steps / unit)) * unit
    return Pace(
        batch_size=batch_size,
        num_steps=num_steps,
        epochs={arm: num_steps // steps for arm, steps in per_epoch.items()},
        steps_per_epoch=per_epoch,
    )


def make_set(args: argparse.Namespace, data: DataConfig, out: Path) -> dict[str, Any]:
    """Re-pair the chosen clips, unless it is done; returns the report."""
    code = "import sys; from avmix.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "synth", "repair", "--root", data.root,
               "--manifest", str(data.manifest_folder), "--out", str(out),
               "--shots", str(data.shots), "--shots-seed", str(data.shots_seed),
               "--seed", str(data.shots_seed),
               "--per-class", str(args.made_per_shot * data.shots), *REPAIR]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True)
    return json.loads((ROOT / out / "report.json").read_text())


def run_arm(
    args: argparse.Namespace, data: DataConfig, arm: str, pace: Pace, out: Path, seed: int,
    commit: str,
) -> dict[str, Any]:  # fmt: skip
    """One run from nothing to its figures."""
    warmup = min(WARMUP_STEPS / pace.steps_per_epoch[arm], pace.epochs[arm])
    train = ["--config", args.config, "--data.root", data.root,
             "--data.manifest", data.manifest, "--data.shots", str(data.shots),
             "--data.shots_seed", str(data.shots_seed),
             "--data.extra", strict_json.dumps(data.extra),
             "--optim.batch_size", str(pace.batch_size), "--optim.epochs", str(pace.epochs[arm]),
             "--optim.warmup_epochs", str(warmup), "--run.seed", str(seed)]  # fmt: skip
    return {
        "shots": data.shots,
        "arm": arm,
        "seed": seed,
        "num_steps": pace.num_steps,
        "batch_size": pace.batch_size,
        **train_run.measure(str(out), train, commit),
    }


def main() -> None:
    """Run all that is not in the result yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", default="configs/ucf101_av8.yaml", help="YAML file")
    parser.add_argument("--root", required=True, help="media folder, as data.root")
    parser.add_argument("--shots", type=int, nargs="+", default=[5, 10], help="clips per class")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2],
                        help="of the clips, the pairs and the training")  # fmt: skip
    parser.add_argument("--steps", type=int, default=200, help="of each run, about (200)")
    parser.add_argument("--made-per-shot", type=int, default=2,
                        help="re-paired clips for each real one, at most (2)")  # fmt: skip
    parser.add_argument("--name", default="fewshot", help="of the result")
    provenance.add_option(parser)
    args = parser.parse_args()
    origin = provenance.measured(args, "fewshot")
    os.chdir(ROOT)
    config = load_config(TrainConfig, ["--config", args.config, "--data.root", args.root])
    if config.data.table:
        prepare_table(config.data)
    path = RESULTS / f"{args.name}.json"
    settings = {"config": args.config, "target_steps": args.steps,
                "made_per_shot": args.made_per_shot, "repair": list(REPAIR)}  # fmt: skip
    result = _earlier(path, settings, origin)
    result["command"] = _command(args)
    done = {(run["shots"], run["arm"], run["seed"]) for run in result["runs"]}
    for seed in args.seeds:
        for shots in args.shots:
            if all((shots, arm, seed) in done for arm in ARMS):
                continue
            folder = Path("runs") / args.name / f"shots{shots}_seed{seed}"
            plain = replace(config.data, shots=shots, shots_seed=seed)
            report = make_set(args, plain, folder / "set")
            data = {"plain": plain, "repair": replace(plain, extra=[str(folder / "set")])}
            num_clips = {arm: len(train_clips(d).manifest.entries) for arm, d in data.items()}
            pace = pace_of(num_clips, args.steps)
            for arm in ARMS:
                if (shots, arm, seed) in done:
                    continue
                run = run_arm(args, data[arm], arm, pace, folder / arm, seed, origin["commit"])
                run |= {"num_clips": num_clips[arm], "num_tried": report["tried"],
                        "num_made": report["num_made"], "rejected": report["rejected"]}  # fmt: skip
                result["runs"].append(run)
                result_files.write(path, result)
                print(f"wrote {path.relative_to(ROOT)}: {len(result['runs'])} runs")


def _earlier(path: Path, settings: dict[str, Any], origin: dict[str, Any]) -> dict[str, Any]:
    """The result so far, where it is of the same code and settings."""
    if old := train_run.earlier(path, settings, origin["commit"]):
        return old
    taken = fingerprint.of_config(settings["config"], [])
    return {"kind": "fewshot", **settings, "overrides": [], "measured": origin,
            "fingerprint": asdict(taken), "runs": []}  # fmt: skip


def _command(args: argparse.Namespace) -> str:
    """What repeats it, without the folders of this machine."""
    return (
        f"python benchmarks/fewshot.py --config {args.config} --root DIR --name {args.name} "
        f"--shots {' '.join(map(str, args.shots))} --seeds {' '.join(map(str, args.seeds))} "
        f"--steps {args.steps} --made-per-shot {args.made_per_shot}"
    )


if __name__ == "__main__":
    main()
