"""Intervals of arrays of figures, over sources: the bootstrap of `avmix.evaluation.resampling`.

A statistic is a function of how often each clip counts.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int64

from avmix.evaluation.resampling import FEWEST_SOURCES, Resampling, interval_over

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
    of each clip. There is no interval where `interval_over` gives none."""
    values = statistic(np.ones((1, len(source))))[0]
    names, number = np.unique(source, return_inverse=True)
    drawn = np.full((1, *values.shape), np.nan)
    if len(names) >= FEWEST_SOURCES:
        drawn = np.concatenate([statistic(w) for w in Resampling(source=number).weights()])
    result = np.empty(values.shape, dtype=object)
    for place in np.ndindex(values.shape):
        low, high = interval_over(drawn[:, *place], len(names))
        value = float(values[place])
        result[place] = Interval(None if np.isnan(value) else value, low, high)
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
