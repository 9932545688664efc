"""Table of benchmarks/audio_worth.py: what audio is worth, with and without a guard."""

from collections import Counter
from collections.abc import Sequence
from statistics import mean
from typing import Any

from report.tables.cells import table

_SETUPS = {"features": "UCF101, features", "scratch": "UCF101, from scratch", "demo": "demo"}


def audio_worth_table(result: dict[str, Any]) -> str:
    """A line for each split and each way: means over seeds."""
    rows = []
    for setup in _SETUPS:
        of_setup = [n for n in result["networks"] if n["setup"] == setup]
        for split in sorted({n["split"] for n in of_setup}):
            here = [n for n in of_setup if n["split"] == split]
            for trained_on in ("all", "mixed", "held out"):
                for way in ("plain", "guarded"):
                    found = [n["found"][way] for n in here
                             if n["trained_on"] == trained_on and way in n["found"]]  # fmt: skip
                    if found:
                        title = _SETUPS[setup] + ("" if setup == "demo" else f" {split}")
                        rows.append([title, _way(trained_on, way, setup), *_cells(found)])
    headings = ["", "trained on", "guard takes", "seeds", "fused %", "video %", "audio %",
                "fusion gain, points", "gain NLL, nats", "modality confusion, %"]  # fmt: skip
    configs = ", ".join(f"`{config}`" for config in result["configs"].values())
    return "\n".join([
        *table(headings, rows), "",
        "Test splits; means over seeds, in brackets the 95 % interval over sources, the mean over "
        "seeds of each end (none where fused and better head give the same answers). Gains and "
        "confusion are of clips with both modalities. With and without a guard the network is the "
        f"same. {configs}.{_commits(result)}", "",
    ])  # fmt: skip


def _commits(result: dict[str, Any]) -> str:
    """Which setups were measured at another commit than the last one."""
    last = result["measured"]["commit"]
    other = {n["setup"]: n["commit"] for n in result["networks"] if n["commit"] != last}
    said = "; ".join(f"{_SETUPS[setup]}: at commit {commit[:7]}" for setup, commit in other.items())
    return f" {said}." if said else ""


def _way(trained_on: str, way: str, setup: str) -> str:
    clips = "80 %" if trained_on == "held out" and setup != "demo" else "all"
    clips += ", mixup@feature" if trained_on == "mixed" else ""
    return f"{clips}, guarded" if way == "guarded" else clips


def _cells(found: Sequence[dict[str, Any]]) -> list[str]:
    fits = Counter(
        "pool" if one["fit"]["fuses"] else f"{one['fit']['better']} head"
        for one in found
        if "fit" in one
    )
    takes = ", ".join(name if len(fits) == 1 else f"{name} ({count})"
                      for name, count in fits.items())  # fmt: skip
    top1 = [f"{100 * mean(one['scores'][row]['top1'] for one in found):.1f}"
            for row in ("fused", "video head", "audio head")]  # fmt: skip
    return [takes or "-", str(len(found)), *top1, _figure(found, "gain", 100, "+.1f"),
            _figure(found, "gain_nll", 1, "+.3f"), _figure(found, "mu", 100, ".1f")]  # fmt: skip


def _figure(found: Sequence[dict[str, Any]], name: str, factor: float, how: str) -> str:
    """The mean of a figure with its interval; a seed without an interval has its value as both
    ends."""
    figures = [one["fusion"][name] for one in found]
    value = factor * mean(f["value"] for f in figures)
    said = f"{value + 0.0:{how}}"
    if all(f["low"] is None for f in figures):
        return said
    ends = [factor * mean(f["value"] if f[end] is None else f[end] for f in figures)
            for end in ("low", "high")]  # fmt: skip
    digits = how[-2]
    return f"{said} ({ends[0]:.{digits}f} to {ends[1]:.{digits}f})"
