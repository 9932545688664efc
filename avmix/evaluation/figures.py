"""Figures: confusion matrices and mixes."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64, UInt8
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, GridSpecFromSubplotSpec
from torch import Tensor

from avmix.system.printing import drawable, shortened

MOST_NAMES = 40
"""Classes up to which a confusion matrix has names and numbers of clips."""
_LARGEST_INCHES = 19.0
_NAME_LETTERS = 32
_LINE_LETTERS, _MOST_LINES = 14, 4
"""Letters per line and number of lines of a label beside a mix."""
INK, OWN, PARTNER, MIXED = "#222222", "#2a6f97", "#e07a1f", "#6a4c93"


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """One row of a figure: frames above the spectrogram of the same seconds."""

    title: str
    frames: UInt8[np.ndarray, "t h w c"]
    frame_seconds: Float[np.ndarray, " t"]
    """Time of each frame, on the axis of the figure."""
    log_mel: Float[np.ndarray, "m f"]
    column_seconds: Float[np.ndarray, " f"]
    """Middle of each column of the spectrogram, on the same axis."""
    labels: Sequence[tuple[str, float, str]]
    """(name, weight, colour) of each class with weight; drawn as a bar whose length is 1."""


def draw_strips(
    strips: Sequence[Strip],
    start_seconds: float,
    end_seconds: float,
    title: str,
    out: Path,
    scale: float = 1.0,
) -> None:
    """Draw rows of frames, spectrogram and label bar on one time axis; writes a PNG, or what the
    ending of `out` says.

    `scale`: size of the frame, not of its letters; 1 is 1,200 pixels wide.
    """
    height = scale * (2.9 * len(strips) + 0.5)
    figure = Figure(figsize=(12 * scale, height), layout="constrained")
    figure.suptitle(drawable(shortened(title, int(120 * scale))), color=INK, fontsize=12)
    column = GridSpec(len(strips), 1, figure=figure)
    rows = [column[number, 0] for number in range(len(strips))]
    low = min(s.log_mel.min() for s in strips)
    high = max(s.log_mel.max() for s in strips)
    for number, (row, strip) in enumerate(zip(rows, strips, strict=True)):
        grid = GridSpecFromSubplotSpec(
            2, 2, subplot_spec=row, height_ratios=(1.15, 1), width_ratios=(10, 1.6)
        )
        frames = figure.add_subplot(grid[0, 0])
        _draw_frames(frames, strip, start_seconds, end_seconds)
        frames.set_title(
            drawable(shortened(strip.title, int(130 * scale))), loc="left", fontsize=10, color=INK
        )
        audio = figure.add_subplot(grid[1, 0], sharex=frames)
        half = np.ptp(strip.column_seconds) / max(1, len(strip.column_seconds) - 1) / 2
        extent = (
            strip.column_seconds[0] - half,
            strip.column_seconds[-1] + half,
            0,
            len(strip.log_mel),
        )
        audio.imshow(strip.log_mel, origin="lower", aspect="auto", extent=extent, cmap="magma",
                     vmin=low, vmax=high)  # fmt: skip
        audio.set_xlim(start_seconds, end_seconds)
        audio.set_ylabel("mel bin", fontsize=8)
        audio.tick_params(labelsize=8)
        if number == len(strips) - 1:
            audio.set_xlabel("seconds in the window", fontsize=9)
        _draw_labels(figure.add_subplot(grid[:, 1]), strip.labels)
    figure.savefig(out, dpi=100)


def _draw_frames(axes, strip: Strip, start: float, end: float) -> None:
    """Every frame at its own time, each as wide as its share of the axis."""
    share = (end - start) / len(strip.frames)
    height, width = strip.frames.shape[1:3]
    for frame, seconds in zip(strip.frames, strip.frame_seconds, strict=True):
        centre = seconds - start
        box = (start + centre - 0.46 * share, start + centre + 0.46 * share, 0, height / width)
        axes.imshow(frame, extent=box, aspect="auto", interpolation="nearest")
        axes.axvline(start + centre, ymax=0.04, color=INK, linewidth=1)
    axes.set_xlim(start, end)
    axes.set_ylim(-0.05, height / width)
    axes.set_yticks([])
    axes.tick_params(labelbottom=False)
    axes.set_facecolor("#f4f4f4")


def _draw_labels(axes, labels: Sequence[tuple[str, float, str]]) -> None:
    """A bar whose length is 1, as wide as a dozen letters: longer names take several lines."""
    bottom = 0.0
    for name, weight, colour in labels:
        axes.bar(0, weight, bottom=bottom, color=colour, width=0.9)
        said = f"{drawable(in_lines(name))}\n{weight:.2f}"
        # Within the bar at either end, also where the share is too small for the text.
        middle = min(max(bottom + weight / 2, 0.08), 0.92)
        axes.text(0, middle, said, ha="center", va="center", fontsize=8,
                  color="white", fontweight="bold")  # fmt: skip
        bottom += weight
    axes.set_ylim(0, 1)
    axes.set_xlim(-0.5, 0.5)
    axes.set_title("label", fontsize=9)
    axes.axis("off")


def in_lines(name: str) -> str:
    """A name in lines of a label, broken after spaces and underscores where that is possible."""
    words = textwrap.wrap(name.replace("_", "_ "), _LINE_LETTERS) or [""]
    lines = [line.replace("_ ", "_") for line in words]
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 1], shortened("".join(lines[_MOST_LINES - 1 :]), 11)]
    return "\n".join(lines)


def draw_confusion(
    confusion: Int64[Tensor, "k k"], classes: Sequence[str], title: str, out: Path
) -> None:
    """Rows are true classes, columns predictions; shares by colour, counts by number.

    At most 2,000 pixels wide. Above `MOST_NAMES` classes the axes have their numbers, in the order
    of the manifest, instead of their names: these could not be read, and to lay them out takes
    minutes and gigabytes (`avmix.evaluation.metrics.most_confused` names the pairs that matter).
    """
    counts = confusion.numpy()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    named = len(classes) <= MOST_NAMES
    side = min(2.5 + 0.42 * len(classes), _LARGEST_INCHES)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if named:
        names = [drawable(shortened(name, _NAME_LETTERS)) for name in classes]
        axes.set_xticks(range(len(classes)), names, rotation=60, ha="right", fontsize=8)
        axes.set_yticks(range(len(classes)), names, fontsize=8)
    numbers = "" if named else ", by its number from 0"
    axes.set_xlabel(f"predicted class{numbers}")
    axes.set_ylabel(f"true class{numbers}")
    axes.set_title(drawable(shortened(title, int(8 * side))), fontsize=10)
    if named:
        for i, j in np.argwhere(counts > 0):
            colour = "white" if shares[i, j] > 0.5 else INK
            axes.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the clips of the class")
    figure.savefig(out, dpi=100)
