"""A lambda for each modality by what it has learned: the one that is ahead is mixed more.

With scores s of how much of the labels each modality head knows, modality m has the exponent

    c_m = (s_other / s_m) ** power        within [1 / 4, 4]

and each weight w of a mix, of lambda and of 1 - lambda, becomes w ** c_m, divided by the sum:

    lam_m = lam ** c_m / (lam ** c_m + (1 - lam) ** c_m)

Ahead, c_m < 1: the weights of a mix come nearer to each other. Behind, they move apart, and the
clips are nearer to unmixed ones. Equal scores leave lambda as it is. Own and partner are treated
alike: 1 - lambda gives 1 - lam_m.
"""

import math
from collections.abc import Mapping

import numpy as np

LIMIT = 4.0
"""Largest exponent; its inverse is the least."""


def exponents(scores: Mapping[str, float], power: float) -> dict[str, float]:
    """c of each of two modalities; 1 where one has no score (nan or 0): nothing is ahead."""
    (first, a), (second, b) = scores.items()
    if not (math.isfinite(a) and math.isfinite(b) and a > 0 and b > 0):
        return {first: 1.0, second: 1.0}
    return {name: min(LIMIT, max(1 / LIMIT, (other / own) ** power))
            for name, own, other in ((first, a, b), (second, b, a))}  # fmt: skip


def raised(weights: np.ndarray, exponent: float) -> np.ndarray:
    """Weights (... k), which add up to 1, to the power of `exponent`, divided by their sum; with
    exponent 1 themselves, to the bit."""
    if exponent == 1:
        return weights
    # Of the largest of k weights no power is below (1 / k) ** LIMIT: the sum is never 0.
    powers = weights**exponent
    return powers / powers.sum(-1, keepdims=True)
