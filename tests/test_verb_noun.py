"""Verbs, nouns and actions against a slow count of all pairs, and by hand."""

import itertools
import math

import numpy as np
import pytest

from avmix.evaluation.resampling import Resampling, figures
from avmix.evaluation.verb_noun import (
    TASKS,
    Segments,
    action_rank,
    rank_of,
    verb_noun_statistics,
)


def drawn(seed: int, n: int = 40, v: int = 7, m: int = 9, ties: bool = False):
    stream = np.random.default_rng(seed)
    verb, noun = stream.random((n, v)), stream.random((n, m))
    if ties:
        verb, noun = np.round(verb * 4) / 4, np.round(noun * 4) / 4
    segments = Segments(verb=stream.integers(v, size=n), noun=stream.integers(m, size=n),
                        unseen=stream.random(n) < 0.3)  # fmt: skip
    return verb, noun, segments


def values(*args, **kwargs) -> dict[str, float]:
    verb, noun, segments = args
    found = verb_noun_statistics(verb, noun, segments, **kwargs)
    return {name: float(s.of(np.ones((1, len(verb))))[0]) for name, s in found.items()}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_figure_against_a_count_of_all_pairs(seed):
    """As the challenge does: every pair has a score, pairs are sorted, subsets are chosen."""
    verb, noun, segments = drawn(seed)
    tail_verbs, tail_nouns = [1, 2], [0, 8]
    found = values(verb, noun, segments, tail_verbs=tail_verbs, tail_nouns=tail_nouns)
    best: dict[str, list[list]] = {task: [] for task in TASKS}
    for p, q in zip(verb, noun, strict=True):
        pairs = sorted(itertools.product(range(7), range(9)), key=lambda x: -p[x[0]] * q[x[1]])
        best["action"].append(pairs)
        best["verb"].append(sorted(range(7), key=lambda k: -p[k]))
        best["noun"].append(sorted(range(9), key=lambda k: -q[k]))
    right = {"verb": segments.verb.tolist(), "noun": segments.noun.tolist()}
    right["action"] = list(zip(right["verb"], right["noun"], strict=True))
    tail = {
        "verb": [v in tail_verbs for v in right["verb"]],
        "noun": [n in tail_nouns for n in right["noun"]],
        "action": [v in tail_verbs or n in tail_nouns for v, n in right["action"]],
    }
    for task in TASKS:
        top1 = np.array([b[0] == r for b, r in zip(best[task], right[task], strict=True)])
        top5 = np.array([r in b[:5] for b, r in zip(best[task], right[task], strict=True)])
        assert found[f"{task}_top1"] == pytest.approx(top1.mean())
        assert found[f"{task}_top5"] == pytest.approx(top5.mean())
        assert found[f"{task}_unseen"] == pytest.approx(top1[segments.unseen].mean())
        assert found[f"{task}_tail"] == pytest.approx(top1[np.array(tail[task])].mean())


def test_an_action_is_right_where_both_of_it_are():
    verb, noun, segments = drawn(3)
    both = (verb.argmax(1) == segments.verb) & (noun.argmax(1) == segments.noun)
    assert values(verb, noun, segments, tail_verbs=[], tail_nouns=[])["action_top1"] == both.mean()


def test_by_hand():
    verb, noun = np.array([[0.6, 0.4]]), np.array([[0.5, 0.3, 0.2]])
    # Pairs: .30 .20 .18 .12 .12 .08; the right one is the second verb with the first noun.
    assert action_rank(verb, noun, np.array([1]), np.array([0])).tolist() == [1]
    assert action_rank(verb, noun, np.array([1]), np.array([2])).tolist() == [5]
    assert rank_of(np.array([[0.2, 0.5, 0.5]]), np.array([2])).tolist() == [1]  # ties: the first


def test_without_segments_of_a_subset_it_has_no_figure():
    verb, noun, segments = drawn(0)
    nothing = Segments(verb=segments.verb, noun=segments.noun, unseen=segments.unseen & False)
    found = values(verb, noun, nothing, tail_verbs=[], tail_nouns=[])
    missing = {name for name, value in found.items() if math.isnan(value)}
    assert missing == {f"{task}_{subset}" for task in TASKS for subset in ("unseen", "tail")}


def test_beyond_the_hundred_most_probable_classes_an_action_comes_last():
    verb, noun = np.full((1, 2), 0.5), np.linspace(1, 0, 130)[None]
    assert action_rank(verb, noun, np.array([0]), np.array([99])).tolist() == [2 * 99]
    assert action_rank(verb, noun, np.array([0]), np.array([100])).tolist() == [2 * 130]


def test_figures_have_intervals_over_participants():
    verb, noun, segments = drawn(5, n=120)
    found = figures(
        verb_noun_statistics(verb, noun, segments, tail_verbs=[0, 1, 2, 3], tail_nouns=[]),
        Resampling(source=np.arange(120) // 6),
    )
    assert found["verb_tail"].width
    assert found["verb_tail"].num_sources == 20
