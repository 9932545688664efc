"""Cross-modal retrieval between the video head and the audio head of one network.

The features under the heads have other widths and no common space. What both heads have in common
are the classes: the embedding of a modality is the vector of its log-probabilities, less their mean
over classes (its logits, up to a constant), and two embeddings are compared by their cosine.
"""

import numpy as np
from jaxtyping import Float, Float64, Int64

from avmix.evaluation.source_bootstrap import Statistic

AT = (1, 5, 10)
"""Recall is given at these ranks."""
_CHUNK = 1024
"""Queries compared at a time."""
_TINY = float(np.finfo(np.float32).tiny)


def embedding(probability: Float[np.ndarray, "n k"]) -> Float64[np.ndarray, "n k"]:
    """Log-probabilities of a head less their mean, of length 1; zeros where all are equal."""
    logits = np.log(np.maximum(probability.astype(np.float64), _TINY))
    logits -= logits.mean(1, keepdims=True)
    length = np.sqrt(np.square(logits).sum(1, keepdims=True))
    return np.divide(logits, length, out=np.zeros_like(logits), where=length > 1e-12)


def ranks_by_clip(
    query: Float64[np.ndarray, "n k"], gallery: Float64[np.ndarray, "n k"]
) -> Float64[np.ndarray, " n"]:
    """Rank, from 1, of each query's own clip among all clips. Ties count against it: who says the
    same of every clip has found none."""
    found = np.empty(len(query))
    for first in range(0, len(query), _CHUNK):
        rows = np.arange(first, min(first + _CHUNK, len(query)))
        similar = _similar(query[rows], gallery)
        found[rows] = (similar >= similar[np.arange(len(rows)), rows, None]).sum(1)
    return found


def ranks_by_class(
    query: Float64[np.ndarray, "n k"],
    gallery: Float64[np.ndarray, "n k"],
    label: Int64[np.ndarray, " n"],
) -> Float64[np.ndarray, " n"]:
    """Rank of the first other clip of the query's class among all other clips; ties count against
    it. Nan where the class has no other clip."""
    found = np.full(len(query), np.nan)
    for first in range(0, len(query), _CHUNK):
        rows = np.arange(first, min(first + _CHUNK, len(query)))
        similar = _similar(query[rows], gallery)
        similar[np.arange(len(rows)), rows] = -np.inf
        same = label[rows, None] == label
        same[np.arange(len(rows)), rows] = False
        best = np.where(same, similar, -np.inf).max(1)
        before = ((similar >= best[:, None]) & ~same).sum(1)
        found[rows] = np.where(same.any(1), before + 1, np.nan)
    return found


def retrieval_statistic(ranks: Float64[np.ndarray, " n"]) -> Statistic:
    """R@1, R@5, R@10 (shares) and the median rank, of the queries that have a rank."""
    has = ~np.isnan(ranks)
    order = np.argsort(np.where(has, ranks, np.inf), kind="stable")
    hits = np.stack([np.where(has, ranks, np.inf) <= k for k in AT], 1).astype(np.float64)

    def of(weights: Float64[np.ndarray, "r n"]) -> np.ndarray:
        counted = weights * has
        total = counted.sum(1, keepdims=True)
        below = counted[:, order].cumsum(1)
        # The smallest rank that at least half of the queries reach.
        place = (below >= total / 2).argmax(1)
        median = np.where(total[:, 0] > 0, ranks[order[place]], np.nan)
        with np.errstate(invalid="ignore"):
            return np.concatenate([counted @ hits / total, median[:, None]], 1)

    return of


def chance_by_clip(num_clips: int) -> list[float]:
    """R@k of guessing, by clip."""
    return [min(1.0, k / num_clips) for k in AT]


def chance_by_class(label: Int64[np.ndarray, " n"]) -> list[float]:
    """R@k of guessing, by class: the probability that among k others drawn without replacement
    there is one of the class, mean over the clips whose class has another one."""
    count = np.bincount(label)
    others, n = count[label] - 1, len(label) - 1
    found = []
    for k in AT:
        missed = np.ones(len(label))
        for drawn in range(min(k, n)):
            missed *= np.clip((n - others - drawn) / (n - drawn), 0, 1)
        found.append(float((1 - missed)[others > 0].mean()) if (others > 0).any() else 0.0)
    return found


def _similar(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Cosines, rounded: equal ones must not differ by how the product was summed."""
    return np.round(query @ gallery.T, 9)
