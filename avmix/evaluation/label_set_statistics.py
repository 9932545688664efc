"""Metrics of label sets: of each set, and of the combination of its classes.

With verbs and nouns they are those of EPIC-KITCHENS-100 (Damen et al., "Rescaling Egocentric
Vision", IJCV 2022), where a combination is an action: top-1 and top-5 over all segments, top-1 over
segments of participants who are not in training and over segments of tail classes. A combination is
of the tail where one of its classes is.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int64

from avmix.evaluation.resampling import Statistic, ratio

NUM_BEST = 5
"""Ranks are told apart up to this one."""


def task_names(sets: Sequence[str]) -> tuple[str, ...]:
    """Names of what is judged: each set, and the combination, which of verb and noun is the
    action."""
    return (*sets, "action" if tuple(sets) == ("verb", "noun") else "all")


def set_statistics(
    probability: Sequence[Float[np.ndarray, "n _"]],
    label: Sequence[Int64[np.ndarray, " n"]],
    names: Sequence[str],
    *,
    tail: Sequence[Bool[np.ndarray, " _"]] = (),
    subsets: Mapping[str, Bool[np.ndarray, " n"]] | None = None,
) -> dict[str, Statistic]:
    """Shares of clips that are right: `TASK_top1`, `TASK_top5`, `TASK_tail` and `TASK_SUBSET`.

    `probability` and `label` of each set, in the order of `names`. `tail`: which classes of each
    set are rare; without it there is no such figure. `subsets`: which clips are in each. The
    probability of a combination is the product of those of its classes. A figure over no clip is
    nan.
    """
    ranks = [
        *(rank_of(p, y) for p, y in zip(probability, label, strict=True)),
        joint_rank(probability, label),
    ]
    everyone = np.ones(len(label[0]), dtype=bool)
    rare = [of_class[y] for of_class, y in zip(tail, label, strict=True)] if len(tail) else []
    found: dict[str, Statistic] = {}
    for number, (task, rank) in enumerate(zip(task_names(names), ranks, strict=True)):
        found[f"{task}_top1"] = _share(rank < 1, everyone)
        found[f"{task}_top5"] = _share(rank < NUM_BEST, everyone)
        if rare:
            of_tail = rare[number] if number < len(rare) else np.any(rare, axis=0)
            found[f"{task}_tail"] = _share(rank < 1, of_tail)
        for subset, clips in (subsets or {}).items():
            found[f"{task}_{subset}"] = _share(rank < 1, clips)
    return found


def _share(right: np.ndarray, of: np.ndarray) -> Statistic:
    return ratio((right & of).astype(np.float64), of.astype(np.float64))


def rank_of(
    probability: Float[np.ndarray, "n k"], label: Int64[np.ndarray, " n"]
) -> Int64[np.ndarray, " n"]:
    """How many classes come before the right one; of equally probable ones the first does."""
    own = probability[np.arange(len(label)), label][:, None]
    before = np.arange(probability.shape[1]) < label[:, None]
    return ((probability > own) | ((probability == own) & before)).sum(1)


def joint_rank(
    probability: Sequence[Float[np.ndarray, "n _"]], label: Sequence[Int64[np.ndarray, " n"]]
) -> Int64[np.ndarray, " n"]:
    """How many combinations of one class of each set come before the right one, at most
    `NUM_BEST`.

    They are in the order of the product of probabilities; of equal ones the one whose class of the
    first set is the more probable comes first, then that of the next. In that order a combination
    comes after all that differ from it in one class that is better placed. So the five first are
    among those of the five first classes of each set, and only these are looked at.
    """
    num_clips = len(label[0])
    ranks = [rank_of(p, y) for p, y in zip(probability, label, strict=True)]
    product, place = np.ones((num_clips, 1)), np.zeros(num_clips, np.int64)
    for p, rank in zip(probability, ranks, strict=True):
        order = np.argsort(-p, axis=1, kind="stable")[:, :NUM_BEST]
        best = np.take_along_axis(p, order, 1).astype(np.float64)
        product = (product[:, :, None] * best[:, None, :]).reshape(num_clips, -1)
        place = place * best.shape[1] + np.minimum(rank, best.shape[1] - 1)
    own = product[np.arange(num_clips), place][:, None]
    before = np.arange(product.shape[1]) < place[:, None]
    found = ((product > own) | ((product == own) & before)).sum(1)
    last = np.max(ranks, axis=0) >= NUM_BEST
    return np.where(last, NUM_BEST, np.minimum(found, NUM_BEST))
