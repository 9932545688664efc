"""Train and evaluate one configuration with several seeds.

    python benchmarks/seeds.py --config configs/demo.yaml --name demo --seeds 0..19
    python benchmarks/seeds.py --config configs/demo.yaml --name demo_none --seeds 0..19 \\
        --table demo_mixing --title "no mixing" -- --mix.method none
    python benchmarks/seeds.py --config configs/ucf101_av8.yaml --name ucf101_av8_split1 \\
        -- --data.root DIR
    python benchmarks/seeds.py --config configs/demo.yaml --name demo --evaluate-again runs

Each seed is a run of train.py and eval.py as a person would start them, in runs/NAME_seedS. The
result, benchmarks/results/NAME.json, is written again after each; what is in it is not measured
again by the same code, and a run that was interrupted goes on. Code and configuration must be
committed: the result names the commit, and holds the fingerprint by which the tests notice when
the code no longer computes it. `benchmarks/paste.py` makes tables and figures from it.

`--evaluate-again DIR` trains nothing: the networks of a result, in DIR/NAME_seedS, are evaluated by
the present code, for what older results lack: what fusion is worth. Rows about the same clips must
have the same scores; the commit that trained them stays, that of the evaluation is added.
"""

import argparse
import contextlib
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fingerprint
from shared import provenance, result_files
from shared.machine import cpu_name
from shared.paths import RESULTS, ROOT
from training import train_run
from training.seed_numbers import seed_numbers, seed_words

from avmix.config import DataConfig
from avmix.data.manifest import ManifestError, splits_of
from avmix.prepare.csv_table import read_table
from avmix.system import strict_json


def begin(args: argparse.Namespace, commit: str) -> dict[str, Any]:
    """The result so far where it is of the same code and settings, else an empty one."""
    path, overrides = RESULTS / f"{args.name}.json", train_run.portable(args.overrides)
    settings = {"config": args.config, "overrides": overrides}
    labels = {"table": args.table, "title": args.title, "ceilings": args.ceilings}
    if old := train_run.earlier(path, settings, commit):
        return {**old, **labels, "command": command_of(args, old["runs"])}
    chosen = fingerprint.configured(args.config, args.overrides).data
    try:
        with contextlib.chdir(ROOT):
            splits = splits_that_will_be(chosen)
    except ManifestError as error:
        sys.exit(f"error: {error}")
    if "test" not in splits:
        sys.exit(f"error: {chosen.manifest_folder} has no split 'test', which is what is measured; "
                 f"it has: {', '.join(splits)}")  # fmt: skip
    # Before the first run: a configuration without a fingerprint is not worth hours.
    taken = fingerprint.of_config(args.config, args.overrides)
    return {"kind": "training", **labels, **settings, "measured": {"commit": commit},
            "command": "", "hardware": cpu_name(), "fingerprint": asdict(taken),
            "runs": []}  # fmt: skip


def splits_that_will_be(data: DataConfig) -> Sequence[str]:
    """Of the dataset; of a table that is not prepared yet, those that its rows name."""
    if data.table and not (data.manifest_folder / "dataset.json").exists():
        return sorted({row.split for row in read_table(data).rows})
    return splits_of(data.manifest_folder)


def command_of(args: argparse.Namespace, done: list[dict[str, Any]]) -> str:
    """What repeats the result, with all seeds that are in it, without folders of this machine."""
    seeds = {run["seed"] for run in done} | set(args.seeds)
    words = ["python", "benchmarks/seeds.py", "--config", args.config, "--name", args.name,
             "--seeds", *seed_words(seeds)]  # fmt: skip
    words += ["--table", args.table] if args.table else []
    words += ["--title", args.title] if args.title else []
    words += ["--ceilings", strict_json.dumps(args.ceilings)] if args.ceilings else []
    words += ["--", *train_run.portable(args.overrides)] if args.overrides else []
    return shlex.join(words)


def run_seed(args: argparse.Namespace, seed: int, commit: str) -> dict[str, Any]:
    """One run from nothing to its figures."""
    arguments = ["--config", args.config, *args.overrides, "--run.seed", str(seed)]
    found = train_run.measure(
        f"runs/{args.name}_seed{seed}", arguments, commit, to_file=args.jobs > 1
    )
    return {"seed": seed, "at_a_time": args.jobs, **found}


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", required=True, help="YAML file")
    parser.add_argument("--name", required=True, help="of the result")
    parser.add_argument("--seeds", nargs="+", default=["0..2"], help="numbers and FIRST..LAST")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time (1)")
    parser.add_argument(
        "--evaluate-again",
        type=Path,
        metavar="DIR",
        help="folder of trained runs: add what fusion is worth, train nothing",
    )
    parser.add_argument("--table", default="", help="results of one table are compared in it")
    parser.add_argument("--title", default="", help="of this result in that table")
    parser.add_argument("--ceilings", type=json.loads, default={},
                        help="best possible top-1 by row, as JSON")  # fmt: skip
    provenance.add_option(parser)
    parser.add_argument("overrides", nargs="*", help="after --: options of train.py")
    args = parser.parse_args()
    try:
        args.seeds = seed_numbers(args.seeds)
    except ValueError as error:
        parser.error(f"--seeds {error}")
    return args


def evaluate_again(args: argparse.Namespace, commit: str) -> None:
    """Add what fusion is worth to the runs of a result that lack it; exits where one is another."""
    path = RESULTS / f"{args.name}.json"
    result = json.loads(path.read_text())
    for number, run in enumerate(result["runs"]):
        if "fusion" in run:
            continue
        folder = args.evaluate_again.resolve() / f"{args.name}_seed{run['seed']}"
        try:
            result["runs"][number] = train_run.evaluate_again(run, folder, commit)
        except RuntimeError as error:
            sys.exit(f"error: {error}")
        result_files.write(path, result)
        print(f"wrote {path.name}: seed {run['seed']}", flush=True)


def main() -> None:
    """Run the seeds that are not in the result yet."""
    args = arguments()
    commit = provenance.clean_commit(args)
    if args.evaluate_again:
        return evaluate_again(args, commit)
    result = begin(args, commit)
    result["command"] = command_of(args, result["runs"])
    path = RESULTS / f"{args.name}.json"
    if result["runs"]:
        result_files.write(path, result)  # the command may name more seeds
    missing = [seed for seed in args.seeds if seed not in {run["seed"] for run in result["runs"]}]

    def keep(run: dict[str, Any]) -> None:
        result["runs"] = sorted([*result["runs"], run], key=lambda run: run["seed"])
        result_files.write(path, result)
        print(f"wrote {path.name}: {len(result['runs'])} seeds", flush=True)

    train_run.run_all(missing, lambda seed: run_seed(args, seed, commit), keep, jobs=args.jobs)


if __name__ == "__main__":
    main()
