"""Figures in which each seed is a dot: what a median and a range leave out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from matplotlib.figure import Figure
from PIL import Image

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
    """Write a PNG that carries `sha256`, the hash of the results it was drawn from."""
    figure = Figure(figsize=(8, 1.3 + 0.55 * len(what.rows)), layout="constrained")
    axes = figure.add_subplot()
    for at, (label, values, median) in enumerate(what.rows):
        heights = [at + _lift(number) for number in range(len(values))]
        axes.scatter([100 * v for v in values], heights, s=28, c=_DOT, alpha=0.65, linewidths=0)
        axes.plot([100 * median] * 2, [at - 0.36, at + 0.36], c=_LINE, lw=2.5)
        if label in what.ceilings:
            axes.plot([100 * what.ceilings[label]] * 2, [at - 0.45, at + 0.45], c=_INK, ls="--")
    axes.axvline(100 * what.chance, c=_INK, ls="--", lw=1)
    axes.text(100 * what.chance, -0.62, " chance", fontsize=10, va="center", color=_INK)
    axes.set(ylim=(len(what.rows) - 0.45, -0.8), xlim=(0, 101.5))
    axes.set_yticks(range(len(what.rows)), [label for label, _, _ in what.rows], fontsize=11)
    axes.tick_params(axis="x", labelsize=11)
    axes.grid(axis="x", color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    dashed = "; dashed in a row: best possible on average" if what.ceilings else ""
    axes.set_title(what.title + dashed, fontsize=11, loc="left")
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
