"""Intervals: which clips are drawn together, how wide, how often right, how fast."""

import time
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
import scipy.stats

from avmix.evaluation.resampling import (
    Figure,
    Resampling,
    Statistic,
    difference,
    expanded_tail,
    figures,
    numbered,
    ratio,
    student,
)


def width(figure: Figure) -> float:
    assert figure.width is not None
    return figure.width


def top1_of(right: np.ndarray) -> dict[str, Statistic]:
    return {"top1": ratio(right.astype(float))}


def test_clips_of_a_source_count_equally_often():
    resampling = Resampling(source=numbered(["b", "a", "b", "c", "a"]), num_resamples=50)
    (weights,) = resampling.weights()
    assert weights.shape == (50, 5)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 1] == weights[:, 4]).all()
    # As many sources as there are, whatever number of clips they have.
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all()
    assert 0.5 < weights[:, 3].mean() < 1.5


def test_the_parts_in_which_weights_come_change_nothing(monkeypatch):
    resampling = Resampling(source=np.arange(7) % 5, num_resamples=30, seed=4)
    whole = np.concatenate(list(resampling.weights()))
    monkeypatch.setattr("avmix.evaluation.resampling._MOST_NUMBERS", 7 * 10)
    parts = list(resampling.weights())
    assert [len(part) for part in parts] == [10, 10, 10]
    assert (np.concatenate(parts) == whole).all()


def test_the_interval_is_of_the_seed_alone():
    right, source = np.random.default_rng(0).random(60) < 0.4, np.arange(60) // 4
    one, same, other = (
        figures(top1_of(right), Resampling(source=source, seed=seed))["top1"] for seed in (1, 1, 2)
    )
    assert one == same
    assert one.value == other.value == pytest.approx(right.mean())
    assert one != other


@pytest.mark.parametrize("freedom", [4, 5, 9, 30, 200])
def test_students_quantile(freedom):
    assert student(0.975, freedom) == pytest.approx(scipy.stats.t.ppf(0.975, freedom), rel=1e-3)


def test_the_percentiles_lie_further_out_with_few_sources():
    # By hand: of 10 sources, t = 2.262, times sqrt(10 / 9): 2.385 deviations.
    assert expanded_tail(10) == pytest.approx(NormalDist().cdf(-2.3845), rel=2e-3)
    assert expanded_tail(100_000) == pytest.approx(0.025, rel=1e-3)


def test_the_interval_is_as_the_bootstrap_of_scipy_says():
    """Of independent clips, with so many of them that the percentiles are the usual ones."""
    right = np.random.default_rng(0).random(500) < 0.7
    found = figures(top1_of(right), Resampling(source=np.arange(500), num_resamples=4000))["top1"]
    theirs = scipy.stats.bootstrap(
        (right.astype(float),), np.mean, n_resamples=4000, method="percentile", rng=1
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.005)
    assert found.low == pytest.approx(found.naive_low)


def test_clips_that_repeat_their_source_say_nothing_more():
    """Every clip five times: the interval by clip is too narrow by the square root of five."""
    right = np.repeat(np.random.default_rng(3).random(80) < 0.6, 5)
    found = figures(top1_of(right), Resampling(source=np.arange(400) // 5))["top1"]
    once = figures(top1_of(right[::5]), Resampling(source=np.arange(80)))["top1"]
    assert (found.low, found.high) == (once.low, once.high)
    assert found.width
    assert found.naive_width
    assert found.width / found.naive_width == pytest.approx(5**0.5, rel=0.12)
    assert (found.num_clips, found.num_sources, found.num_resamples) == (400, 80, 1000)


def test_differences_are_paired():
    """Two heads that are wrong on the same clips but one: the difference is known well."""
    one = np.arange(200) % 4 > 0
    other = one.copy()
    other[3] = False
    a, b = ratio(one.astype(float)), ratio(other.astype(float))
    found = figures({"a": a, "less": difference(a, b)}, Resampling(source=np.arange(200)))
    assert found["less"].value == pytest.approx(1 / 200)
    assert found["less"].low == 0
    assert width(found["less"]) < width(found["a"]) / 4


def test_where_an_interval_would_say_nothing_there_is_none():
    right = np.arange(40) % 2 == 0
    four = figures(top1_of(right), Resampling(source=np.arange(40) % 4))["top1"]
    assert (four.value, four.low, four.high, four.num_resamples) == (0.5, None, None, 0)
    assert four.naive_low is not None
    always = figures(top1_of(right | True), Resampling(source=np.arange(40)))["top1"]
    assert (always.value, always.low, always.high) == (1.0, None, None)
    nothing = figures(top1_of(right[:0]), Resampling(source=np.arange(40)), clips=np.arange(0))[
        "top1"
    ]
    assert (nothing.value, nothing.low, nothing.num_clips) == (None, None, 0)


def test_a_figure_of_some_clips_is_of_their_sources():
    right = np.arange(40) % 3 == 0
    some = np.arange(0, 40, 2)
    whole = Resampling(source=np.arange(40) // 4)
    found = figures(top1_of(right[some]), whole, clips=some)["top1"]
    assert found.value == pytest.approx(right[some].mean())
    assert (found.num_clips, found.num_sources) == (20, 10)


def test_what_would_take_minutes_has_fewer_resamples(monkeypatch):
    monkeypatch.setattr("avmix.evaluation.resampling._BUDGET", 40 * 150)
    dear = Statistic(of=ratio(np.arange(40) % 2 * 1.0).of, cost=1)
    dearer = Statistic(of=dear.of, cost=100)
    found = figures({"dear": dear, "dearer": dearer}, Resampling(source=np.arange(40)))
    assert (found["dear"].num_resamples, found["dearer"].num_resamples) == (150, 100)


def test_a_thousand_resamples_take_less_than_a_second():
    right = {str(k): ratio(np.random.default_rng(k).random(300)) for k in range(20)}
    start = time.process_time()
    figures(right, Resampling(source=np.arange(300) // 5))
    assert time.process_time() - start < 1


def test_intervals_hold_what_they_promise_in_clustered_data():
    """A short form of benchmarks/coverage.py: 30 sources of 8 clips, that agree with each other."""
    stream, right, naive = np.random.default_rng(7), 0, 0
    source = np.repeat(np.arange(30), 8)
    for _ in range(200):
        share = stream.beta(2.1, 0.9, size=30)  # mean 0.7; clips of a source correlate by 1/4
        clips = stream.random(240) < share[source]
        found = figures(
            top1_of(clips),
            Resampling(source=source, num_resamples=200, seed=int(stream.integers(99))),
        )["top1"]
        right += found.holds(0.7)
        naive += replace(found, low=found.naive_low, high=found.naive_high).holds(0.7)
    assert 0.9 <= right / 200 <= 0.98
    assert naive / 200 < 0.85
