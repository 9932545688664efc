"""Metrics of an order: mean average precision, AUC, d', and calibration without bins.

Equal scores are one step of the curve, so that the order of clips that a head cannot tell apart
does not matter.
"""

from collections.abc import Sequence
from math import sqrt

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64

from avmix.evaluation.resampling import Statistic, divided

_FARTHEST = 1e-9
"""AUC is kept so far from 0 and 1 for d', which would not be finite there."""
_FEW = 12
"""Positive clips of a class up to which its curve is computed from them, and not along all clips:
many classes have few."""


def rankings(
    score: Float[np.ndarray, "n k"],
    positive: Bool[np.ndarray, "n k"],
    known: Bool[np.ndarray, "n k"],
) -> dict[str, Statistic]:
    """`map`: mean over classes of the average precision, the sum of precision times the step in
    recall; `auc`: of the area under the ROC curve; `d_prime`: sqrt(2) times the normal quantile of
    the mean AUC, as AudioSet's is (Gemmeke et al., ICASSP 2017).

    Classes without a positive clip are left out, and of AUC those without a negative one.
    """
    classes = [_Class(score[known[:, k], k], positive[known[:, k], k], known[:, k].nonzero()[0])
               for k in range(score.shape[1]) if positive[:, k].any()]  # fmt: skip
    cost = sum(one.cost for one in classes)
    done: list[tuple[np.ndarray, np.ndarray]] = []
    """The last weights and their two means: all three figures are asked for the same ones."""

    def means(weights: np.ndarray) -> np.ndarray:
        if not done or done[-1][0] is not weights:
            done[:] = [(weights, _means(classes, weights))]
        return done[-1][1]

    def d_prime(weights: np.ndarray) -> np.ndarray:
        area = np.clip(means(weights)[1], _FARTHEST, 1 - _FARTHEST)
        return sqrt(2) * torch.special.ndtri(torch.from_numpy(area)).numpy()

    return {
        "map": Statistic(of=lambda weights: means(weights)[0], cost=cost),
        "auc": Statistic(of=lambda weights: means(weights)[1], cost=cost),
        "d_prime": Statistic(of=d_prime, cost=cost),
    }


def _means(classes: Sequence["_Class"], weights: np.ndarray) -> np.ndarray:
    """Mean average precision and mean area (2 r) over the classes that have them."""
    total, number = np.zeros((2, len(weights))), np.zeros((2, len(weights)))
    for one in classes:
        found = np.stack(one.curve(weights))
        has = ~np.isnan(found)
        total += np.where(has, found, 0)
        number += has
    return divided(total, number)


class _Class:
    """One class: its known clips from the highest score to the lowest."""

    def __init__(self, score: np.ndarray, positive: np.ndarray, clips: np.ndarray) -> None:
        order = (-score).argsort(kind="stable")
        self._positive, self._clips, score = positive[order], clips[order], score[order]
        self._ends = np.append((np.diff(score) != 0).nonzero()[0], len(score) - 1)
        self._few = self._positive.sum() <= _FEW
        if self._few:
            # (n p): at or above a positive clip, and above it; equal ones are half above.
            own = score[self._positive]
            self._reached = (score[:, None] >= own).astype(np.float64)
            self._above = (self._reached + (score[:, None] > own)) / 2

    @property
    def cost(self) -> int:
        """Numbers that a curve touches for each clip, about."""
        return int(min(2 * self._positive.sum(), 16))

    def curve(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Average precision and area under the ROC curve, each (r)."""
        own = weights[:, self._clips]
        return self._of_few(own) if self._few else self._of_many(own)

    def _of_few(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """By what is above each positive clip."""
        here = self._positive
        of_positive, negative = weights[:, here], weights * ~here
        positives, negatives = of_positive.sum(1), negative.sum(1)
        taken = weights @ self._reached
        right = of_positive @ self._reached[here]
        precision = np.where(taken > 0, right / np.maximum(taken, 1e-300), 0)
        average = divided((precision * of_positive).sum(1), positives)
        below = negatives[:, None] - negative @ self._above
        return average, divided((below * of_positive).sum(1), positives * negatives)

    def _of_many(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """By sums along the order."""
        right = np.cumsum(weights * self._positive, 1)[:, self._ends]
        taken = np.cumsum(weights, 1)[:, self._ends]
        step = np.diff(right, axis=1, prepend=0)
        positives, negatives = right[:, -1], taken[:, -1] - right[:, -1]
        precision = np.where(step > 0, right / np.maximum(taken, 1e-300), 0)
        average = divided((precision * step).sum(1), positives)
        wrong = taken - right
        # A positive clip is above the negative ones after its step, and above half of those in it.
        below = negatives[:, None] - wrong + np.diff(wrong, axis=1, prepend=0) / 2
        return average, divided((below * step).sum(1), positives * negatives)


def calibration_gap(
    confidence: Float64[np.ndarray, "n m"],
    right: Float64[np.ndarray, "n m"],
    counted: Float64[np.ndarray, "n m"],
) -> Statistic:
    """The calibration error of Kolmogorov and Smirnov (Gupta et al., "Calibration of Neural
    Networks using Splines", ICLR 2021): the largest difference, over all confidences c, between the
    share of pairs with at most c that is right and their summed confidence. It needs no bins."""
    flat = confidence.ravel()
    order = flat.argsort(kind="stable")
    clip = order // confidence.shape[1]
    gap = ((confidence - right) * counted).ravel()[order]
    ends = np.append((np.diff(flat[order]) != 0).nonzero()[0], len(flat) - 1)
    pairs = counted.sum(1)

    def of(weights: np.ndarray) -> np.ndarray:
        reached = np.cumsum(weights[:, clip] * gap, 1)[:, ends]
        return divided(np.abs(reached).max(1, initial=0), weights @ pairs)

    return Statistic(of=of, cost=confidence.shape[1])
