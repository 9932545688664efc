"""Metrics of an order: mean average precision, AUC, d', and calibration without bins.

Equal scores are one step of the curve, so that the order of clips that a head cannot tell apart
does not matter.
"""

from math import sqrt

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64

from avmix.evaluation.resampling import Statistic, divided

_FARTHEST = 1e-9
"""AUC is kept so far from 0 and 1 for d', which would not be finite there."""


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
               for k in range(score.shape[1])]  # fmt: skip
    cost = score.shape[1]

    def mean(which: int, weights: np.ndarray) -> np.ndarray:
        total, number = np.zeros(len(weights)), np.zeros(len(weights))
        for one in classes:
            if not one.positive.any():
                continue
            found = one.curve(weights)[which]
            has = ~np.isnan(found)
            total[has] += found[has]
            number += has
        return divided(total, number)

    def d_prime(weights: np.ndarray) -> np.ndarray:
        area = np.clip(mean(1, weights), _FARTHEST, 1 - _FARTHEST)
        return sqrt(2) * torch.special.ndtri(torch.from_numpy(area)).numpy()

    return {
        "map": Statistic(of=lambda weights: mean(0, weights), cost=2 * cost),
        "auc": Statistic(of=lambda weights: mean(1, weights), cost=2 * cost),
        "d_prime": Statistic(of=d_prime, cost=2 * cost),
    }


class _Class:
    """One class: its known clips from the highest score to the lowest."""

    def __init__(self, score: np.ndarray, positive: np.ndarray, clips: np.ndarray) -> None:
        order = (-score).argsort(kind="stable")
        self.positive = positive[order]
        self._clips = clips[order]
        sorted_score = score[order]
        self._ends = np.append((np.diff(sorted_score) != 0).nonzero()[0], len(score) - 1)
        if not len(score):
            self._ends = self._ends[:0]

    def curve(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Average precision and area under the ROC curve, each (r)."""
        sorted_weights = weights[:, self._clips]
        right = np.cumsum(sorted_weights * self.positive, 1)[:, self._ends]
        taken = np.cumsum(sorted_weights, 1)[:, self._ends]
        step = np.diff(right, axis=1, prepend=0)
        positives, all_of_them = right[:, -1], taken[:, -1]
        precision = np.where(step > 0, right / np.maximum(taken, 1e-300), 0)
        average = divided((precision * step).sum(1), positives)
        wrong = taken - right
        negatives = all_of_them - positives
        # A positive clip is above the negative ones after its step, and above half of those in it.
        above = negatives[:, None] - wrong + np.diff(wrong, axis=1, prepend=0) / 2
        area = divided((above * step).sum(1), positives * negatives)
        return average, area


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
