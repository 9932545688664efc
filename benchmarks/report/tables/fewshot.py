"""Table of benchmarks/fewshot.py: few clips alone, and with their re-pairings."""

from collections.abc import Sequence
from typing import Any

from report.dots import Dots
from report.tables.cells import Summary, percent, span, summary, table

ARMS = {"plain": "these clips", "repair": "these and their re-pairings"}
HEADS = ("fused", "video head", "audio head")


def fewshot_table(result: dict[str, Any]) -> str:
    """A line per number of clips and arm, and one for the difference of the pairs of runs."""
    runs, rows = result["runs"], []
    for shots in sorted({run["shots"] for run in runs}):
        cells = [(title, cell(runs, shots, arm), clips(runs, shots, arm))
                 for arm, title in ARMS.items()]  # fmt: skip
        for title, found, num in [*cells, ("*difference*", differences(runs, shots), "")]:
            if found:
                number = len(found["fused"].values)
                said = [_median(found[head]) for head in HEADS]
                rows.append([str(shots), title, num, *said, str(number)])
    first, added = runs[0], [run["num_made"] for run in runs if run["arm"] == "repair"]
    headings = ["real clips per class", "trained on", "clips: real + synthetic",
                "fused: median top-1 % (min to max)", "video head", "audio head",
                "runs"]  # fmt: skip
    lines = [
        *table(headings, rows),
        "",
        f"`{first['protocol']}`, {first['split']} split, {first['num_evaluated']} clips evaluated, "
        f"{first['num_views']} views, last epoch; over seeds, each of which chooses clips, pairs "
        "and weights; differences are of the pairs of runs of one seed. "
        f"`{result['config']}`, {span([run['num_steps'] for run in runs], 0)} steps of "
        f"{span([run['batch_size'] for run in runs], 0)} clips in both arms; "
        f"{span(added, 0) if added else 0} clips added. "
        f"{span([run['train_minutes'] for run in runs], 1)} minutes of training per run on "
        f"{first['environment']['cores']} CPU cores.",
        "",
    ]
    return "\n".join(lines)


def cell(runs: Sequence[dict[str, Any]], shots: int, arm: str) -> dict[str, Summary]:
    """Top-1 of each head; empty where there is no such run."""
    some = [run for run in runs if (run["shots"], run["arm"]) == (shots, arm)]
    some.sort(key=lambda run: run["seed"])
    return {h: summary([run["scores"][h]["top1"] for run in some]) for h in HEADS if some}


def clips(runs: Sequence[dict[str, Any]], shots: int, arm: str) -> str:
    """How many real and how many synthetic clips the runs were trained on; empty without any."""
    some = [run for run in runs if (run["shots"], run["arm"]) == (shots, arm)]
    if not some:
        return ""
    made = [run["num_made"] if arm == "repair" else 0 for run in some]
    real = [run["num_clips"] - n for run, n in zip(some, made, strict=True)]
    return f"{span(real, 0)} + {span(made, 0)}"


def differences(runs: Sequence[dict[str, Any]], shots: int) -> dict[str, Summary]:
    """Of top-1, `repair` minus `plain`, of the seeds that have both; empty where none has."""
    top1 = {(run["arm"], run["seed"]): run["scores"] for run in runs if run["shots"] == shots}
    pairs = sorted(s for arm, s in top1 if arm == "plain" and ("repair", s) in top1)
    return {
        h: summary([top1["repair", s][h]["top1"] - top1["plain", s][h]["top1"] for s in pairs])
        for h in HEADS
        if pairs
    }


def _median(found: Summary) -> str:
    return f"{percent(found.median)} ({percent(found.least)} to {percent(found.most)})"


def dots(result: dict[str, Any]) -> Dots:
    """The figure: top-1 of the fused head of each run."""
    runs = result["runs"]
    rows = [
        (f"{shots} per class: {title}", cell(runs, shots, arm)["fused"])
        for shots in sorted({run["shots"] for run in runs})
        for arm, title in ARMS.items()
        if cell(runs, shots, arm)
    ]
    return Dots(
        title="top-1 % of the fused head; each dot is a seed, the line is the median",
        rows=tuple((name, found.values, found.median) for name, found in rows),
        chance=max(run["chance"] for run in runs),
        ceilings={},
    )
