"""Table of benchmarks/unseen_pairs.py: pairs that were trained on, and pairs that never were."""

from statistics import mean
from typing import Any

from report.tables.cells import table

_SPLITS = {"test": "trained on", "unseen": "never trained on"}


def unseen_pairs_table(result: dict[str, Any]) -> str:
    """A line for each way of mixing and each split: means over seeds."""
    rows = []
    for arm in result["options"]:
        here = [one["found"] for one in result["networks"] if one["arm"] == arm]
        for split, title in _SPLITS.items():
            found = [one[split] for one in here]
            if found:
                cells = [_cell([f[row]["exact"] for f in found])
                         for row in ("fused", "video head", "audio head")]  # fmt: skip
                rows.append([arm, title, str(len(found)), *cells])
    headings = ["", "pairs", "seeds", "motion and noise right %", "motion, video head %",
                "noise, audio head %"]  # fmt: skip
    return "\n".join([
        *table(headings, rows), "",
        "`exact`, means over seeds, in brackets the 95 % interval over sources, the mean over "
        f"seeds of each end. `{result['config']}` on `avmix prepare toy --factors`.", "",
    ])  # fmt: skip


def _cell(figures: list[dict[str, Any]]) -> str:
    said = f"{100 * mean(f['value'] for f in figures):.1f}"
    if any(f["low"] is None for f in figures):
        return said
    ends = [100 * mean(f[end] for f in figures) for end in ("low", "high")]
    return f"{said} ({ends[0]:.1f} to {ends[1]:.1f})"
