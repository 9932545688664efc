"""Means over runs with an interval over sources and over seeds; paired differences of them.

A row is the mean over splits of the mean over seeds. Two things could have come out otherwise: the
clips that it is judged on, and the seeds. Each gives a part of the interval:

* sources: the sources of each split are resampled, the same ones for all runs of all rows, and the
  row is computed again (`avmix.evaluation.resampling`, which says why sources, and why the
  percentiles lie further out than usual);
* seeds: t * sd / sqrt(n) of the n seeds' means over splits, Student's t with n - 1 degrees of
  freedom. With one seed this part is missing, and a table says so.

The two are of independent causes and add as squares, below and above the value by themselves.
A difference is of the same seeds and the same clips, resampled together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import hypot, sqrt

import numpy as np

from avmix.evaluation.kept_predictions import KeptPredictions
from avmix.evaluation.resampling import (
    NUM_RESAMPLES,
    Resampling,
    interval_over,
    numbered,
    student,
)
from avmix.leaderboard.scoring import run_statistics

_T = {1: 12.7062, 2: 4.30265, 3: 3.18245}
"""Quantile 0.975 of Student's distribution where `student` does not hold."""
Place = tuple[str, int]
"""Split and seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure of a row."""

    value: float
    low: float | None = None
    high: float | None = None
    """The 95 % interval; None where neither sources nor seeds give one."""
    half_of_seeds: float | None = None
    """The part of seeds; None with one seed."""
    sources_low: float | None = None
    sources_high: float | None = None
    """The part of sources by itself, around the value."""
    num_runs: int
    num_seeds: int

    @property
    def is_above(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.low is not None and self.low > 0

    @property
    def is_below(self) -> bool:
        """Whether the whole interval is below 0."""
        return self.high is not None and self.high < 0


@dataclass(frozen=True, kw_only=True)
class RunSamples:
    """One run: its value of each figure, and its values in every resample."""

    kept: KeptPredictions
    weights: np.ndarray
    """(resamples, sources) of its split."""
    place_of: Mapping[str, int]
    """Column of each source."""
    figures: tuple[str, ...]

    @cached_property
    def ids(self) -> frozenset[str]:
        """Of its clips."""
        return frozenset(clip.clip_id for clip in self.kept.clips)

    @cached_property
    def samples(self) -> dict[str, tuple[float, np.ndarray]]:
        """Of each figure that it has."""
        return self.among(None)

    def among(self, only: frozenset[str] | None) -> dict[str, tuple[float, np.ndarray]]:
        """The same of some of its clips."""
        columns = np.array([self.place_of[clip.source_id] for clip in self.kept.clips])
        found = {}
        for name, (one, clips) in run_statistics(self.kept, only).items():
            if name in self.figures:
                value = float(one.of(np.ones((1, len(clips))))[0])
                if not np.isnan(value):
                    found[name] = (value, one.of(self.weights[:, columns[clips]]))
        return found


Rows = dict[str, dict[Place, RunSamples]]
"""By method."""


def samples_of(
    rows: Mapping[str, Mapping[Place, KeptPredictions]],
    figures: Sequence[str],
    *,
    num_resamples: int = NUM_RESAMPLES,
) -> Rows:
    """The runs of all rows, with the weights of the sources of each split, which all share."""
    splits = sorted({place[0] for runs in rows.values() for place in runs})
    weights: dict[str, tuple[np.ndarray, dict[str, int]]] = {}
    for number, split in enumerate(splits):
        sources = sorted({clip.source_id for runs in rows.values()
                          for place, kept in runs.items() if place[0] == split
                          for clip in kept.clips})  # fmt: skip
        resampling = Resampling(source=numbered(sources), num_resamples=num_resamples, seed=number)
        drawn = np.concatenate([*resampling.weights()])
        weights[split] = drawn, {name: i for i, name in enumerate(sources)}
    return {
        method: {
            place: RunSamples(kept=kept, weights=weights[place[0]][0],
                              place_of=weights[place[0]][1], figures=tuple(figures))
            for place, kept in runs.items()
        }
        for method, runs in rows.items()
    }  # fmt: skip


def estimate_row(runs: Mapping[Place, RunSamples], figure: str) -> Estimate | None:
    """A figure of a row; None where a run does not have it."""
    found = {place: run.samples[figure] for place, run in runs.items() if figure in run.samples}
    return _estimate(found, _num_sources(runs)) if len(found) == len(runs) else None


def estimate_difference(
    runs: Mapping[Place, RunSamples], first: Mapping[Place, RunSamples], figure: str
) -> Estimate | None:
    """The same of a row minus that of another, over the splits and seeds that both have, and in
    each over the clips that both have judged; None where there are none."""
    found: dict[Place, tuple[float, np.ndarray]] = {}
    for place in runs.keys() & first.keys():
        one, other = runs[place], first[place]
        common = None if one.ids == other.ids else one.ids & other.ids
        mine, theirs = (
            (one.samples, other.samples)
            if common is None
            else (one.among(common), other.among(common))
        )
        if figure in mine and figure in theirs:
            found[place] = (mine[figure][0] - theirs[figure][0],
                            mine[figure][1] - theirs[figure][1])  # fmt: skip
    return _estimate(found, _num_sources({place: runs[place] for place in found}))


def _num_sources(runs: Mapping[Place, RunSamples]) -> int:
    return sum({place[0]: len(run.place_of) for place, run in runs.items()}.values())


def _estimate(found: Mapping[Place, tuple[float, np.ndarray]], sources: int) -> Estimate | None:
    if not found:
        return None
    splits = sorted({split for split, _ in found})
    value = float(np.mean([np.mean([v for (s, _), (v, _) in found.items() if s == split])
                           for split in splits]))  # fmt: skip
    samples = np.mean([np.mean([v for (s, _), (_, v) in found.items() if s == split], axis=0)
                       for split in splits], axis=0)  # fmt: skip
    low, high = interval_over(np.asarray(samples), sources)
    by_seed = [float(np.mean([found[s, seed][0] for s in splits]))
               for seed in sorted({seed for _, seed in found})
               if all((s, seed) in found for s in splits)]  # fmt: skip
    half = None
    if len(by_seed) > 1:
        freedom = len(by_seed) - 1
        t = _T[freedom] if freedom in _T else student(0.975, freedom)
        half = t * float(np.std(by_seed, ddof=1)) / sqrt(len(by_seed))
    below = _together(None if low is None else value - low, half)
    above = _together(None if high is None else high - value, half)
    return Estimate(
        value=value, low=None if below is None else value - below,
        high=None if above is None else value + above, half_of_seeds=half,
        sources_low=low, sources_high=high, num_runs=len(found), num_seeds=len(by_seed),
    )  # fmt: skip


def _together(of_sources: float | None, of_seeds: float | None) -> float | None:
    """Half of an interval; a resample may lie on the other side of the value, by its skewness."""
    if of_sources is None:
        return of_seeds or None
    return hypot(max(of_sources, 0.0), of_seeds or 0.0)
