"""CutMix boxes: drawn on one modality, and mapped to the others."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from avmix.mix.clip_grid import Grid
from avmix.mix.mix_plan import Box

Grids = Mapping[str, Grid]
"""Grid of each modality, by name."""


Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Region of one clip that the partner replaces, in units that every modality shares."""

    time: Interval | None = None
    """Seconds of the window; None: all of them."""
    duration: float = 1.0
    """Their share of the window."""
    place: tuple[Interval, Interval] | None = None
    """Rows and columns of the frame, as shares of its sides; None: all of it."""
    area: float = 1.0
    """Their share of the frame."""
    band: Interval | None = None
    """Frequencies, as shares of their axis; None: all of them."""
    width: float = 1.0
    """Their share of the axis."""

    def box(self, grid: Grid) -> Box:
        """Box of the region in `grid`."""
        return box_of(grid, time=self.time, place=self.place, band=self.band)

    def weight(self, grid: Grid) -> float:
        """Own weight inside the box: an axis that `grid` lacks is not cut but weighted."""
        without = (
            (grid.time_axis, self.duration),
            (grid.frame_axes, self.area),
            (grid.band_axis, self.width),
        )
        return 1.0 - math.prod(share for axis, share in without if axis is None)


def draw_interval(grids: Grids, share: float, centre: float) -> tuple[Interval, float]:
    """Draw an interval of about `share` of the window around `centre` (both 0 to 1), aligned to the
    coarsest time axis: in seconds, and its true share."""
    timed = [grid for grid in grids.values() if grid.time_axis is not None]
    if not timed:
        raise ValueError(f"no modality has a time axis to cut: {', '.join(grids)}")
    grid = min(timed, key=lambda grid: grid.num_steps)
    start, stop = _indices(*_around(centre, share), grid.num_steps)
    # What lies beyond the outer borders of this axis belongs to its first and last step.
    first = grid.border_seconds(start) if start > 0 else -math.inf
    last = grid.border_seconds(stop) if stop < grid.num_steps else math.inf
    return (first, last) if stop > start else (0.0, 0.0), (stop - start) / grid.num_steps


def draw_rectangle(
    grids: Grids, side: float, centre: np.ndarray
) -> tuple[tuple[Interval, Interval], float]:
    """Draw a rectangle of about `side` of height and width around `centre`, aligned to pixels of
    the first grid with frames: as shares of its sides, and its share of the area."""
    grid, axes = next(
        ((grid, grid.frame_axes) for grid in grids.values() if grid.frame_axes), (None, None)
    )
    if grid is None or axes is None:
        raise ValueError(f"no modality is an image to cut: {', '.join(grids)}")
    found, area = [], 1.0
    for axis, middle in zip(axes, centre, strict=False):
        length = grid.shape[axis]
        start, stop = _indices(*_around(middle, side), length)
        found.append((start / length, stop / length))
        area *= (stop - start) / length
    return (found[0], found[1]), area


def draw_band(grids: Grids, share: float, centre: float) -> tuple[Interval, float]:
    """Draw a band of about `share` of the bins around `centre`, aligned to bins: as shares of the
    axis, and its true share."""
    grid = next((grid for grid in grids.values() if grid.band_axis is not None), None)
    if grid is None or grid.band_axis is None:
        raise ValueError(f"no modality has a frequency axis to cut: {', '.join(grids)}")
    length = grid.shape[grid.band_axis]
    start, stop = _indices(*_around(centre, share), length)
    return (start / length, stop / length), (stop - start) / length


def box_of(
    grid: Grid,
    *,
    time: Interval | None = None,
    place: tuple[Interval, Interval] | None = None,
    band: Interval | None = None,
) -> Box:
    """Box of `grid` for an interval, a rectangle and a band; an axis that is not given, or that the
    grid lacks, is whole."""
    ranges = [(0, length) for length in grid.shape]
    if time is not None and grid.time_axis is not None:
        ranges[grid.time_axis] = grid.steps_within(*time)
    if place is not None and grid.frame_axes is not None:
        for axis, (start, stop) in zip(grid.frame_axes, place, strict=True):
            ranges[axis] = _indices(start, stop, grid.shape[axis])
    if band is not None and grid.band_axis is not None:
        ranges[grid.band_axis] = _indices(*band, grid.shape[grid.band_axis])
    return tuple(bound for pair in ranges for bound in pair)


def everything(grid: Grid) -> Box:
    """Box of the whole grid."""
    return tuple(bound for length in grid.shape for bound in (0, length))


def _around(centre: float, share: float) -> tuple[float, float]:
    """An interval of [0, 1], cut off at its ends."""
    return max(0.0, centre - share / 2), min(1.0, centre + share / 2)


def _indices(start: float, stop: float, length: int) -> tuple[int, int]:
    """Shares of an axis to the nearest indices."""
    return round(start * length), round(stop * length)
