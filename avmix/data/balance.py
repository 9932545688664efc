"""Class-balanced sampling: how often each clip comes in an epoch, and the order of the epoch."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from avmix.config import Balance
from avmix.rng import rng
from avmix.types import Entry


def mean_visits(entries: Sequence[Entry], balance: Balance) -> Float64[np.ndarray, " n"]:
    """How often each of n clips comes in an epoch of n on average.

    In proportion to the sum over its labels of p_c / n_c, where n_c clips have the class c: p_c is
    1 (`class`: all classes come equally often where clips have one label; the sampler of PSLA, Gong
    et al. 2021, for several), or sqrt(n_c) (`sqrt`, Mahajan et al., ECCV 2018). A clip that no
    label is known of comes as often as the one that comes least.
    """
    if balance == "none":
        return np.ones(len(entries))
    counts = Counter(name for entry in entries for name in entry.labels)
    power = {"class": 1.0, "sqrt": 0.5}[balance]
    weight = np.array([sum(counts[name] ** -power for name in e.labels) for e in entries])
    weight[weight == 0] = weight[weight > 0].min(initial=1.0)
    return weight * (len(entries) / weight.sum())


def balanced_order(
    seed: int, epoch: int, visits: Float64[np.ndarray, " n"]
) -> Int64[np.ndarray, " n"]:
    """Rows of an epoch, n in all: each as often as its mean says, rounded down or up (systematic
    sampling), in random order."""
    stream = rng(seed, epoch, "order")
    rows = stream.permutation(len(visits))
    points = stream.random() + np.arange(len(visits))
    chosen = np.searchsorted(np.cumsum(visits[rows]), points, side="right")
    return stream.permutation(rows[np.minimum(chosen, len(visits) - 1)])


def earlier_visits(order: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Of each place of an order how often its row has come before."""
    seen: Counter[int] = Counter()
    found = np.zeros(len(order), np.int64)
    for place, row in enumerate(order.tolist()):
        found[place] = seen[row]
        seen[row] += 1
    return found
