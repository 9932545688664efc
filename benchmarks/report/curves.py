"""Figures in which each run is a line: quantities over the steps of training, a panel for each."""

from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import ClassVar

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from report.dots import save

_COLOURS = ("#c1121f", "#e9a23b", "#2a6f97")
"""Of the groups, in their order."""
_INK = "#222222"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One run."""

    group: int
    """Number of its group in `Curves.groups`."""
    steps: tuple[float, ...]
    """Steps of training done."""
    values: tuple[float | None, ...]
    """As many; None: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One quantity."""

    title: str
    unit: str
    """What the axis says, with the unit."""
    lines: tuple[Line, ...]
    logarithmic: bool = False
    level: tuple[str, float] | None = None
    """A dashed line and what it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """What is drawn, two panels in a row."""

    alt: ClassVar[str] = "Each run as a line over the steps of training"
    groups: tuple[str, ...]
    """For the legend, at most three; the first is drawn last, above the others."""
    panels: tuple[Panel, ...]


def draw_curves(what: Curves, path: Path, sha256: str) -> None:
    """Write a PNG that carries `sha256`, the hash of the results it was drawn from."""
    num_rows = -(-len(what.panels) // 2)
    figure = Figure(figsize=(10, 0.6 + 3.4 * num_rows), layout="constrained")
    for number, panel in enumerate(what.panels, 1):
        axes = figure.add_subplot(num_rows, 2, number)
        for line in sorted(panel.lines, key=lambda line: -line.group):
            values = [nan if value is None else value for value in line.values]
            axes.plot(line.steps, values, c=_COLOURS[line.group], lw=1.6, alpha=0.8)
        if panel.level is not None:
            name, level = panel.level
            axes.axhline(level, c=_INK, ls="--", lw=1)
            axes.text(0.01, level, name, transform=axes.get_yaxis_transform(), fontsize=10,
                      ha="left", va="top", color=_INK)  # fmt: skip
        if panel.logarithmic:
            axes.set_yscale("log")
        axes.set_title(panel.title, fontsize=12, loc="left")
        axes.set_xlabel("steps of training", fontsize=11)
        axes.set_ylabel(panel.unit, fontsize=11)
        axes.tick_params(labelsize=10)
        axes.grid(color="#dddddd")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        handles=[Line2D([], [], c=_COLOURS[n], lw=2.5) for n in range(len(what.groups))],
        labels=list(what.groups), loc="outside upper left", ncols=len(what.groups), fontsize=11,
        frameon=False,
    )  # fmt: skip
    save(figure, path, sha256)
