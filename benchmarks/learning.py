"""Why some runs of the demo never learned: the first 200 steps of several recipes, looked into.

    python benchmarks/learning.py --jobs 2
    python benchmarks/learning.py --variants former present --seeds 0 --steps 6 --look-every 2 \\
        --name try --allow-uncommitted                                          a short trial

Each variant of benchmarks/training/variants.py is trained with each seed, in a process of its own
(benchmarks/training/first_steps.py) with one thread, and looked into every 20 steps
(benchmarks/training/network_look.py). The result, benchmarks/results/NAME.json, is written after
each run; runs of the same code are kept, and a measurement that was interrupted goes on.
`benchmarks/paste.py` writes the table and the figure of docs/learning.md from it.
"""

import argparse
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from math import inf
from typing import Any

import fingerprint
from shared import provenance, result_files
from shared.machine import cpu_name
from shared.paths import RESULTS, ROOT
from shared.processes import IMPORTS
from training import train_run, variants
from training.seed_numbers import seed_numbers, seed_words

from avmix.system.git_commit import same_code

VARIANTS = tuple(variants.VARIANTS)

LEARNED = 2.2
"""Nats. A video head whose loss, a mean over `OVER` steps, is below has begun to learn; guessing
gives ln(10) = 2.303."""
OVER = 20
"""Steps: 320 clips of the demo, of which the mean varies by a few hundredths."""


def first_below(losses: Sequence[float], limit: float, over: int) -> int | None:
    """The number of steps after which the mean of the last `over` losses is below `limit` for the
    first time; None: never."""
    ends = range(over, len(losses) + 1)
    return next((n for n in ends if statistics.fmean(losses[n - over : n]) < limit), None)


def summary_of(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of the runs of one variant, in the order of their seeds."""
    begun = [first_below(run["steps"]["loss_video"], LEARNED, OVER) for run in runs]
    # Of an even number, the median is the mean of two runs: unknown where one of them never learns.
    median = statistics.median(inf if step is None else step for step in begun)
    return {
        "seeds": [run["seed"] for run in runs],
        "num_at_chance": sum(run["video_at_chance"] for run in runs),
        "first_below": begun,
        "median_first_below": None if median == inf else median,
        "last_epoch_video": [run["epoch_losses"]["video"][-1] for run in runs],
    }


def begin(args: argparse.Namespace, origin: dict[str, Any]) -> dict[str, Any]:
    """The result so far where it is of the same code and settings, else an empty one."""
    path = RESULTS / f"{args.name}.json"
    settings = {"config": variants.CONFIG, "overrides": train_run.portable(args.overrides),
                "steps": args.steps, "look_every": args.look_every,
                "learned_nats": LEARNED, "mean_over_steps": OVER}  # fmt: skip
    if old := train_run.earlier(path, settings, origin["commit"]):
        return old
    taken = fingerprint.of_config(variants.CONFIG, args.overrides)
    return {"kind": "learning", **settings, "measured": origin, "command": "",
            "hardware": cpu_name(), "fingerprint": asdict(taken), "summary": {},
            "runs": []}  # fmt: skip


def command_of(args: argparse.Namespace, runs: Sequence[dict[str, Any]]) -> str:
    """What repeats the result: all variants and seeds that are in it or were asked for."""
    seeds = {run["seed"] for run in runs} | set(args.seeds)
    known = {run["variant"] for run in runs} | set(args.variants)
    words = ["python", "benchmarks/learning.py", "--name", args.name, "--steps", str(args.steps),
             "--look-every", str(args.look_every), "--seeds", *seed_words(seeds)]  # fmt: skip
    if known != set(VARIANTS):
        words += ["--variants", *(name for name in VARIANTS if name in known)]
    words += ["--", *train_run.portable(args.overrides)] if args.overrides else []
    return shlex.join(words)


def run_one(args: argparse.Namespace, variant: str, seed: int, commit: str) -> dict[str, Any]:
    """One run in a process of its own. Raises RuntimeError where it fails or the code changes."""
    out = f"runs/{args.name}/{re.sub('[^a-z0-9]+', '_', variant)}_seed{seed}"
    command = [sys.executable, "-m", "training.first_steps", "--variant", variant,
               "--seed", str(seed), "--steps", str(args.steps),
               "--look-every", str(args.look_every), "--out", out]  # fmt: skip
    command += ["--", *args.overrides] if args.overrides else []
    log = ROOT / f"{out}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **IMPORTS}
    with log.open("w") as file:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=file, stderr=file)
    if done.returncode:
        raise RuntimeError(f"{out} ended with exit code {done.returncode}; see {out}.log")
    found = json.loads((ROOT / out / "run.json").read_text())
    if found["commit"] != commit and not same_code(ROOT, commit, found["commit"] or "+"):
        raise RuntimeError(f"{out}: code changed from {commit} to {found['commit']} while it ran")
    return {**found, "at_a_time": args.jobs}


def with_run(result: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    """The result and one more run, in order, and the summary of each variant."""
    runs = sorted([*result["runs"], run], key=lambda r: (VARIANTS.index(r["variant"]), r["seed"]))
    names = dict.fromkeys(run["variant"] for run in runs)
    summary = {n: summary_of([run for run in runs if run["variant"] == n]) for n in names}
    return {**result, "summary": summary, "runs": runs}


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", default=["0..5"], help="numbers and FIRST..LAST")
    parser.add_argument("--steps", type=int, default=200, help="of each run (200)")
    parser.add_argument("--look-every", type=int, default=20, help="steps of an epoch (20)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (1)")
    parser.add_argument("--name", default="learning", help="of the result")
    provenance.add_option(parser)
    parser.add_argument("overrides", nargs="*", help="after --: options of train.py")
    args = parser.parse_args(words)
    try:
        args.seeds = seed_numbers(args.seeds)
    except ValueError as error:
        parser.error(f"--seeds {error}")
    return args


def main() -> None:
    """Run what is not in the result yet."""
    args = arguments()
    origin = provenance.measured(args, "learning")
    result = begin(args, origin)
    result["command"] = command_of(args, result["runs"])
    path = RESULTS / f"{args.name}.json"
    done = {(run["variant"], run["seed"]) for run in result["runs"]}
    # Seed after seed: a measurement that is stopped has all variants of the first seeds.
    missing = [(v, seed) for seed in args.seeds for v in args.variants if (v, seed) not in done]

    def keep(run: dict[str, Any]) -> None:
        nonlocal result
        result = with_run(result, run)
        result_files.write(path, result)
        print(f"wrote {path.name}: {len(result['runs'])} runs", flush=True)

    train_run.run_all(
        missing, lambda what: run_one(args, *what, origin["commit"]), keep, jobs=args.jobs
    )


if __name__ == "__main__":
    main()
