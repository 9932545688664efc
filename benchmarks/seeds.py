"""Train and evaluate one configuration with several seeds; writes mean and spread.

    python benchmarks/seeds.py --config configs/demo.yaml --name demo --seeds 0 1 2
    python benchmarks/seeds.py --config configs/ucf101_av8.yaml --name ucf101_av8 --seeds 0 1 2 \\
        -- --data.root DIR

Each seed is a run of train.py and eval.py as a person would start them, in runs/NAME_seedS; a run
that was interrupted goes on. The result is benchmarks/results/NAME.json; `benchmarks/paste.py`
makes the tables of the README from it.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"


def run_seed(name: str, config: str, seed: int, overrides: list[str]) -> dict[str, Any]:
    """One run from nothing to its result."""
    out = f"runs/{name}_seed{seed}"
    train = ["train.py", "--config", config, "--run.seed", str(seed), "--run.out", out, *overrides]
    subprocess.run([sys.executable, *train], cwd=ROOT, check=True)
    started = time.perf_counter()
    subprocess.run([sys.executable, "eval.py", "--checkpoint", out], cwd=ROOT, check=True)
    eval_seconds = time.perf_counter() - started
    lines = (ROOT / out / "metrics.jsonl").read_text().splitlines()
    epochs = [row for row in map(json.loads, lines) if row["kind"] == "epoch"]
    # Medians: an epoch during which the machine did something else says nothing of the others.
    seconds = statistics.median(row["seconds"] for row in epochs) * len(epochs)
    result = json.loads((ROOT / out / "eval_test/result.json").read_text())
    return {
        "seed": seed,
        "scores": result["scores"],
        "num_evaluated": result["num_evaluated"],
        "num_missing": result["num_missing"],
        "train_minutes": round(seconds / 60, 2),
        "eval_minutes": round(eval_seconds / 60, 2),
        "waiting_share": statistics.median(row["waiting_share"] for row in epochs),
        "protocol": result["protocol"],
        "split": result["split"],
        "split_sha256": result["split_sha256"],
        "num_views": result["num_views"],
        "environment": result["environment"],
    }


def summarise(runs: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Mean and standard deviation (over seeds, n - 1) of every metric of every row."""
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for row, metrics in runs[0]["scores"].items():
        for metric in metrics:
            values = [run["scores"][row][metric] for run in runs]
            summary.setdefault(row, {})[metric] = {
                "mean": statistics.mean(values),
                "sd": statistics.stdev(values) if len(values) > 1 else 0.0,
            }
    return summary


def main() -> None:
    """Run all seeds, one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", required=True, help="YAML file")
    parser.add_argument("--name", required=True, help="of the result")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("overrides", nargs="*", help="after --: options of train.py")
    args = parser.parse_args()
    runs = [run_seed(args.name, args.config, seed, args.overrides) for seed in args.seeds]
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{args.name}.json"
    result = {"config": args.config, "summary": summarise(runs), "runs": runs}
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
