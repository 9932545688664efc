"""Reliability diagram: how often what a head is so sure of is right."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from matplotlib.figure import Figure

from avmix.evaluation.clip_statistics import NUM_BINS, Answers, bin_of, calibration_pairs
from avmix.evaluation.figures import INK, MIXED, OWN, PARTNER
from avmix.system.printing import drawable, shortened

_COLOURS = {"fused": MIXED, "video head": OWN, "audio head": PARTNER}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """One head, in bins of its confidence of one width."""

    confidence: Float64[np.ndarray, " bins"]
    """Mean confidence; nan in an empty bin."""
    share_right: Float64[np.ndarray, " bins"]
    """Share that is right; nan in an empty bin."""
    share: Float64[np.ndarray, " bins"]
    """Of all answers, the share in the bin."""

    @property
    def error(self) -> float:
        """The expected calibration error."""
        gap = np.abs(self.confidence - self.share_right)
        return float(np.nansum(gap * self.share))

    def as_json(self) -> dict[str, list[float | None]]:
        """As it stands in result.json: None in an empty bin."""
        columns = {name: getattr(self, name).tolist()
                   for name in ("confidence", "share_right", "share")}  # fmt: skip
        return {name: [None if isnan(v) else v for v in of] for name, of in columns.items()}


def reliability(answers: Answers) -> Reliability:
    """The bins of the expected calibration error."""
    confidence, right, counted = (part.ravel() for part in calibration_pairs(answers))
    place = bin_of(confidence)
    number, sure, good = (
        np.bincount(place, counted * what, NUM_BINS) for what in (1.0, confidence, right)
    )
    nothing = np.full(NUM_BINS, np.nan)
    return Reliability(
        confidence=np.divide(sure, number, out=nothing.copy(), where=number > 0),
        share_right=np.divide(good, number, out=nothing.copy(), where=number > 0),
        share=number / max(1.0, number.sum()),
    )


def draw_reliability(rows: Mapping[str, Answers], title: str, out: Path) -> None:
    """Draw confidence against the share that is right, one panel a head, with the share of answers
    of each bin below it; writes a PNG."""
    figure = Figure(figsize=(1.0 + 3.6 * max(1, len(rows)), 4.8), layout="constrained")
    figure.suptitle(drawable(shortened(f"{title}: reliability", 90)), color=INK, fontsize=11)
    panels = figure.subplots(
        2, max(1, len(rows)), sharex=True, squeeze=False, height_ratios=(3, 1)
    )  # fmt: skip
    width = 1 / NUM_BINS
    left = np.arange(NUM_BINS) * width
    for column, (name, answers) in enumerate(rows.items()):
        found, colour = reliability(answers), _COLOURS.get(name, INK)
        upper, lower = panels[0, column], panels[1, column]
        upper.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle="--")
        upper.bar(left, np.nan_to_num(found.share_right), width, align="edge", color=colour,
                  alpha=0.35, edgecolor=colour)  # fmt: skip
        upper.plot(found.confidence, found.share_right, "o", markersize=4, color=colour)
        upper.set_title(f"{name}: ECE {found.error:.3f}", fontsize=10, color=INK)
        upper.set_xlim(0, 1)
        upper.set_ylim(0, 1)
        lower.bar(left, found.share, width, align="edge", color=colour)
        lower.set_xlabel("confidence", fontsize=9)
    panels[0, 0].set_ylabel("share that is right", fontsize=9)
    panels[1, 0].set_ylabel("share of answers", fontsize=9)
    figure.savefig(out, dpi=100)
