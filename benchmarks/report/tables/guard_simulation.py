"""Table of benchmarks/guard_simulation.py: how often a guarded fusion loses."""

from typing import Any

from report.tables.cells import table


def guard_simulation_table(result: dict[str, Any]) -> str:
    """A line for each world and number of sources."""
    rows = []
    for one in result["conditions"]:
        rows.append([
            one["world"], str(one["sources"]),
            *(f"{100 * one[key]:.0f}" for key in ("fuses", "right_head", "worse_nll", "worse_top1",
                                                  "unguarded_worse_nll", "unguarded_worse_top1")),
            *(f"{100 * one[key]:+.1f}" for key in ("gain_top1", "unguarded_gain_top1")),
            f"{100 * one['most_lost_top1']:.1f}",
        ])  # fmt: skip
    headings = ["truth", "held-out sources", "fuses", "takes the better head", "worse in NLL",
                "worse in top-1", "unguarded: worse in NLL", "unguarded: worse in top-1",
                "gain, top-1", "unguarded: gain", "most lost"]  # fmt: skip
    return "\n".join([
        *table(headings, rows), "",
        f"% of {result['draws']} draws of held-out sources, {result['clips_of_a_source']} clips "
        f"each, {result['classes']} classes, synthetic heads; judged on fresh clips against the "
        "modality head that is better there, at its fitted scale. Worse: by more than "
        f"{result['worse_nll']:g} nats, {100 * result['worse_top1']:g} point. Gains are means over "
        "draws, points; most lost: of any draw.", "",
    ])  # fmt: skip
