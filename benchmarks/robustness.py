"""Robustness of the demo trained with each of several mixing methods, over seeds.

    python benchmarks/robustness.py --seeds 0..2
    python benchmarks/robustness.py --config configs/smoke.yaml --variants none dropout --seeds 0 \\
        --rows clean,jpeg --name try --allow-uncommitted -- --data.root DIR        a short trial

Each variant and seed is a run of train.py and of eval.py with --robustness, as a person would start
them, in runs/NAME_VARIANT_seedS. Runs that are there already, such as those of a published table,
are only evaluated: --trained VARIANT=FOLDER, with {seed} in place of the number. The result,
benchmarks/results/NAME.json, is written again after each; what is in it is not measured again by
the same code, and a run that was interrupted goes on.
docs/robustness.md says what the rows are; `benchmarks/paste.py` writes its table and figure.
"""

import argparse
import json
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from shared import provenance, result_files
from shared.machine import cpu_name
from shared.paths import RESULTS, ROOT
from training import train_run
from training.seed_numbers import seed_numbers, seed_words

from avmix.config.robustness_rows import ALL, ROBUSTNESS_ROWS, rows_asked_for

KIND = "robustness"
VARIANTS = {
    "none": ["--mix.method", "none"],
    "mixup": ["--mix.method", "mixup"],
    "independent": ["--mix.method", "independent"],
    "dropout": ["--mix.method", "dropout"],
}
"""Options of train.py, by name."""


