"""Tables of benchmarks/few_shot_features.py and benchmarks/trained_features.py: training on kept
features."""

import itertools
from statistics import mean
from typing import Any

from report.tables.cells import mean_percent, table

_ROWS = ("fused", "video head", "audio head")


def few_shot_training_table(result: dict[str, Any]) -> str:
    """A line for each number of clips and each arm: means over splits, intervals over seeds."""
    rows = []
    for shots in dict.fromkeys(run["shots"] for run in result["trained"]):
        runs = [run for run in result["trained"] if run["shots"] == shots]
        plain = _by_seed(runs, next(iter(result["options"])), "fused")
        for arm in result["options"]:
            fused = _by_seed(runs, arm, "fused")
            gain = {seed: value - _by_seed(runs, arm, "video head")[seed]
                    for seed, value in fused.items()}  # fmt: skip
            change = [value - plain[seed] for seed, value in fused.items()]
            splits = sorted({run["split"] for run in runs})
            rows.append([
                f"{shots} a class" if shots else "all", arm,
                *(mean_percent([*_by_seed(runs, arm, row).values()]) for row in _ROWS),
                "-" if arm == next(iter(result["options"])) else mean_percent(change, sign=True),
                mean_percent([*gain.values()], sign=True),
                " / ".join(f"{100 * _of_split(runs, arm, split):.1f}" for split in splits),
            ])  # fmt: skip
    headings = ["clips", "trained with", "fused", "video head", "audio head",
                "against no mixing", "fused - video", "fused by split"]  # fmt: skip
    epochs = ", ".join(f"{n} ({'all clips' if s == '0' else f'{s} a class'})"
                       for s, n in result["epochs"].items())  # fmt: skip
    splits = sorted({run["split"] for run in result["trained"]})
    of_splits = "mean over seeds"
    if len(splits) > 1:
        of_splits = "mean over the three official splits of each seed, then over seeds"
    of_all = ""
    if any(run["shots"] == 0 for run in result["trained"]):
        of_all = (" of all clips, it is of the training alone, and the interval says nothing of "
                  "other clips.")  # fmt: skip
    return "\n".join([
        *table(headings, rows), "",
        f"Top-1 on the test split, %: {of_splits}, with 95 % intervals over seeds (t "
        "distribution). Of few clips, each seed draws others, by source"
        f"{';' if of_all else '.'}{of_all} Epochs: {epochs}; the last one is evaluated. "
        f"`{result['config']}`.", "",
    ])  # fmt: skip


def few_shot_training_summary(result: dict[str, Any]) -> str:
    """A line for each way of mixing, few clips only."""
    few = [run for run in result["trained"] if run["shots"]]
    shots = list(dict.fromkeys(run["shots"] for run in few))

    def cells(arm: str, row: str) -> list[str]:
        return [mean_percent([*_by_seed([r for r in few if r["shots"] == s], arm, row).values()])
                for s in shots]  # fmt: skip

    rows = [[arm, *cells(arm, "fused"), *cells(arm, "video head")] for arm in result["options"]]
    headings = ["trained with", *(f"{row}, {s} clips a class" for row in ("fused", "video head")
                                  for s in shots)]  # fmt: skip
    return "\n".join([
        *table(headings, rows), "",
        "Top-1 on the test split, %: mean over three official splits, 95 % intervals over "
        f"{len({run['seed'] for run in few})} draws by source (t distribution).", "",
    ])  # fmt: skip


def trained_features_table(result: dict[str, Any]) -> str:
    """A line for each split with what was chosen for it, and their mean."""
    rows = []
    splits = sorted({run["split"] for run in result["trained"]})
    arms = [arm for arm in ("trained", "guarded") if result.get(arm)]
    for split in splits:
        options = result["chosen"][str(split)]
        held = [run["scores"]["fused"]["top1"] for run in result["tried"]
                if run["split"] == split and run["options"] == options]  # fmt: skip
        cells = [_judged([run for run in result[arm] if run["split"] == split]) for arm in arms]
        rows.append([str(split), *(f"{value:g}" for value in options.values()),
                     f"{100 * mean(held):.1f}", *itertools.chain(*cells)])  # fmt: skip
    whole = [_judged(result[arm]) for arm in arms]
    rows.append(["mean", *[""] * len(result["grid"]), "", *itertools.chain(*whole)])
    grid = "; ".join(f"`{key}` {', '.join(f'{value:g}' for value in values)}"
                     for key, values in result["grid"].items())  # fmt: skip
    held_out = len({run["holdout_seed"] for run in result["tried"]})
    seeds = len({run["seed"] for run in result["trained"]})
    headings = [*_ROWS, "fused - best head"]
    guarded = ""
    if "guarded" in arms:
        headings += [f"guarded: {heading}" for heading in headings]
        guarded = (
            " Guarded: the same networks with `avmix guard`, fitted to what networks with the same "
            f"options say of the sources that each was trained without ({held_out} choices)."
        )
    return "\n".join([
        *table(["split", *(f"`{key}`" for key in result["grid"]), "held out: fused", *headings],
               rows), "",
        f"Top-1, %, mean over {seeds} seeds with 95 % intervals over them (t distribution), "
        f"which say nothing of other clips. Chosen in each split from {grid}, by the mean of the "
        f"fused head on {held_out} choices of held-out sources of its train split "
        f"(`data.holdout {result['holdout']:g}`). Otherwise `{result['config']}` with "
        f"`{' '.join(result['fixed'])}`.{guarded}", "",
    ])  # fmt: skip


def _judged(runs: list[dict[str, Any]]) -> list[str]:
    """Top-1 of each row, means over splits of each seed, and fused - best head."""
    seeds = sorted({run["seed"] for run in runs})
    top1 = {row: [mean(run["scores"][row]["top1"] for run in runs if run["seed"] == seed)
                  for seed in seeds] for row in _ROWS}  # fmt: skip
    better = mean(top1["fused"]) - max(mean(top1[row]) for row in _ROWS[1:])
    return [*(mean_percent(top1[row]) for row in _ROWS), f"{100 * better:+.1f}"]


def _by_seed(runs: list[dict[str, Any]], arm: str, row: str) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for run in runs:
        if run["arm"] == arm:
            found.setdefault(run["seed"], []).append(run["scores"][row]["top1"])
    return {seed: mean(values) for seed, values in found.items()}


def _of_split(runs: list[dict[str, Any]], arm: str, split: int) -> float:
    return mean(run["scores"]["fused"]["top1"] for run in runs
                if run["arm"] == arm and run["split"] == split)  # fmt: skip
