"""Tables of benchmarks/seeds.py: one configuration by row, or several by variant."""

from collections.abc import Sequence
from typing import Any

from training.train_run import FAILED

from report.dots import Dots
from report.tables.cells import FEW, Summary, numbers, percent, span, spread, summary, table

HEADS = ("fused", "video head", "audio head")


def scores_table(result: dict[str, Any]) -> str:
    """Markdown: a line for each row of the evaluation, then what the numbers are of."""
    runs = result["runs"]
    last = "mean ± sd" if len(runs) >= FEW else "each"
    rows = []
    for name in runs[0]["scores"]:
        top1, nll, ece = (over_seeds(runs, name, metric) for metric in ("top1", "nll", "ece"))
        means = [f"{found.median:.2f}" if found else "-" for found in (nll, ece)]
        rows.append([name, *_range(top1), spread(top1) if top1 else "-", *means])
    headings = ["", "median top-1 %", "min", "max", last, "NLL, median", "ECE, median"]
    return "\n".join([*table(headings, rows), "", about([result]), ""])


def variants_table(results: Sequence[dict[str, Any]]) -> str:
    """Markdown: a line for each variant of a configuration, then what the numbers are of."""
    rows = []
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
            ]
        )
    headings = ["", "seeds", "failures", "fused: median top-1 %", "min", "max", 
                "video head: median", "audio head: median"]  # fmt: skip
    return "\n".join([*table(headings, rows), "", about(results), ""])


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
        f"{len(r['runs'])} seeds ({numbers([run['seed'] for run in r['runs']])})" for r in results
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
