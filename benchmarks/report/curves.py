"""Figures with a panel for each quantity: runs as lines over the steps of training, and methods as
lines over the levels of a corruption."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelLine:
    """One method."""

    group: int
    """Its number in `LevelCurves.groups`."""
    values: tuple[tuple[float, ...], ...]
    """For each level a share of 1 for each seed; none where it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelPanel:
    """One corruption."""

    title: str
    unit: str
    levels: tuple[float, ...]
    """In the order of the axis; evenly spaced, whatever they are."""
    lines: tuple[LevelLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelCurves:
    """What is drawn, three panels in a row."""

    alt: ClassVar[str] = "Top-1 of each mixing method over the levels of each corruption"
    groups: tuple[str, ...]
    """For the legend, at most four."""
    panels: tuple[LevelPanel, ...]
    chance: float


_METHODS = (("#555555", "o"), ("#6a4c93", "s"), ("#e07a1f", "^"), ("#2a6f97", "D"))
"""Colour and mark of each group."""


def draw_level_curves(what: LevelCurves, path: Path, sha256: str) -> None:
    """Mean over seeds as a line, the least to the most as a band. Writes a PNG that carries
    `sha256`, the hash of the results it was drawn from."""
    num_rows = -(-len(what.panels) // 3)
    figure = Figure(figsize=(12, 0.8 + 3 * num_rows), layout="constrained")
    for number, panel in enumerate(what.panels, 1):
        axes = figure.add_subplot(num_rows, 3, number)
        places = range(len(panel.levels))
        for line in panel.lines:
            colour, mark = _METHODS[line.group]
            seeds = [[100 * value for value in values] or [nan] for values in line.values]
            axes.plot(places, [sum(s) / len(s) for s in seeds], c=colour, marker=mark, ms=4, lw=1.6)
            axes.fill_between(places, [min(s) for s in seeds], [max(s) for s in seeds],
                              color=colour, alpha=0.15, lw=0)  # fmt: skip
        axes.axhline(100 * what.chance, c=_INK, ls="--", lw=1)
        axes.set_xticks(places, [f"{level:g}" for level in panel.levels])
        axes.set_ylim(0, 102)
        axes.set_title(panel.title, fontsize=12, loc="left")
        axes.set_xlabel(panel.unit, fontsize=11)
        axes.set_ylabel("top-1 %", fontsize=11)
        axes.grid(color="#dddddd")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    shown = [Line2D([], [], c=c, marker=m, lw=2) for c, m in _METHODS[: len(what.groups)]]
    figure.legend(
        handles=[*shown, Line2D([], [], c=_INK, ls="--")], labels=[*what.groups, "chance"],
        loc="outside upper left", ncols=len(what.groups) + 1, fontsize=11, frameon=False,
    )  # fmt: skip
    save(figure, path, sha256)
