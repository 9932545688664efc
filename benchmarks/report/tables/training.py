"""Tables of benchmarks/seeds.py: one configuration by row, or several by variant."""

from collections.abc import Sequence
from typing import Any

from training.train_run import FAILED

from avmix.system.printing import counted
from report.dots import Dots
from report.tables.cells import FEW, Summary, numbers, percent, span, spread, summary, table

HEADS = ("fused", "video head", "audio head")
FUSION = {"gain": ("fusion gain, points", "+"), "mu": ("modality confusion, %", "")}
"""Figures of fusion in the tables: what they are called, and whether they have a sign."""


def scores_table(result: dict[str, Any]) -> str:
    """Markdown: a line for each row of the evaluation, then what the numbers are of."""
    runs = result["runs"]
    last = "mean ± sd" if len(runs) >= FEW else "each"
    rows = []
    for name in runs[0]["scores"]:
        top1, nll, ece = (over_seeds(runs, name, metric) for metric in ("top1", "nll", "ece"))
        means = [f"{found.median:.2f}" if found else "-" for found in (nll, ece)]
        rows.append([name, *_range(top1), spread(top1) if top1 else "-", *means])
    for name, (what, sign) in FUSION.items():
        if found := fusion_over_seeds(runs, name):
            cells = [f"{100 * value:{sign}.1f}" for value in
                     (found.median, found.least, found.most)]  # fmt: skip
            rows.append([what, *cells, spread(found), "-", "-"])
    headings = ["", "median top-1 %", "min", "max", last, "NLL, median", "ECE, median"]
    said = " ".join([about([result]), *about_fusion([result])])
    return "\n".join([*table(headings, rows), "", said, ""])


def variants_table(results: Sequence[dict[str, Any]]) -> str:
    """Markdown: a line for each variant of a configuration, then what the numbers are of.

    The columns of fusion are left out where no variant has them.
    """
    rows = []
    shown = [name for name in FUSION if any(fusion_over_seeds(r["runs"], name) for r in results)]
    for result in results:
        runs = result["runs"]
        fused, video, audio = (over_seeds(runs, head, "top1") for head in HEADS)
        rows.append(
            [
                title_of(result),
                str(len(runs)),
                failures(runs),
                *_range(fused),
                *(percent(found.median) if found else "-" for found in (video, audio)),
                *(fusion_cell(runs, name) for name in shown),
            ]
        )
    headings = ["", "seeds", "failures", "fused: median top-1 %", "min", "max",
                "video head: median", "audio head: median",
                *(f"{FUSION[name][0]}: median" for name in shown)]  # fmt: skip
    said = " ".join([about(results), *about_fusion(results)])
    return "\n".join([*table(headings, rows), "", said, ""])


def fusion_over_seeds(runs: Sequence[dict[str, Any]], name: str) -> Summary | None:
    """A figure of fusion, in the order of the seeds; None where a run was measured before there
    was any, or has none."""
    found = [run.get("fusion", {}).get(name, {}).get("value") for run in runs]
    return None if None in found else summary(found)


def fusion_cell(runs: Sequence[dict[str, Any]], name: str) -> str:
    """The median over seeds of a figure of fusion, and of either end of its interval."""
    found = fusion_over_seeds(runs, name)
    if found is None:
        return "not measured"
    said = f"{100 * found.median:{FUSION[name][1]}.1f}"
    if ends := fusion_interval(runs, name):
        said += f" ({100 * ends[0]:.1f} to {100 * ends[1]:.1f})"
    return said


def fusion_interval(runs: Sequence[dict[str, Any]], name: str) -> tuple[float, float] | None:
    """Medians over seeds of the two ends of the interval over sources; None where a run has
    none."""
    ends = [[run["fusion"][name][end] for run in runs] for end in ("low", "high")]
    if any(None in values for values in ends):
        return None
    return summary(ends[0]).median, summary(ends[1]).median


