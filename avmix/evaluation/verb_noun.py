"""Verbs, nouns and actions, which are pairs of both: as EPIC-KITCHENS-100 is judged.

The definitions are those of the challenge (Damen et al., "Rescaling Egocentric Vision", IJCV 2022):
top-1 and top-5 over all segments, top-1 over segments of participants who are not in training, and
over segments of tail classes; an action is of the tail where its verb or its noun is.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from avmix.evaluation.resampling import Statistic, ratio

TASKS = ("verb", "noun", "action")
MOST_PAIRS = 100
"""Actions are looked for among so many of the most probable verbs and nouns, as the challenge does;
only of more classes does that leave any out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """What is true of the segments, and what they are of."""

    verb: Int64[np.ndarray, " n"]
    noun: Int64[np.ndarray, " n"]
    unseen: Bool[np.ndarray, " n"]
    """Of a participant without a segment in training."""


def verb_noun_statistics(
    verb: Float[np.ndarray, "n v"],
    noun: Float[np.ndarray, "n m"],
    segments: Segments,
    *,
    tail_verbs: Collection[int],
    tail_nouns: Collection[int],
) -> dict[str, Statistic]:
    """Shares of segments that are right, from the probabilities of verbs and of nouns.

    Names are `TASK_top1`, `TASK_top5`, `TASK_unseen`, `TASK_tail`. The probability of an action is
    the product of that of its verb and of its noun. A figure over no segment is nan.
    """
    rank = {
        "verb": rank_of(verb, segments.verb),
        "noun": rank_of(noun, segments.noun),
        "action": action_rank(verb, noun, segments.verb, segments.noun),
    }
    tail_verb = np.isin(segments.verb, list(tail_verbs))
    tail_noun = np.isin(segments.noun, list(tail_nouns))
    tail = {"verb": tail_verb, "noun": tail_noun, "action": tail_verb | tail_noun}
    everyone = np.ones(len(segments.verb), dtype=bool)
    found: dict[str, Statistic] = {}
    for task in TASKS:
        found[f"{task}_top1"] = _share(rank[task] < 1, everyone)
        found[f"{task}_top5"] = _share(rank[task] < 5, everyone)
        found[f"{task}_unseen"] = _share(rank[task] < 1, segments.unseen)
        found[f"{task}_tail"] = _share(rank[task] < 1, tail[task])
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


def action_rank(
    verb: Float[np.ndarray, "n v"],
    noun: Float[np.ndarray, "n m"],
    of_verb: Int64[np.ndarray, " n"],
    of_noun: Int64[np.ndarray, " n"],
) -> Int64[np.ndarray, " n"]:
    """How many pairs of a verb and a noun are more probable than the right one, without listing
    them all: for each verb that is a position among the sorted nouns.

    A pair whose verb, or noun, is not among the `MOST_PAIRS` most probable ones comes last.
    """
    rank = np.empty(len(of_verb), dtype=np.int64)
    for i, (v, n) in enumerate(zip(of_verb, of_noun, strict=True)):
        if rank_of(verb[i : i + 1], of_verb[i : i + 1])[0] >= MOST_PAIRS or (
            rank_of(noun[i : i + 1], of_noun[i : i + 1])[0] >= MOST_PAIRS
        ):
            rank[i] = verb.shape[1] * noun.shape[1]
            continue
        verbs = np.sort(verb[i].astype(np.float64))[::-1][:MOST_PAIRS]
        nouns = np.sort(noun[i].astype(np.float64))[::-1][:MOST_PAIRS]
        own = float(verb[i, v]) * float(noun[i, n])
        rank[i] = (verbs[:, None] * nouns > own).sum()
    return rank
