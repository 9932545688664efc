"""Tables of benchmarks/mixing_that_knows.py: ways of mixing, and what is in place of a missing
feature."""

from statistics import mean
from typing import Any

from report.tables.cells import mean_percent, table


def knowing_mixes_tables(result: dict[str, Any]) -> str:
    """A line for each number of clips and each way of mixing; then one for each thing in place of a
    missing feature. Draws that are not complete for all arms are left out."""
    arms = list(result["options"])
    mixes = [arm for arm in arms if not arm.startswith("dropout")]
    missing = [arm for arm in arms if arm.startswith("dropout")]
    splits = sorted({run["split"] for run in result["trained"]})
    parts, counts = [], []
    for some, rows, against in (
        (mixes, ("fused", "video head", "audio head"), ("no mixing", "mixup@feature")),
        (missing, ("fused", "audio missing", "video missing"), ("dropout, mask",)),
    ):
        lines = []
        for shots in dict.fromkeys(run["shots"] for run in result["trained"]):
            runs = [run for run in result["trained"] if run["shots"] == shots]
            seeds = _complete(runs, arms, splits)
            counts.append(len(seeds))
            found = {arm: {row: _by_seed(runs, arm, row, seeds) for row in rows} for arm in some}
            for arm in some:
                cells = [mean_percent(found[arm][row]) for row in rows]
                for base in against:
                    for row in rows if len(against) == 1 else rows[:1]:
                        pairs = zip(found[arm][row], found[base][row], strict=True)
                        change = mean_percent([a - b for a, b in pairs], sign=True)
                        cells.append("-" if arm == base else change)
                lines.append([f"{shots} a class", arm.removeprefix("dropout, "), *cells])
        more = [f"fused, against {base}" for base in against]
        if len(against) == 1:
            more = [f"{row}, against mask" for row in rows]
        first = "trained with" if len(against) == 2 else "`model.missing`"
        parts += [*table(["clips", first, *rows, *more], lines), ""]
    draws = f"{min(counts)}" if len({*counts}) == 1 else f"{min(counts)} to {max(counts)}"
    epochs = ", ".join(f"{n} ({s} a class)" for s, n in result["epochs"].items())
    return "\n".join([
        *parts,
        f"Top-1 on the test split, %: mean over {len(splits)} official splits of each draw, then "
        f"over {draws} draws by source; differences are of the same draw. 95 % intervals over "
        f"draws (t distribution). Epochs: {epochs}; the last one is evaluated. "
        f"`{result['config']}`.", "",
    ])  # fmt: skip


def _complete(runs: list[dict[str, Any]], arms: list[str], splits: list[int]) -> list[int]:
    """Seeds of which every arm was trained on every split."""
    there = {(run["seed"], run["arm"], run["split"]) for run in runs}
    return [seed for seed in sorted({run["seed"] for run in runs})
            if all((seed, arm, split) in there for arm in arms for split in splits)]  # fmt: skip


def _by_seed(runs: list[dict[str, Any]], arm: str, row: str, seeds: list[int]) -> list[float]:
    return [mean(run["scores"][row]["top1"] for run in runs
                 if run["arm"] == arm and run["seed"] == seed) for seed in seeds]  # fmt: skip
