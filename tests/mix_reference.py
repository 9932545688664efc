"""What mixing means, in float64 numpy loops: every implementation is held against this."""

from collections.abc import Sequence

import numpy as np


def mix(
    x: np.ndarray,
    partner: Sequence[int],
    weight: Sequence[float],
    box: Sequence[Sequence[int]] | None = None,
) -> np.ndarray:
    """`weight` of the own values inside the box, the own values outside; rows of `x` are clips.

    The axes of a box are the last ones of `x`, a (start, stop) for each.
    """
    x = x.astype(np.float64)
    mixed = []
    for i, (j, w) in enumerate(zip(partner, weight, strict=True)):
        inside = np.zeros(x.shape[1:], dtype=bool)
        if box is None:
            inside[...] = True
        else:
            ranges = [slice(a, b) for a, b in zip(box[i][0::2], box[i][1::2], strict=True)]
            inside[(..., *ranges)] = True
        mixed.append(np.where(inside, _pair(x[i], x[j], float(w)), x[i]))
    return np.stack(mixed)


def _pair(own: np.ndarray, other: np.ndarray, w: float) -> np.ndarray:
    if w in (0.0, 1.0):
        return own if w == 1.0 else other
    return w * own + (1 - w) * other


def normalised(video: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """uint8 (b t h w c) to (b c t h w): (pixel / 255 - mean) / std."""
    frames = video.astype(np.float64).transpose(0, 4, 1, 2, 3) / 255
    shape = (1, -1, 1, 1, 1)
    return (frames - np.reshape(mean, shape)) / np.reshape(std, shape)
