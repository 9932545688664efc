"""Table of benchmarks/probe.py: linear classifiers on frozen features."""

from typing import Any

from report.tables.cells import table

HEADS = ("video", "audio", "concatenated", "average")


def probe_table(result: dict[str, Any]) -> str:
    """A line for each way of fitting and each official split."""
    rows = []
    for arm in sorted(result["arms"], key=_order(result["arms"])):
        heads = {head["head"]: head for head in arm["heads"]}
        rows.append(
            [
                arm["window"],
                _fitted_on(arm),
                str(arm["split"]),
                _c(arm),
                *(_cell(heads[h]) for h in HEADS),
            ]
        )
    headings = ["window", "fitted on", "split", "C", *HEADS]
    half = " and ".join(f"{100 * v:.3f} % ({n})" for n, v in result["half_difference"].items())
    lines = [
        *table(headings, rows),
        "",
        f"Top-1 on the test split, %, with 95 % intervals: over sources of the test split for all "
        f"clips, over draws for few. {result['num_clips']} clips, {result['bytes_per_clip']:,} "
        f"bytes each; half precision would change features by {half} of their root mean square. "
        f"`{result['config']}` with `{' '.join(result['options'])}`.",
        "",
    ]
    return "\n".join(lines)


def _order(arms: list[dict[str, Any]]) -> Any:
    ways = [_way(arm) for arm in arms]
    return lambda arm: (ways.index(_way(arm)), arm["split"])


def _way(arm: dict[str, Any]) -> tuple[Any, ...]:
    return arm["window"], arm["shots"], arm["by"], arm["draws"], tuple(arm["grid"])


def _fitted_on(arm: dict[str, Any]) -> str:
    if not arm["shots"]:
        return "all clips"
    return f"{arm['shots']} clips a class, by {arm['by']}, {arm['draws']} draws"


def _c(arm: dict[str, Any]) -> str:
    return f"{arm['grid'][0]:g}" if len(arm["grid"]) == 1 else "chosen"


def _cell(head: dict[str, Any]) -> str:
    interval = "" if head["half_interval"] is None else f" ± {100 * head['half_interval']:.1f}"
    return f"{100 * head['top1']:.1f}{interval}"
