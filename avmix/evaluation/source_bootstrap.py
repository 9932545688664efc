"""Intervals by bootstrap over sources: clips of one source are drawn together, with replacement.

The percentile interval of `NUM_RESAMPLES` resamples (Davison and Hinkley, "Bootstrap Methods and
their Application", 1997, 3.8: the cluster bootstrap). A statistic is a function of how often each
clip counts.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int64

from avmix.rng import rng

NUM_RESAMPLES = 1000
FEWEST_SOURCES = 5
"""Below it there is no interval: four sources do not say how much sources differ."""
_MOST_NUMBERS = 2**21
"""Weights in memory at a time."""

Statistic = Callable[[Float64[np.ndarray, "r n"]], Float64[np.ndarray, "r *figures"]]
"""Of weights >= 0, figures for each row of them; nan where these clips have none."""


class Interval(NamedTuple):
    """A figure and its 95 % interval; None where there is none."""

    value: float | None
    low: float | None
    high: float | None

    def as_json(self) -> dict[str, float | None]:
        """For a file: the value with its interval."""
        return {"value": self.value, "low": self.low, "high": self.high}


def intervals(statistic: Statistic, source: Int64[np.ndarray, " n"]) -> np.ndarray:
    """`Interval`s of the figures of `statistic`, an array of objects of their shape; `source`: that
    of each clip. No interval below `FEWEST_SOURCES` sources, and where every resample gives the
    same figure, as where all clips are right."""
    values = statistic(np.ones((1, len(source))))[0]
    found = np.full((2, *values.shape), np.nan)
    if len(np.unique(source)) >= FEWEST_SOURCES:
        drawn = np.concatenate([statistic(weights) for weights in _weights(source)])
        known = ~np.isnan(drawn)
        spread = np.where(known, drawn, -np.inf).max(0) - np.where(known, drawn, np.inf).min(0)
        varies = spread > 1e-12  # where all resamples say the same they say nothing
        found[:, varies] = np.nanquantile(drawn[:, varies], [0.025, 0.975], axis=0)
    result = np.empty(values.shape, dtype=object)
    for place in np.ndindex(values.shape):
        value, low, high = (_known(x[place]) for x in (values, found[0], found[1]))
        result[place] = Interval(value, low, high)
    return result


def mean_of(numbers: Float[np.ndarray, "n *figures"]) -> Statistic:
    """Means over clips of numbers that each of them has; nan where all weights are 0."""
    flat = numbers.reshape(len(numbers), -1).astype(np.float64)

    def of(weights: Float64[np.ndarray, "r n"]) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            means = weights @ flat / weights.sum(1, keepdims=True)
        return means.reshape(len(weights), *numbers.shape[1:])

    return of


def as_json(found: Any) -> Any:
    """Arrays of intervals as nested lists for a file."""
    if isinstance(found, Interval):
        return found.as_json()
    return [as_json(part) for part in found]


def _weights(source: Int64[np.ndarray, " n"]) -> Iterator[Float64[np.ndarray, "r n"]]:
    """How often each clip counts in each resample, some resamples at a time."""
    names, number = np.unique(source, return_inverse=True)
    stream, at_once = rng(0, 0, "bootstrap"), max(1, _MOST_NUMBERS // len(source))
    for first in range(0, NUM_RESAMPLES, at_once):
        size = min(at_once, NUM_RESAMPLES - first)
        drawn = stream.integers(len(names), size=(size, len(names)))
        place = drawn + len(names) * np.arange(size)[:, None]
        counts = np.bincount(place.ravel(), minlength=size * len(names))
        yield counts.reshape(size, len(names))[:, number].astype(np.float64)


def _known(value: np.floating) -> float | None:
    return None if np.isnan(value) else float(value)
