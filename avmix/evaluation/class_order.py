"""An order of the classes in which those that are taken for each other stand together."""

import numpy as np
from jaxtyping import Int64

MOST_CLASSES = 1000
"""Beyond it classes are not ordered: the time rises with the third power of their number."""


def clustered_order(confusion: Int64[np.ndarray, "k k"]) -> Int64[np.ndarray, " k"]:
    """The classes, ordered by average linkage (Sokal and Michener, 1958).

    Classes are as similar as the sum of the shares of clips of the one that are taken for the
    other. The two most similar clusters are joined, the earlier one first, until none is taken for
    another; those that are left follow in the order of their first class. Ties go to the earlier
    class. Above `MOST_CLASSES` classes the order is that of their numbers.
    """
    k = len(confusion)
    if k > MOST_CLASSES:
        return np.arange(k)
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    likeness = share + share.T
    np.fill_diagonal(likeness, 0)
    clusters: dict[int, list[int]] = {i: [i] for i in range(k)}
    while len(clusters) > 1:
        one, other = np.unravel_index(likeness.argmax(), likeness.shape)
        if likeness[one, other] <= 0:
            break
        first, second = sorted((int(one), int(other)))
        sizes = len(clusters[first]), len(clusters[second])
        mean = (sizes[0] * likeness[first] + sizes[1] * likeness[second]) / sum(sizes)
        mean[first] = mean[second] = 0
        likeness[first] = likeness[:, first] = mean
        likeness[second] = likeness[:, second] = 0
        clusters[first] += clusters.pop(second)
    return np.array([i for cluster in clusters.values() for i in cluster], dtype=np.int64)
