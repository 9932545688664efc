"""G-Blend: weights of the heads' losses by how much each generalises and overfits.

Wang et al., "What makes training multi-modal classification networks hard?" (CVPR 2020), online,
without networks of their own for the estimate. Over `super_epoch` epochs, of each head (fused,
video, audio):

    G = validation loss before - now             O = (validation - training loss) now - before
    w ~ max(G, 0) / max(O, 0.01)^2, scaled so that the weights add up to what they did at first

A head whose validation loss has risen gets 0, where the ports take |G / O^2|; where all have, the
weights stay. Losses are means over clips. Training losses are those of the steps: of mixed clips,
whose mixed label has an entropy that no network can go below; it is the same before and after.
Validation clips are those of a `val` split or held out by source (data.holdout), never a test
split, from which ports learn (BalanceBenchmark's G-Blend and LFM).
"""

from collections.abc import Sequence
from dataclasses import dataclass

LEAST_GROWTH = 0.01
"""Of the overfitting, in nats: below it, it is not measurable, and would make any weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Mean losses of the fused, video and audio head after an epoch, in nats."""

    train: tuple[float, float, float]
    val: tuple[float, float, float]


def blend_weights(
    before: Measured, now: Measured, weights: Sequence[float]
) -> tuple[float, float, float]:
    """New weights of the losses of the fused, video and audio head in place of `weights`."""
    found = []
    for train, val, old_train, old_val in zip(
        now.train, now.val, before.train, before.val, strict=True
    ):
        gain = max(old_val - val, 0.0)
        growth = max((val - train) - (old_val - old_train), LEAST_GROWTH)
        found.append(gain / growth**2)
    total, wanted = sum(found), sum(weights)
    fused, video, audio = weights if total == 0 else [wanted * one / total for one in found]
    return fused, video, audio
