"""Figure of predictions along a file: probabilities of its classes over time, by each head."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from avmix.evaluation.figures import INK
from avmix.evaluation.file_prediction import FilePrediction
from avmix.system.printing import drawable, shortened

_MOST_CLASSES = 6
"""Classes that are drawn: those with the highest fused probability anywhere."""
_NAME_LETTERS = 32
_COLOURS = ("#2a6f97", "#e07a1f", "#6a4c93", "#3a9d5d", "#b5334a", "#777777")


def output_names(paths: Sequence[str]) -> list[str]:
    """Name for what is written of each file, all different, of letters that any disk takes."""
    names: list[str] = []
    for path in paths:
        stem = re.sub(r"[^\w.-]", "_", Path(path).stem)[:100].lstrip(".") or "file"
        name, number = stem, 2
        while name.lower() in {other.lower() for other in names}:
            name, number = f"{stem}_{number}", number + 1
        names.append(name)
    return names


def draw_timeline(windows: Sequence[FilePrediction], out: Path) -> None:
    """Draw windows of one file, at least one: a panel for each head, probability at the middle of
    each window. Where a window lacks a modality the line of that head is interrupted."""
    first = windows[0]
    fused = np.stack([window.fused for window in windows])
    order = np.argsort(-fused.max(0), kind="stable")[:_MOST_CLASSES]
    seconds = [(window.start_seconds + window.end_seconds) / 2 for window in windows]
    figure = Figure(figsize=(10, 6.2), layout="constrained")
    figure.suptitle(drawable(shortened(first.path, 100)), color=INK, fontsize=11)
    panels = figure.subplots(3, 1, sharex=True, sharey=True)
    nothing = np.full(len(first.classes), np.nan)
    for axes, head in zip(panels, ("fused", "video", "audio"), strict=True):
        values = [getattr(window, head) for window in windows]
        lines = np.stack([nothing if value is None else value for value in values])
        for colour, k in zip(_COLOURS, order, strict=False):
            name = drawable(shortened(first.classes[k], _NAME_LETTERS))
            axes.plot(seconds, lines[:, k], color=colour, marker=".", markersize=4, linewidth=1.3,
                      label=name)  # fmt: skip
        if all(value is None for value in values):
            axes.text(0.5, 0.5, f"no {head}", ha="center", va="center", transform=axes.transAxes,
                      color=INK)  # fmt: skip
        axes.set_ylabel(head, fontsize=9)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlim(first.start_seconds, max(window.end_seconds for window in windows))
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
    panels[-1].set_xlabel("seconds (middle of each window)", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
    figure.savefig(out, dpi=100)