def compact(report: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of robustness.json: every value, and the intervals of top-1."""
    rows = {}
    for name, row in report["rows"].items():
        kept = {key: row[key] for key in ("levels", "unit", "kind", "title", "num_missing")}
        if row["kind"] == "curve":
            kept["heads"] = {head: _curve(found) for head, found in row["heads"].items()}
            kept |= {key: row[key] for key in ("silent_share",) if key in row}
        else:
            meta = ("definition", "source", "of", "missing", "num_without_other")
            kept["figures"] = {
                key: _values(value) for key, value in row.items() if key not in {*kept, *meta}
            }
        rows[name] = kept
    return rows


def _curve(levels: list[dict[str, Any] | None]) -> dict[str, list[Any]]:
    found = {key: [level and level[key]["value"] for level in levels]
             for key in ("top1", "nll", "ece")}  # fmt: skip
    interval = {f"top1_{end}": [level and level["top1"][end] for level in levels]
                for end in ("low", "high")}  # fmt: skip
    return {**found, **interval, "num_clips": [level and level["num_clips"] for level in levels]}


def _values(found: Any) -> Any:
    """Figures without their intervals."""
    if isinstance(found, dict):
        return found["value"] if "value" in found else {k: _values(v) for k, v in found.items()}
    return [_values(v) for v in found] if isinstance(found, list) else found


def run_one(args: argparse.Namespace, variant: str, seed: int, commit: str) -> dict[str, Any]:
    """One run to its figures: from nothing, or from where it was trained before."""
    out = f"runs/{args.name}_{variant}_seed{seed}"
    options = [*VARIANTS[variant], *args.overrides, "--run.seed", str(seed)]
    evaluation = ["--robustness", args.rows, "--num_views", str(args.num_views)]
    if variant in args.trained:
        folder = Path(args.trained[variant].format(seed=seed))
        found = evaluate_one(args, folder, variant, seed)
    else:
        found = train_run.measure(
            out, ["--config", args.config, *options], commit, to_file=args.jobs > 1,
            evaluation=evaluation,
        )  # fmt: skip
    report = json.loads((ROOT / out / "eval_test/robustness.json").read_text())
    return {"variant": variant, "seed": seed, "at_a_time": args.jobs, **found,
            "num_resamples": report["num_resamples"], "rows": compact(report)}  # fmt: skip


def evaluate_one(args: argparse.Namespace, folder: Path, variant: str, seed: int) -> dict[str, Any]:
    """The figures of a run that was trained before. `trained_at` is the commit that did.

    Raises ValueError where the folder holds a run of another method or seed, or one that has not
    ended.
    """
    said = yaml.safe_load((folder / "config.yaml").read_text())
    for key, found, asked in (("mix.method", said["mix"]["method"], VARIANTS[variant][1]),
                              ("run.seed", said["run"]["seed"], seed)):  # fmt: skip
        if found != asked:
            raise ValueError(f"{folder}: {key} is {found}, not {asked}")
    out, began = f"runs/{args.name}_{variant}_seed{seed}", time.perf_counter()
    train_run.script(
        ["eval.py", "--checkpoint", str(folder), "--out", f"{out}/eval_test", "--robustness",
         args.rows, "--num_views", str(args.num_views)], out, args.jobs > 1,
    )  # fmt: skip
    result = json.loads((ROOT / out / "eval_test/result.json").read_text())
    if result["epochs_trained"] != said["optim"]["epochs"]:
        raise ValueError(f"{folder}: {result['epochs_trained']} epochs of training, "
                         f"not {said['optim']['epochs']}")  # fmt: skip
    first = json.loads((folder / "environment.json").read_text())[0]
    return {"trained_at": first["git_commit"],
            **train_run.figures_of(folder, result, time.perf_counter() - began)}  # fmt: skip


def command_of(args: argparse.Namespace) -> str:
    """What repeats the result, without folders of this machine."""
    words = ["python", "benchmarks/robustness.py", "--config", args.config, "--name", args.name,
             "--variants", *args.variants, "--seeds", *seed_words(set(args.seeds)), "--rows",
             args.rows, "--num_views", str(args.num_views)]  # fmt: skip
    words += ["--", *train_run.portable(args.overrides)] if args.overrides else []
    return shlex.join(words)


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", default="configs/demo.yaml", help="YAML file (the demo)")
    parser.add_argument("--name", default=KIND, help="of the result (robustness)")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", default=["0..2"], help="numbers and FIRST..LAST")
    parser.add_argument("--trained", nargs="+", default=[], metavar="VARIANT=FOLDER",
                        help="runs to evaluate only; {seed} stands for the number")  # fmt: skip
    parser.add_argument("--rows", default=ALL, help=f"of {', '.join(ROBUSTNESS_ROWS)} (all)")
    parser.add_argument("--num_views", type=int, default=1, help="as of eval.py (1)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (1)")
    provenance.add_option(parser)
    parser.add_argument("overrides", nargs="*", help="after --: options of train.py")
    args = parser.parse_args()
    try:
        args.seeds = seed_numbers(args.seeds)
        args.trained = dict(word.split("=", 1) for word in args.trained)
        if unknown := args.trained.keys() - args.variants:
            raise ValueError(f"--trained {min(unknown)}: not among --variants")
        rows_asked_for(args.rows)
    except ValueError as error:
        parser.error(str(error))
    return args


def main() -> None:
    """Run what is not in the result yet."""
    args = arguments()
    origin = provenance.measured(args, KIND)
    commit, path = origin["commit"], RESULTS / f"{args.name}.json"
    settings = {"config": args.config, "overrides": train_run.portable(args.overrides),
                "rows": args.rows, "num_views": args.num_views}  # fmt: skip
    result = train_run.earlier(path, settings, commit) or {"trained": []}
    result = {"kind": KIND, **settings, "measured": origin, "hardware": cpu_name(),
              "command": command_of(args), "trained": result["trained"]}  # fmt: skip
    done = {(run["variant"], run["seed"]) for run in result["trained"]}
    waiting = [(variant, seed) for seed in args.seeds for variant in args.variants
               if (variant, seed) not in done]  # fmt: skip
    order = list(VARIANTS)

    def keep(run: dict[str, Any]) -> None:
        runs = [*result["trained"], run]
        result["trained"] = sorted(runs, key=lambda r: (order.index(r["variant"]), r["seed"]))
        result_files.write(path, result)
        print(f"wrote {path.name}: {len(runs)} runs", flush=True)

    train_run.run_all(waiting, lambda job: run_one(args, *job, commit), keep, jobs=args.jobs)


if __name__ == "__main__":
    main()
