"""Table of benchmarks/balance.py: each method of balancing beside uniform losses."""

from statistics import mean, median
from typing import Any

from balancing.arms import BASELINE, PASSES

from report.tables.cells import half_interval, mean_percent, table

_ROWS = ("fused", "video head", "audio head", "audio missing", "video missing", "gain", "mu")


def balance_table(result: dict[str, Any]) -> str:
    """A line for each number of clips, way of mixing and method: means over splits, intervals over
    seeds, of the runs that all methods have."""
    runs, lines, better, worse, compared = _whole(result["trained"]), [], 0, 0, 0
    if not runs:
        return "Not measured yet: no seed of all methods is there.\n"
    cells = sorted({(run["shots"], run["mixing"]) for run in runs})
    for shots, mixing in cells:
        here = [run for run in runs if (run["shots"], run["mixing"]) == (shots, mixing)]
        base = _by_seed(here, BASELINE, "fused")
        base_ms = median(run["ms_per_step"] for run in here if run["arm"] == BASELINE)
        for arm, passes in PASSES.items():
            change = [value - base[seed] for seed, value in _by_seed(here, arm, "fused").items()]
            if arm != BASELINE and len(change) > 1:
                compared += 1
                better += mean(change) - half_interval(change) > 0
                worse += mean(change) + half_interval(change) < 0
            ms = median(run["ms_per_step"] for run in here if run["arm"] == arm)
            values = {row: [*_by_seed(here, arm, row).values()] for row in _ROWS}
            lines.append([
                str(shots), mixing, arm, mean_percent(values["fused"]),
                "-" if arm == BASELINE else mean_percent(change, sign=True),
                *(f"{100 * mean(values[row]):.1f}" for row in _ROWS[1:5]),
                mean_percent(values["gain"], sign=True), f"{100 * mean(values['mu']):.1f}",
                passes, f"{ms / base_ms:.1f}",
            ])  # fmt: skip
    headings = ["clips a class", "mixing", "method", "fused", "against 2", *_ROWS[1:5], "gain",
                "mu", "passes over a batch", "time of a step, 2 = 1"]  # fmt: skip
    seeds, splits = {run["seed"] for run in runs}, {run["split"] for run in runs}
    fixed = result["fixed"]
    grids = "; ".join(f"{name}: `{one['tuned'].replace(',', '`, `')}` "
                      f"{', '.join(f'{value:g}' for value in one['grid'])}"
                      for name, one in result["arms"].items())  # fmt: skip
    return "\n".join([
        f"Of {compared} comparisons with uniform losses (2), {better} are surely better, {worse} "
        "surely worse: their 95 % interval is on that side of 0, as by chance alone in one of "
        "twenty.", "",
        *table(headings, lines), "",
        f"Top-1 on the test split, %: mean over {_count(len(splits), 'official split')} of each "
        f"seed, then over {_count(len(seeds), 'seed')}, each of which draws other clips by source; "
        "95 % intervals over seeds (t distribution), of `against 2` of the differences seed by "
        "seed. gain: fused minus the better head, points; mu: modality confusion, %. Missing: "
        "the fused head without that modality. Networks: a linear "
        f"projection of each modality to {fixed['shared_width']} features and linear heads on kept "
        f"features; {fixed['epochs']} epochs. Held-out sources (`data.holdout "
        f"{fixed['holdout']:g}`) of each train split chose one of three values for each method, "
        f"split, number of clips and way of mixing: {grids}. UMT learns from the two networks "
        f"that 3 averages. Otherwise `{result['config']}`.", "",
    ])  # fmt: skip


def _whole(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Runs of the seeds for which every method was trained in every cell that any was."""
    cells = {(run["split"], run["shots"], run["mixing"]) for run in runs}
    wanted = len(cells) * len(PASSES)
    count = {seed: sum(run["seed"] == seed for run in runs) for seed in {r["seed"] for r in runs}}
    return [run for run in runs if count[run["seed"]] == wanted]


def _by_seed(runs: list[dict[str, Any]], arm: str, row: str) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for run in runs:
        if run["arm"] == arm:
            found.setdefault(run["seed"], []).append(run["scores"][row])
    return {seed: mean(values) for seed, values in found.items()}


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
