"""Label sets scored as EPIC-KITCHENS-100 does, against a slow count of all pairs, and by hand."""

import itertools
import math

import numpy as np
import pytest

from avmix.evaluation.label_set_statistics import joint_rank, rank_of, set_statistics, task_names
from avmix.evaluation.resampling import Resampling, figures

NAMES = ("verb", "noun")
SIZES = (7, 9)


def drawn(seed: int, kind: str = "random", n: int = 60):
    """Probabilities and labels of both sets. `ties`: of few values; `zeros`: of 0 and 1, which an
    overconfident network gives; `one_hot`: nothing but the right or a wrong class; `constant`: all
    classes alike."""
    stream = np.random.default_rng(seed)
    found, labels = [], [stream.integers(k, size=n) for k in SIZES]
    for k, label in zip(SIZES, labels, strict=True):
        p = stream.random((n, k)).astype(np.float32)
        if kind == "ties":
            p = np.round(p * 3) / 3
        elif kind == "zeros":
            p = np.round(p)
        elif kind == "one_hot":
            said = np.where(stream.random(n) < 0.5, label, stream.integers(k, size=n))
            p = np.eye(k, dtype=np.float32)[said]
        elif kind == "constant":
            p = np.full((n, k), 1 / k, np.float32)
        found.append(p)
    return found, labels


def values(probability, label, **kwargs) -> dict[str, float]:
    found = set_statistics(probability, label, NAMES, **kwargs)
    return {name: float(s.of(np.ones((1, len(label[0]))))[0]) for name, s in found.items()}


def order_of_pairs(p: np.ndarray, q: np.ndarray) -> list[tuple[int, int]]:
    """All pairs, the best first: by the product, then the more probable verb, then the noun."""
    places = [{k: i for i, k in enumerate(sorted(range(len(x)), key=lambda k: (-x[k], k)))}
              for x in (p.tolist(), q.tolist())]  # fmt: skip
    return sorted(
        itertools.product(range(len(p)), range(len(q))),
        key=lambda x: (-float(p[x[0]]) * float(q[x[1]]), places[0][x[0]], places[1][x[1]]),
    )


@pytest.mark.parametrize("kind", ["random", "ties", "zeros", "one_hot", "constant"])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_figure_against_a_count_of_all_pairs(seed: int, kind: str) -> None:
    """As the challenge does: every pair has a score, pairs are sorted, subsets are chosen."""
    (verb, noun), label = drawn(seed, kind)
    unseen = np.random.default_rng(9).random(60) < 0.3
    tail = [np.isin(np.arange(7), [1, 2]), np.isin(np.arange(9), [0, 8])]
    found = values([verb, noun], label, tail=tail, subsets={"unseen": unseen})
    best: dict[str, list[list]] = {task: [] for task in ("verb", "noun", "action")}
    for p, q in zip(verb, noun, strict=True):
        best["action"].append(order_of_pairs(p, q))
        best["verb"].append(sorted(range(7), key=lambda k, p=p: (-p[k], k)))
        best["noun"].append(sorted(range(9), key=lambda k, q=q: (-q[k], k)))
    right = {"verb": label[0].tolist(), "noun": label[1].tolist()}
    right["action"] = list(zip(right["verb"], right["noun"], strict=True))
    of_tail = {"verb": [v in (1, 2) for v in right["verb"]],
               "noun": [n in (0, 8) for n in right["noun"]]}  # fmt: skip
    of_tail["action"] = [v or n for v, n in zip(of_tail["verb"], of_tail["noun"], strict=True)]
    for task, orders in best.items():
        top1 = np.array([b[0] == r for b, r in zip(orders, right[task], strict=True)])
        top5 = np.array([r in b[:5] for b, r in zip(orders, right[task], strict=True)])
        assert found[f"{task}_top1"] == pytest.approx(top1.mean())
        assert found[f"{task}_top5"] == pytest.approx(top5.mean())
        assert found[f"{task}_unseen"] == pytest.approx(top1[unseen].mean())
        assert found[f"{task}_tail"] == pytest.approx(top1[np.array(of_tail[task])].mean())


@pytest.mark.parametrize("kind", ["random", "ties", "one_hot", "constant"])
def test_a_combination_is_right_where_every_class_of_it_is(kind: str) -> None:
    probability, label = drawn(3, kind)
    both = np.all([p.argmax(1) == y for p, y in zip(probability, label, strict=True)], axis=0)
    assert values(probability, label)["action_top1"] == both.mean()


def test_a_network_that_says_the_same_of_every_class_is_not_right() -> None:
    """Where all pairs are equally probable, one is the first, not every one."""
    probability, label = drawn(0, "constant", n=63)
    label[:] = [np.repeat(np.arange(7), 9), np.tile(np.arange(9), 7)]
    found = values(probability, label)
    assert found["action_top1"] == pytest.approx(1 / 63)
    assert found["action_top5"] == pytest.approx(5 / 63)


def test_three_sets_against_a_count_of_all_triples() -> None:
    stream = np.random.default_rng(4)
    sizes, n = (6, 3, 7), 30
    probability = [np.round(stream.random((n, k)), 1) for k in sizes]
    label = [stream.integers(k, size=n) for k in sizes]
    ranks = [rank_of(p, y) for p, y in zip(probability, label, strict=True)]
    for i, found in enumerate(joint_rank(probability, label)):
        orders = [np.argsort(-p[i], kind="stable") for p in probability]
        triples = sorted(
            itertools.product(*(range(k) for k in sizes)),
            key=lambda at: (-math.prod(p[i][o[k]] for p, o, k in
                                       zip(probability, orders, at, strict=True)), at),
        )  # fmt: skip
        assert min(triples.index(tuple(int(rank[i]) for rank in ranks)), 5) == found
    assert task_names(("a", "b", "c")) == ("a", "b", "c", "all")


def test_by_hand() -> None:
    verb, noun = np.array([[0.6, 0.4]]), np.array([[0.5, 0.3, 0.2]])
    # Pairs: .30 .20 .18 .12 .12 .08; the right one is the second verb with the first noun.
    assert joint_rank([verb, noun], [np.array([1]), np.array([0])]).tolist() == [1]
    # .4 * .3 = .12 is as probable as .6 * .2, whose verb is the more probable.
    assert joint_rank([verb, noun], [np.array([1]), np.array([1])]).tolist() == [4]
    assert joint_rank([verb, noun], [np.array([1]), np.array([2])]).tolist() == [5]
    assert rank_of(np.array([[0.2, 0.5, 0.5]]), np.array([2])).tolist() == [1]  # ties: the first


def test_without_clips_of_a_subset_it_has_no_figure() -> None:
    probability, label = drawn(0)
    nothing = np.zeros(60, dtype=bool)
    tail = [np.zeros(7, bool), np.zeros(9, bool)]
    found = values(probability, label, tail=tail, subsets={"unseen": nothing})
    assert math.isnan(found["verb_unseen"])
    assert math.isnan(found["action_tail"])
    assert "verb_tail" not in values(probability, label)


def test_figures_have_intervals_over_sources() -> None:
    probability, label = drawn(1)
    resampling = Resampling(source=np.arange(60) // 3, num_resamples=200, seed=0)
    found = figures(set_statistics(probability, label, NAMES), resampling)["noun_top5"]
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high
