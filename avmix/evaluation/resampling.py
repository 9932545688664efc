"""Intervals by bootstrap: clips of one source are drawn together.

Clips cut from one recording, or of one person, resemble each other: 300 clips of 40 sources say
less than 300 clips of 300. The bootstrap therefore draws sources, with replacement and as many as
there are, and takes all of their clips (cluster bootstrap: Davison and Hinkley, "Bootstrap Methods
and their Application", 1997, 3.8). Sources are not drawn class by class: a class with 7 sources
would lose a seventh of its variance, and a source may have clips of several classes.

The interval is the expanded percentile interval (Hesterberg, "What Teachers Should Know About the
Bootstrap", 2015): the percentiles lie further out, as Student's quantile does for so many sources.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
from jaxtyping import Float, Float64, Int64

from avmix.rng import rng

LEVEL = 0.95
FEWEST_SOURCES = 5
"""Below it there is no interval: four sources do not say how much sources differ."""
FEWEST_RESAMPLES = 100
NUM_RESAMPLES = 1000
"""Unless asked for otherwise."""
_MOST_NUMBERS = 2**21
"""Weights in memory at a time."""
_BUDGET = 10**9
"""Numbers that all resamples of one statistic touch; beyond it there are fewer of them."""
_CHEAP = 16
"""Cost up to which a statistic has a naive interval, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistic:
    """A figure as a function of how often each clip counts."""

    of: Callable[[Float64[np.ndarray, "r n"]], Float64[np.ndarray, " r"]]
    """Of weights >= 0, one figure a row; nan where these clips have none."""
    cost: int = 1
    """Numbers that it touches for each clip, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number of a table with its 95 % interval."""

    value: float | None
    """Of the clips as they are; None where they have none."""
    low: float | None = None
    high: float | None = None
    """The interval over sources; None with too few of them, and where every resample gives the same
    figure, as where all clips are right: the bootstrap then says nothing."""
    naive_low: float | None = None
    naive_high: float | None = None
    """The interval as if every clip were a source of its own: too narrow where they are not. Not of
    rankings, which cost more."""
    num_clips: int
    num_sources: int
    num_resamples: int
    """Resamples behind the interval; 0 without one."""

    @property
    def width(self) -> float | None:
        """Of the interval; None without one."""
        return None if self.low is None or self.high is None else self.high - self.low

    @property
    def naive_width(self) -> float | None:
        """Of the naive interval."""
        low, high = self.naive_low, self.naive_high
        return None if low is None or high is None else high - low

    def holds(self, value: float) -> bool:
        """Whether the interval holds a value; False without an interval."""
        return self.low is not None and self.high is not None and self.low <= value <= self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampling:
    """Which clips count how often. The same for every figure of a table, and so for both of a
    difference: differences are paired."""

    source: Int64[np.ndarray, " n"]
    """Number of the source of each clip, from 0, none left out."""
    num_resamples: int = NUM_RESAMPLES
    seed: int = 0

    @property
    def num_sources(self) -> int:
        """Sources that are drawn."""
        return int(self.source.max(initial=-1)) + 1

    def by_clip(self) -> "Resampling":
        """As if every clip were a source of its own."""
        own = np.arange(len(self.source))
        return Resampling(source=own, num_resamples=self.num_resamples, seed=self.seed)

    def weights(self) -> Iterator[Float64[np.ndarray, "r n"]]:
        """Weights of the clips in each resample, some resamples at a time."""
        stream, sources = rng(self.seed, 0, "bootstrap"), self.num_sources
        at_once = max(1, _MOST_NUMBERS // max(1, len(self.source)))
        for first in range(0, self.num_resamples, at_once):
            size = min(at_once, self.num_resamples - first)
            drawn = stream.integers(sources, size=(size, sources))
            place = drawn + sources * np.arange(size)[:, None]
            counts = np.bincount(place.ravel(), minlength=size * sources)
            yield counts.reshape(size, sources)[:, self.source].astype(np.float64)


def numbered(sources: Sequence[Hashable]) -> Int64[np.ndarray, " n"]:
    """The number of each source, in the order in which they first occur."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(s, len(numbers)) for s in sources], dtype=np.int64)


def difference(one: Statistic, other: Statistic) -> Statistic:
    """`one` minus `other`, of the same clips."""
    return Statistic(of=lambda w: one.of(w) - other.of(w), cost=one.cost + other.cost)


def ratio(
    numerator: Float[np.ndarray, " n"], denominator: Float[np.ndarray, " n"] | None = None
) -> Statistic:
    """Sum of one number of each clip over the sum of another, or over the number of clips."""
    numerator = numerator.astype(np.float64)
    below = np.ones_like(numerator) if denominator is None else denominator.astype(np.float64)

    def of(weights: np.ndarray) -> np.ndarray:
        return divided(weights @ numerator, weights @ below)

    return Statistic(of=of)


def divided(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Nan where the denominator is 0."""
    nothing = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    return np.divide(numerator, denominator, out=nothing, where=denominator != 0)


def figures(
    statistics: Mapping[str, Statistic],
    resampling: Resampling,
    *,
    clips: np.ndarray | None = None,
    naive: bool = True,
) -> dict[str, Figure]:
    """Every statistic with its intervals.

    `clips`: numbers of the clips that the statistics are about, of those of `resampling`; None:
    all. Fewer resamples, at least `FEWEST_RESAMPLES`, are behind what would take minutes.
    """
    everyone = np.arange(len(resampling.source)) if clips is None else clips
    once = np.ones((1, len(everyone)))
    values = {name: float(s.of(once)[0]) for name, s in statistics.items()}
    own = len(np.unique(resampling.source[everyone]))
    most = {n: _resamples(s.cost * len(everyone), resampling) for n, s in statistics.items()}
    cheap = {n: s for n, s in statistics.items() if naive and s.cost <= _CHEAP}
    found = _samples(statistics, resampling, most, everyone)
    by_clip = _samples(cheap, resampling.by_clip(), most, everyone)
    result = {}
    for name, value in values.items():
        low, high = interval_over(found[name], own)
        nothing = np.empty(0)
        naive_low, naive_high = interval_over(by_clip.get(name, nothing), len(everyone))
        result[name] = Figure(
            value=None if np.isnan(value) else value, low=low, high=high,
            naive_low=naive_low, naive_high=naive_high, num_clips=len(everyone), num_sources=own,
            num_resamples=0 if low is None else most[name],
        )  # fmt: skip
    return result


def _resamples(numbers: int, resampling: Resampling) -> int:
    """How many a statistic that touches so many numbers each time can have."""
    most = max(FEWEST_RESAMPLES, _BUDGET // max(1, numbers))
    return min(resampling.num_resamples, most)


def _samples(
    statistics: Mapping[str, Statistic],
    resampling: Resampling,
    most: Mapping[str, int],
    clips: np.ndarray,
) -> dict[str, np.ndarray]:
    """Each statistic of these clips in the first `most` resamples."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in statistics}
    if resampling.num_sources == 0 or resampling.num_resamples == 0:
        return {name: np.empty(0) for name in statistics}
    done = 0
    for everyone in resampling.weights():
        weights = everyone[:, clips]
        # Statistics that share their work know the same weights by being the same array.
        asked = {min(len(weights), most[name] - done) for name in statistics}
        first = {left: weights if left == len(weights) else weights[:left] for left in asked}
        for name, statistic in statistics.items():
            if (left := min(len(weights), most[name] - done)) > 0:
                parts[name].append(statistic.of(first[left]))
        done += len(weights)
    return {name: np.concatenate(found or [np.empty(0)]) for name, found in parts.items()}


def interval_over(samples: np.ndarray, sources: int) -> tuple[float | None, float | None]:
    """Both ends of the expanded percentile interval of the resamples that have a figure; None with
    fewer sources than `FEWEST_SOURCES`, and where all resamples give the same figure."""
    samples = samples[~np.isnan(samples)]
    if sources < FEWEST_SOURCES or not len(samples) or np.ptp(samples) < 1e-12:
        return None, None
    tail = expanded_tail(sources)
    low, high = np.quantile(samples, [tail, 1 - tail])
    return float(low), float(high)


def expanded_tail(sources: int, level: float = LEVEL) -> float:
    """The share of resamples on either side of the interval: below (1 - level) / 2."""
    quantile = student((1 + level) / 2, sources - 1)
    return NormalDist().cdf(-quantile * sqrt(sources / (sources - 1)))


def student(probability: float, freedom: int) -> float:
    """Quantile of Student's distribution for 4 degrees of freedom and more (Abramowitz and Stegun,
    26.7.5), within 0.1 % for the quantile 0.975."""
    z, v = NormalDist().inv_cdf(probability), freedom
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4)
    )
