"""Which clips of a batch are alike, by their kept features: for pairing `nearest`."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float


def nearest_first(
    features: Sequence[tuple[Float[np.ndarray, "b _"], Bool[np.ndarray, " b"]]],
) -> tuple[tuple[int, ...], ...]:
    """The other clips of each clip of a batch, the most alike first; equally alike ones in their
    order. `features`: of each modality, and which clips have it.

    Alike is the cosine of features minus their mean over the clips that have them, the mean over
    the modalities that both clips have; clips that share no modality come last.
    """
    size = len(features[0][1])
    total, number = np.zeros((size, size)), np.zeros((size, size))
    for values, has in features:
        x = np.where(has[:, None], values.astype(np.float64), 0.0)
        x = np.where(has[:, None], x - x.sum(0) / max(int(has.sum()), 1), 0.0)
        x /= np.linalg.norm(x, axis=1, keepdims=True).clip(min=1e-12)
        total += x @ x.T
        number += np.outer(has, has)
    # Rounded: what is equally alike stays so, whatever the last digits of sums are here.
    alike = np.where(number > 0, (total / number.clip(min=1)).round(6), -np.inf)
    order = np.argsort(-alike, axis=1, kind="stable").tolist()
    return tuple(tuple(j for j in row if j != i) for i, row in enumerate(order))
