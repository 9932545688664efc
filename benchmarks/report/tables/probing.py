"""Tables of benchmarks/probe.py and extraction.py: linear classifiers on frozen features, and what
computing these costs."""

from typing import Any

from avmix.system.printing import counted
from report.tables.cells import machine_lines, table

HEADS = ("video", "audio", "concatenated", "average", "fused")
HELD_OUT = ("video", "fused")
"""Of which the score of held-out clips is shown, too."""


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
                *(_cell(heads[h], "cv_top1", "cv_half_interval") for h in HELD_OUT),
                *(_cell(heads[h], "top1", "half_interval") for h in HEADS),
            ]
        )
    held_out = [f"held out: {head}" for head in HELD_OUT]
    headings = ["window", "fitted on", "split", "C", *held_out, *HEADS]
    half = " and ".join(f"{100 * v:.3f} % ({n})" for n, v in result["half_difference"].items())
    lines = [
        *table(headings, rows),
        "",
        f"Top-1 on the test split, %, with 95 % intervals: over sources of the test split for all "
        f"clips, over draws for few. Held out: clips of the train split, each judged by a fit "
        f"without its source. {result['num_clips']} clips, {result['bytes_per_clip']:,} "
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


def _cell(head: dict[str, Any], share: str, half_interval: str) -> str:
    half = head[half_interval]
    return f"{100 * head[share]:.1f}" + ("" if half is None else f" ± {100 * half:.1f}")


def extraction_table(result: dict[str, Any]) -> str:
    """A line for each window."""
    rows = [
        [
            arm["window"],
            *(f"{arm['clips_per_second'][name]:.1f}" for name in ("features", "bare loop")),
            f"{arm['ratio']:.2f} ({arm['ratio_quartiles'][0]:.2f} to "
            f"{arm['ratio_quartiles'][1]:.2f})",
        ]
        for arm in result["arms"]
    ]
    first = result["arms"][0]
    lines = [
        *table(["window", "`avmix features`, clips / s", "bare loop, clips / s", "time, bare = 1"],
               rows),
        "",
        f"{result['num_clips']} clips a round, {result['num_rounds']} rounds in turn, medians "
        f"(quartiles); batches of {first['batch_size']}, {counted(first['threads'], 'thread')}, "
        f"{counted(first['num_workers'], 'loader process')}.",
        *machine_lines(result),
        "",
    ]  # fmt: skip
    return "\n".join(lines)