def about_fusion(results: Sequence[dict[str, Any]]) -> list[str]:
    """Sentences about the figures of fusion; none where no result has them."""
    there = [r["runs"] for r in results if fusion_over_seeds(r["runs"], "gain")]
    if not there:
        return []
    runs = [run for some in there for run in some]
    clips = [run["fusion"]["gain"]["num_clips"] for run in runs]
    said = [
        "Fusion gain: top-1 of the fused head minus that of the better modality head, on the "
        f"{span(clips, 0)} clips with both modalities; modality confusion: clips of them that a "
        "modality head has right and the fused head wrong."
    ]
    if len(results) > 1:
        said.append("In brackets the 95 % interval over sources, the median over seeds of each "
                    "end.")  # fmt: skip
    elif any(fusion_interval(there[0], name) for name in FUSION):
        of = "; ".join(
            f"{FUSION[name][0].split(',')[0]} {100 * ends[0]:.1f} to {100 * ends[1]:.1f}"
            for name in FUSION
            if (ends := fusion_interval(there[0], name))
        )
        said.append(f"Their 95 % intervals over sources, the median over seeds of each end: {of}.")
    commits = dict.fromkeys(run["evaluated"]["commit"][:7] for run in runs if "evaluated" in run)
    if commits:
        said.append(f"The trained networks were evaluated at commit {', '.join(commits)}.")
    return said


def over_seeds(runs: Sequence[dict[str, Any]], row: str, metric: str) -> Summary | None:
    """A metric of a row of the evaluation, in the order of the seeds; None where the row is about
    no clip."""
    found = [run["scores"][row][metric] for run in runs if run["scores"][row]]
    return summary(found) if found else None


def title_of(result: dict[str, Any]) -> str:
    """Of a variant."""
    return result.get("title") or "as configured"


def failures(runs: Sequence[dict[str, Any]]) -> str:
    """How many runs failed; a question mark where a run does not say."""
    found = [run["failed"] for run in runs]
    return "?" if None in found else str(sum(found))


def about(results: Sequence[dict[str, Any]]) -> str:
    """One paragraph: what was trained and evaluated, how often, how long and on what."""
    runs = [run for result in results for run in result["runs"]]
    first, environment = runs[0], runs[0]["environment"]
    evaluated, missing = ([run[f"num_{key}"] for run in runs] for key in ("evaluated", "missing"))
    minutes, waiting = ([run[key] for run in runs] for key in ("train_minutes", "waiting_share"))
    together = max(run["at_a_time"] for run in runs)
    seeds = dict.fromkeys(
        f"{counted(len(r['runs']), 'seed')} ({numbers([run['seed'] for run in r['runs']])})"
        for r in results
    )
    configs = dict.fromkeys(f"`{result['config']}`" for result in results)
    device = environment["gpu"] or f"{environment['cores']} cores"
    return (
        f"`{first['protocol']}`, {first['split']} split, {span(evaluated, 0)} clips evaluated, "
        f"{span(missing, 0)} missing, {first['num_views']} views, last epoch (nothing is "
        f"selected); {' or '.join(seeds)}. {_failures_sentence(runs)} {', '.join(configs)}: "
        f"{span(minutes, 1)} minutes of training per run (median epoch times epochs"
        f"{f'; up to {together} runs at a time' if together > 1 else ''}), "
        f"{span([100 * share for share in waiting], 0)} % of it waiting for data; "
        f"{results[0]['hardware']}, {device}."
    )


def _failures_sentence(runs: Sequence[dict[str, Any]]) -> str:
    number = failures(runs)
    if number == "?":
        return f"Failures ({FAILED}) were not recorded."
    return f"Failures ({FAILED}): {number} of {len(runs)}."


def _range(found: Summary | None) -> list[str]:
    if found is None:
        return ["-"] * 3
    return [percent(value) for value in (found.median, found.least, found.most)]


def dots(results: Sequence[dict[str, Any]]) -> Dots:
    """The figure of either table: top-1 of each seed by head, or of the fused head by variant."""
    if len(results) > 1:
        rows = [(title_of(result), over_seeds(result["runs"], "fused", "top1"))
                for result in results]  # fmt: skip
        title, ceilings = "top-1 % of the fused head", {}
    else:
        runs = results[0]["runs"]
        rows = [(name, over_seeds(runs, name, "top1")) for name in runs[0]["scores"]]
        title, ceilings = "top-1 %", results[0].get("ceilings", {})
    chance = max(run["chance"] for result in results for run in result["runs"])
    return Dots(
        title=f"{title}; each dot is a seed, the line is the median",
        rows=tuple((name, found.values, found.median) for name, found in rows if found),
        chance=chance,
        ceilings=ceilings,
    )
