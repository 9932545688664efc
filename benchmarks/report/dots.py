"""Figures in which each seed is a dot: what a median and a range leave out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from avmix.system.printing import drawable, shortened

MOST_NAMES = 40
"""Rows up to which the figure names each, and grows with their number."""
_NAME_LETTERS, _TITLE_LETTERS = 40, 110
_KEY = "sha256 of the results"
_INK, _DOT, _LINE = "#222222", "#2a6f97", "#e07a1f"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dots:
    """What is drawn; shares of 1."""

    alt: ClassVar[str] = "Each seed as a dot"
    title: str
    rows: tuple[tuple[str, tuple[float, ...], float], ...]
    """Label, value of each seed, and their median; from the top."""
    chance: float
    """A dashed line through all rows."""
    ceilings: Mapping[str, float]
    """Best possible value of a row, by label: a dashed line in it."""


def draw(what: Dots, path: Path, sha256: str) -> None:
    """Write a PNG that carries `sha256`, the hash of the results it was drawn from.

    At most 900 by 2,600 pixels: of more than `MOST_NAMES` rows none has a name.
    """
    num_rows = len(what.rows)
    named = num_rows <= MOST_NAMES
    figure = Figure(figsize=(8, 1.3 + 0.55 * min(num_rows, MOST_NAMES)), layout="constrained")
    axes = figure.add_subplot()
    dots = [
        (100 * value, at + _lift(number))
        for at, (_, values, _) in enumerate(what.rows)
        for number, value in enumerate(values)
    ]
    axes.scatter(*zip(*dots, strict=True), s=28, c=_DOT, alpha=0.65, linewidths=0)
    at = np.arange(num_rows)
    axes.vlines([100 * median for *_, median in what.rows], at - 0.36, at + 0.36, color=_LINE,
                lw=2.5)  # fmt: skip
    for row, (label, *_) in enumerate(what.rows):
        if label in what.ceilings:
            axes.plot([100 * what.ceilings[label]] * 2, [row - 0.45, row + 0.45], c=_INK, ls="--")
    axes.axvline(100 * what.chance, c=_INK, ls="--", lw=1)
    axes.text(100 * what.chance, -0.62, " chance", fontsize=10, va="center", color=_INK)
    axes.set(ylim=(num_rows - 0.45, -0.8), xlim=(0, 101.5))
    if named:
        names = [drawable(shortened(label, _NAME_LETTERS)) for label, *_ in what.rows]
        axes.set_yticks(at, names, fontsize=11)
    else:
        axes.set_yticks([])
        axes.set_ylabel("rows of the table, from the top", fontsize=11)
    axes.tick_params(axis="x", labelsize=11)
    axes.grid(axis="x", color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    dashed = "; dashed in a row: best possible on average" if what.ceilings else ""
    title = drawable(shortened(what.title + dashed, _TITLE_LETTERS))
    axes.set_title(title, fontsize=11, loc="left")
    save(figure, path, sha256)


def save(figure: Figure, path: Path, sha256: str) -> None:
    """Write a PNG that carries the hash of the results it was drawn from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, facecolor="white", metadata={_KEY: sha256})


def drawn_from(path: Path) -> str | None:
    """The hash that a figure carries; None where there is none."""
    if not path.exists():
        return None
    with Image.open(path) as image:
        return image.info.get(_KEY)


def _lift(number: int) -> float:
    """Dots of a row apart from each other, the same every time: steps of the golden ratio."""
    return 0.5 * ((number * 0.618034) % 1) - 0.25
